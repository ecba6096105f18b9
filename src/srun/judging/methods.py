"""How methods are named, ordered and drawn: the one place, for tables, figures and the page."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["original", "reference", "method", "control", "raw"]


@dataclass(frozen=True)
class Style:
    """A method as readers see it; ``colour`` and ``marker`` tell it apart in print and for colour-blind eyes."""

    name: str
    role: Role
    colour: str
    marker: str
    about: str
    """What it is, in a clause."""


RAW = "items outside the catalogue it was trained on keep their untrained scores"

# colours: Okabe and Ito's palette, which stays distinct under the common forms of colour blindness
METHODS: dict[str, Style] = {
    "original": Style("Original", "original", "#333333", "s", "trained on everything, nothing removed"),
    "retrain": Style("Retrain", "reference", "#0072B2", "o", "trained from scratch without the forgotten events"),
    "sisa": Style("SISA", "method", "#56B4E9", "D", "shards retrained without the forgotten events"),
    "sruga": Style("SRUGA", "method", "#D55E00", "^", "gradient ascent, KL to Original and fine-tuning"),
    "attribution": Style("Attribution", "method", "#CC79A7", "v", "neurons of a category found and zeroed"),
    "attribution_plus": Style(
        "Attribution plus",
        "method",
        "#882255",
        "<",
        "neurons, items and directions of a category erased, then a short repair",
    ),
    "output_mask": Style(
        "Output mask",
        "control",
        "#8A8A8A",
        "X",
        "hides the forgotten items from the lists and changes no weight: a Hit of 0, nothing unlearned",
    ),
    "finetune_only": Style(
        "Fine-tune only",
        "control",
        "#009E73",
        "P",
        "training goes on without the forgotten events, and nothing is done against them",
    ),
    "random_neurons": Style("Random neurons", "control", "#E69F00", "p", "as many neurons zeroed, drawn at random"),
    "largest_neurons": Style("Largest neurons", "control", "#B8A000", "d", "as many neurons zeroed, the most active"),
    "untrained_raw": Style("Retrain, raw scores", "raw", "#7FA8C9", "*", RAW),
}
"""Known methods in the order of every table; what is not here comes after them."""

SPARE_COLOURS = ("#6699CC", "#44AA99", "#999933", "#AA4499")
MODELS = {"sasrec": "SASRec", "bert4rec": "BERT4Rec", "gru4rec": "GRU4Rec", "caser": "Caser"}


def style(method: str) -> Style:
    """The style of a method; one that is not in METHODS is shown under its own name."""
    if method in METHODS:
        return METHODS[method]
    colour = SPARE_COLOURS[sum(method.encode()) % len(SPARE_COLOURS)]  # the same at every run, unlike hash()
    if method.endswith("_untrained_raw"):
        return Style(f"{style(method.removesuffix('_untrained_raw')).name}, raw scores", "raw", colour, "*", RAW)
    return Style(method.replace("_", " "), "method", colour, "h", "")


def method_order(method: str) -> tuple[int, str]:
    """Sort key of a method."""
    names = list(METHODS)
    return (names.index(method) if method in names else len(names), method)


def model_name(model: str) -> str:
    """A recommender's name as its paper writes it."""
    return MODELS.get(model, model)
