"""What the stages are run for: Originals to train, and rows of the comparison."""

from typing import Annotated

from pydantic import Field

from srun.config import config
from srun.training.shards import Sharding


@config
class OriginalCell:
    """A model to train on everything, before a request is known."""

    model: str
    seed: int
    """Training seed."""
    shards: Annotated[int, Field(ge=1)] | Sharding
    """1: one model for all users. More: a model for each shard of users, which SISA needs; a mapping where the shards
    are not at random or have slices."""


@config
class Cell:
    """One row of the comparison: a request carried out by a method on an Original."""

    request: str
    """Entry of ``partition``."""
    original: str
    """Entry of ``originals`` that it starts from."""
    method: str
    """Block of ``unlearn``."""
    seed: int
    """Training seed of what it trains from scratch; for other methods that of Original."""
