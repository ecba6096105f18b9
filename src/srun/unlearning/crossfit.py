"""What cross-fitted models know of events: one number for each, kept where nobody publishes it.

Models of Original's recipe, each trained without one fold of the users, before any request is known; an event is ranked
by the one that never saw its user. The models themselves are not kept. Shapes: E events, Q queries.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from srun.config import config
from srun.data.dataset import Mask
from srun.data.sequences import Queries


@config
class LevelsConfig:
    """What is prepared before any request, so that levels can be predicted by event."""

    folds: Annotated[int, Field(ge=0)]
    """Folds of users, each of which a model is trained without; 0: no such models. K cost K - 1 trainings together."""

    def __post_init__(self) -> None:
        if self.folds == 1:
            raise ValueError("folds 1 leaves no user to train on: set it to 2 or more, or to 0 for no table")


@dataclass(frozen=True)
class CrossFit:
    """One number an event: its z_rank under the model that was trained without its user.

    It is private, for it tells of every event that it was there. It holds nothing of Original, so that a chain of
    requests keeps using it; the rows of a request that was carried out go (``without``).
    """

    z: NDArray[np.float32]  # (E,) NaN where there is none

    def of(self, queries: Queries) -> NDArray[np.float64]:
        """(Q,) of the targets of queries; NaN where there is none."""
        return self.z[queries.event].astype(np.float64)

    def without(self, events: Mask) -> "CrossFit":
        """The same without the rows of some events (E,)."""
        return CrossFit(np.where(events, np.float32(np.nan), self.z).astype(np.float32))
