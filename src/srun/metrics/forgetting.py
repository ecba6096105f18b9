"""Forget quality: are forgotten events ranked as under Retrain? From ranks alone.

Shapes: Q events, n Retrains, U users, B distinct ranks. Ranks may be tied and fractional.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srun.metrics.ranking import Ranks, hit, mean_and_spread

MIN_RETRAINS = 3
"""With fewer nothing is judged: their spread is not known."""
NUM_PERMUTATIONS = 999

Place = Literal["below", "within", "above"]


def ks_distance(x: Ranks, y: Ranks) -> float:
    """Two-sample Kolmogorov-Smirnov distance sup |F_x - F_y|, in [0, 1]; ties step together. NaN if one is empty.

    Equal to ``scipy.stats.ks_2samp(x, y).statistic``.
    """
    if not len(x) or not len(y):
        return math.nan
    values = np.concatenate([x, y])
    at = (np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (x, y))
    return float(np.abs(np.subtract(*at)).max())


def superiority(x: Ranks, y: Ranks) -> float:
    """P(a rank of ``x`` is better, i.e. lower, than one of ``y``) + half of P(they tie): 1/2 where neither is better.

    The Mann-Whitney U statistic over its maximum. NaN if one is empty.
    """
    if not len(x) or not len(y):
        return math.nan
    ordered = np.sort(x)
    below = np.searchsorted(ordered, y, side="left") + np.searchsorted(ordered, y, side="right")
    return float(below.mean() / (2 * len(x)))


def ks_to_retrains(ranks: Ranks, retrains: NDArray[np.float64]) -> float:
    """``ks_d``: mean over i of D(ranks, all Retrains but the i-th pooled), of ``retrains`` (n, Q). NaN for n < 2."""
    if len(retrains) < 2:
        return math.nan
    return float(np.mean([ks_distance(ranks, _others(retrains, i)) for i in range(len(retrains))]))


def ks_among_retrains(retrains: NDArray[np.float64]) -> float:
    """``ks_d_retrain_max``: max over i of D(R_i, the others pooled), of ``retrains`` (n, Q). NaN for n < 2."""
    if len(retrains) < 2:
        return math.nan
    return max(ks_distance(row, _others(retrains, i)) for i, row in enumerate(retrains))


def prediction_bound(values: Sequence[float]) -> float:
    """Half-width of the 95 % interval of one further value: t(.975, n-1) * s * sqrt(1 + 1/n); NaN for n < 2."""
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return math.nan
    _, spread = mean_and_spread(values)
    return float(t.ppf(0.975, n - 1)) * spread * math.sqrt(1 + 1 / n)


def one_sided_limit(values: Sequence[float], alpha: float) -> float:
    """What one more value exceeds with chance ``alpha``: mean + t(1 - alpha, n-1) s sqrt(1 + 1/n); NaN for n < 2."""
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return math.nan
    mean, spread = mean_and_spread(values)
    return mean + float(t.ppf(1 - alpha, n - 1)) * spread * math.sqrt(1 + 1 / n)


def ks_of_shift(ranks: Ranks, num_items: int, shift: float) -> float:
    """KS distance between ranks (Q,) in a catalogue of V items and the same with every z_rank moved by ``shift``.

    A rank stands for the stretch from half a rank above it to half a rank below, so that a small shift makes a small
    distance: as points, all events in first place would move at once. The same for a shift up and down. NaN if empty.
    """
    if not len(ranks):
        return math.nan
    place = np.round(2 * np.asarray(ranks, dtype=np.float64) - 2).astype(np.int64)  # in half ranks: ties count half
    size = 2 * num_items
    density = np.bincount(place, minlength=size)[:size] + np.bincount(place + 1, minlength=size)[:size]
    below = np.concatenate([[0.0], density.cumsum() / (2 * len(ranks))])  # (2V + 1,) at each share of the catalogue
    share = np.arange(size + 1) / size
    moved = (share / (share + (1 - share) * math.exp(by)) for by in (shift, -shift))
    return max(float(np.abs(np.interp(to, share, below) - below).max()) for to in moved)


@dataclass(frozen=True)
class LevelError:
    """How well the level that a method aims at is known."""

    standard_error: float
    """In z_rank."""
    ks_d: float
    """The distance that a shift of the Retrains' ranks by it makes (``ks_of_shift``)."""


@dataclass(frozen=True)
class Interval:
    """Retrain's interval: where one more Retrain would be expected (95 %), from the figures of at least three."""

    mean: float
    bound: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval | None":
        """Of the Retrains' figures; None for fewer than ``MIN_RETRAINS``."""
        if len(values) < MIN_RETRAINS:
            return None
        return cls(mean_and_spread(values)[0], prediction_bound(values))

    @property
    def low(self) -> float:
        return self.mean - self.bound

    @property
    def high(self) -> float:
        return self.mean + self.bound

    def place(self, value: float) -> Place:
        """Where a figure lies; ``below`` is over-unlearning, and nothing else is. The edges are within."""
        gap = value - self.mean
        if gap < -self.bound:
            return "below"
        return "above" if gap > self.bound else "within"


def permutation_p(
    ranks: Ranks,
    retrains: NDArray[np.float64],
    users: NDArray[np.integer],
    rng: np.random.Generator,
    number: int = NUM_PERMUTATIONS,
) -> float:
    """``ks_p``: chance of a ``ks_d`` as large, were the method one of the Retrains; (1 + hits) / (1 + number).

    In each permutation one of the n+1 models, drawn for every user (Q,), plays the method with that user's events,
    and the method plays it. Not what decides: effects of a seed common to all users are not in it. NaN for n < 2.
    """
    if len(retrains) < 2:
        return math.nan
    models = np.vstack([ranks, retrains])  # (n+1, Q), the method first
    _, place = np.unique(models, return_inverse=True)
    place = place.reshape(models.shape)
    num_values, n = int(place.max()) + 1, len(retrains)
    total = np.bincount(place.ravel(), minlength=num_values).cumsum()  # (B,)
    _, owner = np.unique(users, return_inverse=True)
    columns, shift = np.arange(len(ranks)), np.arange(n + 1)[:, None] * num_values

    def distance(actor: NDArray[np.int64]) -> float:
        """``ks_d`` where model ``actor`` (Q,) plays the method."""
        roles = place.copy()
        roles[0], roles[actor, columns] = place[actor, columns], place[0]
        below = np.bincount((roles + shift).ravel(), minlength=(n + 1) * num_values)
        below = below.reshape(n + 1, num_values).cumsum(1)  # (n+1, B) events at or below each rank
        # F_method - F_pool, where the pool is everything but the method and Retrain i, times (n - 1) Q
        apart = np.abs(n * below[0] - total + below[1:])
        return float(apart.max(1).mean()) / ((n - 1) * len(ranks))

    observed = distance(np.zeros(len(ranks), dtype=np.int64))
    draws = rng.integers(0, n + 1, (number, int(owner.max()) + 1))
    as_large = sum(distance(draw[owner]) >= observed - 1e-12 for draw in draws)
    return (1 + as_large) / (1 + number)


@dataclass(frozen=True)
class ForgetQuality:
    """How a model's ranks of forgotten events stand to the Retrains'; NaN where too few Retrains allow no figure."""

    ks_d: float
    ks_d_retrain_max: float
    ks_p: float
    hit_10_gap: float
    """Its Hit@10 less the Retrains' mean."""
    hit_10_gap_bound: float
    num_retrains: int

    @property
    def near(self) -> bool:
        """Whether the distance is no larger than the Retrains have among themselves."""
        return self.ks_d <= self.ks_d_retrain_max

    @property
    def place(self) -> Place | None:
        """Where its Hit@10 lies to Retrain's interval; None for n < 3."""
        if self.num_retrains < MIN_RETRAINS:
            return None
        return Interval(0.0, self.hit_10_gap_bound).place(self.hit_10_gap)

    @property
    def passes(self) -> bool | None:
        """Whether it meets the pooled rule, which a true Retrain may fail. None for n < 3."""
        return None if self.place is None else self.near and self.place == "within"


def judge(
    ranks: Ranks, retrains: NDArray[np.float64], users: NDArray[np.integer], rng: np.random.Generator
) -> ForgetQuality:
    """Judge the ranks (Q,) of one run by those of ``retrains`` (n, Q), of the same events of ``users`` (Q,).

    A Retrain is judged by the others, in the same way.
    """
    hits = [hit(row, 10) for row in retrains]
    return ForgetQuality(
        ks_d=ks_to_retrains(ranks, retrains),
        ks_d_retrain_max=ks_among_retrains(retrains),
        ks_p=permutation_p(ranks, retrains, users, rng),
        hit_10_gap=hit(ranks, 10) - mean_and_spread(hits)[0] if hits else math.nan,
        hit_10_gap_bound=prediction_bound(hits),
        num_retrains=len(retrains),
    )


def _others(retrains: NDArray[np.float64], left_out: int) -> NDArray[np.float64]:
    return np.delete(retrains, left_out, axis=0).ravel()
