"""Bootstrap intervals of means over events. Users are drawn, not events, and each brings all of theirs.

Shapes: Q events, U users, R resamples.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Bounded:
    """A figure and the ends of its 95 % interval over users; NaN where it has none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def mean(cls, values: NDArray[np.float64], users: NDArray[np.integer], rng: np.random.Generator) -> "Bounded":
        """The mean of ``values`` (Q,) of the users (Q,); NaN without any."""
        return cls(float(np.mean(values)), *user_interval(values, users, rng)) if len(values) else cls(math.nan)


def user_interval(
    values: NDArray[np.float64],
    users: NDArray[np.integer],
    rng: np.random.Generator,
    number: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Percentile interval of the mean of ``values`` (Q,) when the users (Q,) are drawn again with all their events.

    Users with the same sum and number of events are alike in it, so only how many of each kind are drawn is drawn:
    the same distribution, at a cost that does not grow with the number of users. NaN for fewer than two users.
    """
    known, owner = np.unique(users, return_inverse=True)
    if len(known) < 2:
        return math.nan, math.nan
    totals = np.stack([np.bincount(owner, values), np.bincount(owner)], axis=1)  # (U, 2)
    kinds, size = np.unique(totals, axis=0, return_counts=True)
    drawn = rng.multinomial(len(known), size / size.sum(), number) @ kinds  # (R, 2)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
