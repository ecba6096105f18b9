"""How methods and models are shown: title, role, colour and order, as their classes have them.

A method that is not registered, as in an old report, gets a style too.
"""

from dataclasses import dataclass
from typing import Literal

from srun.models import MODELS
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Role

ShownRole = Role | Literal["raw"]
RAW = "untrained_raw"
"""The row of a Retrain's raw scores; that of another method is called METHOD_untrained_raw."""
RAW_ABOUT = "items outside the catalogue it was trained on keep their untrained scores"
RAW_COLOUR = "#7FA8C9"  # Retrain's, paler
SPARE_COLOURS = ("#6699CC", "#44AA99", "#999933", "#AA4499")


@dataclass(frozen=True)
class Style:
    """A method as readers see it; ``colour`` and ``marker`` tell it apart in print and for colour-blind eyes."""

    name: str
    role: ShownRole
    colour: str
    marker: str
    about: str
    """What it does, in a clause; empty where that is not known."""


def _of_role(role: Role) -> str:
    [name] = [name for name in UNLEARNERS if UNLEARNERS[name].role == role]
    return name


ORIGINAL, REFERENCE = _of_role("original"), _of_role("reference")
"""The names of the only methods of these roles."""
MASKS = tuple(name for name in UNLEARNERS if UNLEARNERS[name].masks_only)
"""The names of the controls that hide items and change no weight."""


def style(method: str) -> Style:
    """The style of a method; one that is not registered, as in an old report, is shown under its own name."""
    if method in UNLEARNERS:
        shown = UNLEARNERS[method]
        return Style(shown.title, shown.role, shown.colour, shown.marker, shown.about)
    if method == RAW:
        return Style(_raw_title(REFERENCE), "raw", RAW_COLOUR, "*", RAW_ABOUT)
    colour = SPARE_COLOURS[sum(method.encode()) % len(SPARE_COLOURS)]  # the same at every run, unlike hash()
    if method.endswith(f"_{RAW}"):
        return Style(_raw_title(method.removesuffix(f"_{RAW}")), "raw", colour, "*", RAW_ABOUT)
    return Style(method.replace("_", " "), "method", colour, "h", "")


def method_order(method: str) -> tuple[int, str]:
    """Sort key of a method: the order of the list, then Retrain's raw scores, then what is not registered."""
    names = [*UNLEARNERS, RAW]
    return (names.index(method) if method in names else len(names), method)


def model_name(model: str) -> str:
    """A recommender's name as its paper writes it; one that is not registered keeps its own."""
    return MODELS[model].title if model in MODELS else model


def _raw_title(method: str) -> str:
    return f"{style(method).name}, raw scores"
