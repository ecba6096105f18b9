"""Forget requests: what a user may ask for, as blocks of ``partition`` in params.yaml.

A request is *drawn*, for benchmarks, or *given*: rows of a file that somebody wants forgotten. The two are different
blocks, so a drawn request never stands in for a given one.
"""

import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Discriminator, Field, Tag, model_validator

from srun.config import config


class InputFile:
    """Marks a parameter that names a file: its content is part of what an output is made of."""


FilePath = Annotated[str, InputFile()]
Extreme = Literal["most", "least"]
Catalogue = Literal["full", "retained"]
"""Whether items without a retained event stay in softmax and negatives of training on the retain set."""


@config
class DrawnInteractions:
    """Single events, drawn as in [T] 3.2.2."""

    kind: Literal["interactions"]
    share_of_users: Annotated[float, Field(gt=0, le=1)]
    """Share of the users with at least 3 training items that forget something."""
    max_share_of_items: Annotated[float, Field(gt=0, le=1)]
    """Each of them forgets 1 to this share of the training items, never the first two."""
    catalogue: Catalogue
    seed: int


@config
class ExpectedInteractions:
    """Single events, drawn by how much memory is to be expected of them: for benchmarks, as random ones of small data
    sets are hardly remembered."""

    kind: Literal["interactions"]
    expected: Extreme
    """Whether the events with most expected memory are drawn (a core draw), or those with least (an edge draw)."""
    original: str
    """The entry of ``originals`` in which memory is looked at; no row on the request starts from it."""
    share_of_events: Annotated[float, Field(gt=0, le=1)]
    """Share of the training events."""
    max_share_of_items: Annotated[float, Field(gt=0, le=1)]
    """No user forgets more than this share of the training items, nor the first two."""
    catalogue: Catalogue
    seed: int

    @property
    def rule(self) -> dict[str, Any]:
        """What says, beside data and Original, which events are drawn."""
        return {key: value for key, value in vars(self).items() if key not in ("kind", "original", "catalogue")}


@config
class DrawnUsers:
    """All events of users, drawn."""

    kind: Literal["users"]
    share_of_users: Annotated[float, Field(gt=0, le=1)]
    catalogue: Catalogue
    seed: int


@config
class GivenRequest:
    """Single events, or all events of users, named in a file of any form that ``srun data import`` reads."""

    kind: Literal["interactions", "users"]
    file: FilePath
    """A row for each thing to forget: user, item and, if known, time; of kind ``users`` the user alone counts."""
    format: str | None
    """As ``srun data import --format``; null guesses."""
    columns: dict[str, str] | None
    """As ``srun data import --columns``; null takes the columns of the imported log, then the known names."""
    catalogue: Catalogue
    seed: int
    """Splits its users into tune and report halves, and draws the never-seen events beside it."""

    @model_validator(mode="before")
    @classmethod
    def _nothing_to_draw(cls, values: Any) -> Any:
        block = getattr(values, "kwargs", None) or values
        for key in ("share_of_users", "share_of_events", "max_share_of_items", "expected"):
            if isinstance(block, dict) and key in block:
                raise ValueError(f'"{key}" means nothing beside "file": a request of your own is not drawn; remove it')
        return values


@config
class CategoryRequest:
    """Every event whose item has one of the categories, of all users or of the named ones ([A])."""

    kind: Literal["category"]
    categories: tuple[str, ...]
    users: FilePath | None
    """A file with the column user, of any form that ``srun data import`` reads; null means everybody. Ids stand in no
    parameter, for parameters travel: into DVC's lock, the tracker, reports."""
    context: Literal["retained", "all"]
    """History of a forgotten event: without the category, or with it ([A])."""
    catalogue: Catalogue
    seed: int


def kind(block: Any) -> str | None:
    """Which class a block is of; None where it does not say its kind."""
    values = block if isinstance(block, dict) else getattr(block, "__dict__", {})
    named = values.get("kind")
    if named in ("interactions", "users") and values.get("file") is not None:
        return "given"
    drawn_by_memory = named == "interactions" and not {"expected", "original"}.isdisjoint(values)
    return "interactions, expected" if drawn_by_memory else named


Request = Annotated[
    Annotated[DrawnInteractions, Tag("interactions")]
    | Annotated[ExpectedInteractions, Tag("interactions, expected")]
    | Annotated[DrawnUsers, Tag("users")]
    | Annotated[CategoryRequest, Tag("category")]
    | Annotated[GivenRequest, Tag("given")],
    Discriminator(kind),
]
"""What must go."""


def input_files(block: Any) -> dict[str, Path]:
    """Every file that a block of parameters names (see ``InputFile``), by the key that names it."""
    files = {}
    for name, hint in get_type_hints(type(block), include_extras=True).items():
        value = getattr(block, name)
        if value is not None and _is_file(hint):
            files[name] = Path(value)
    return files


def _is_file(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return any(isinstance(mark, InputFile) for mark in get_args(hint)[1:])
    return get_origin(hint) in (Union, types.UnionType) and any(map(_is_file, get_args(hint)))
