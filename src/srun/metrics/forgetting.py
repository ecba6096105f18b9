"""Forget quality: are forgotten events ranked as under Retrain? From ranks alone.

Shapes: Q events, n Retrains, U users, B distinct ranks. Ranks may be tied and fractional.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    if len(retrains) < 2 or not len(ranks):
        return math.nan
    below = events_below(np.vstack([ranks, retrains]))
    return float(ks_to_pools(below[:1], below[1:]).mean())


def ks_of_retrains(retrains: NDArray[np.float64]) -> list[float]:
    """D(R_i, the others pooled) of each of ``retrains`` (n, Q); NaN for n < 2, and without events."""
    if len(retrains) < 2 or not retrains.shape[1]:
        return [math.nan] * len(retrains)
    below = events_below(retrains)
    return [float(distance) for distance in np.diagonal(ks_to_pools(below, below))]


def events_below(ranks: NDArray[np.float64]) -> NDArray[np.int64]:
    """(M, B) how many events of each model's ranks (M, Q) stand at or below each of the B distinct ranks of all."""
    values, place = np.unique(ranks, return_inverse=True)
    return events_below_places(place.reshape(ranks.shape), len(values))


def events_below_places(place: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The same of places (M, Q) among ``size`` distinct ranks."""
    shift = np.arange(len(place))[:, None] * size
    counts = np.bincount((place + shift).ravel(), minlength=len(place) * size)
    return counts.reshape(len(place), size).cumsum(1)


def ks_to_pools(below: NDArray[Any], retrains: NDArray[Any]) -> NDArray[np.float64]:
    """(M, n) KS distance of each model to all Retrains but one, pooled, from ``events_below`` of one set of ranks.

    ``below`` (M, B) of the models, ``retrains`` (n, B), n >= 2, all of as many events, which may be weighted.
    """
    total, share = retrains.sum(0), below / below[:, -1:]
    pools = ((total - own) / (total[-1] - own[-1]) for own in retrains)
    return np.stack([np.abs(share - pool).max(1) for pool in pools], axis=1)


def prediction_bound(values: Sequence[float], alpha: float = 0.025) -> float:
    """How far above the mean one more value lies with chance ``alpha``: t(1 - alpha, n-1) * s * sqrt(1 + 1/n).

    As it stands, the half-width of the 95 % interval. NaN for n < 2.
    """
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return math.nan
    _, spread = mean_and_spread(values)
    return float(stdtrit(n - 1, 1 - alpha)) * spread * math.sqrt(1 + 1 / n)


def one_sided_limit(values: Sequence[float], alpha: float) -> float:
    """What one more value exceeds with chance ``alpha``: mean + t(1 - alpha, n-1) s sqrt(1 + 1/n); NaN for n < 2."""
    return mean_and_spread(values)[0] + prediction_bound(values, alpha)


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
        if not self.outside(value):
            return "within"
        return "below" if value < self.mean else "above"

    def outside(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Which figures lie on neither edge and not between them."""
        return np.asarray(np.abs(np.asarray(values) - self.mean) > self.bound)


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
class RankLimits:
    """How far hits and ranks of one more Retrain go: each of these tests fails it by chance with one ``alpha``."""

    hits: Interval
    """Of Hit@10, with ``alpha`` on either side."""
    ks_d: float

    @classmethod
    def of(cls, hits: Sequence[float], distances: Sequence[float], alpha: float) -> "RankLimits":
        """From each Retrain's Hit@10 and its distance from the others (``ks_of_retrains``); NaN for n < 2."""
        interval = Interval(mean_and_spread(hits)[0], prediction_bound(hits, alpha))
        return cls(interval, one_sided_limit(distances, alpha))


@dataclass(frozen=True)
class ForgetQuality:
    """How a model's ranks of forgotten events stand to the Retrains'; NaN where too few Retrains allow no figure.

    Two rules look at these figures. The *pooled rule* has bounds of its own: ``passes``. A verdict joins more tests,
    and its hits and ranks have limits at the error rate that all of them share: ``place`` and ``near``.
    """

    ks_d: float
    ks_d_retrain_max: float
    """Of the pooled rule: the largest distance of a Retrain from the others."""
    ks_p: float
    hit_10_gap: float
    """Its Hit@10 less the Retrains' mean."""
    hit_10_gap_bound: float
    """Of the pooled rule: 95 %."""
    num_retrains: int
    hit_10_gap_limit: float
    """Of the verdict, to either side."""
    ks_d_limit: float
    """Of the verdict."""

    @property
    def near(self) -> bool:
        """Whether the distance is within the verdict's limit."""
        return self.ks_d <= self.ks_d_limit

    @property
    def place(self) -> Place | None:
        """Where its Hit@10 lies by the verdict's limits; None for n < 3."""
        if self.num_retrains < MIN_RETRAINS:
            return None
        return Interval(0.0, self.hit_10_gap_limit).place(self.hit_10_gap)

    @property
    def passes(self) -> bool | None:
        """Whether it meets the pooled rule, which a true Retrain may fail. None for n < 3."""
        if self.num_retrains < MIN_RETRAINS:
            return None
        within = Interval(0.0, self.hit_10_gap_bound).place(self.hit_10_gap) == "within"
        return within and self.ks_d <= self.ks_d_retrain_max


def judge(
    ranks: Ranks,
    retrains: NDArray[np.float64],
    users: NDArray[np.integer],
    rng: np.random.Generator,
    alpha: float,
) -> ForgetQuality:
    """Judge the ranks (Q,) of one run by those of ``retrains`` (n, Q), n >= 1, of the same events of ``users`` (Q,).

    A Retrain is judged by the others, in the same way. ``alpha``: the chance of each test of a verdict that it fails a
    further Retrain.
    """
    hits, distances = [hit(row, 10) for row in retrains], ks_of_retrains(retrains)
    limits = RankLimits.of(hits, distances, alpha)
    return ForgetQuality(
        ks_d=ks_to_retrains(ranks, retrains),
        ks_d_retrain_max=max(distances),
        ks_p=permutation_p(ranks, retrains, users, rng),
        hit_10_gap=hit(ranks, 10) - limits.hits.mean,
        hit_10_gap_bound=prediction_bound(hits),
        num_retrains=len(retrains),
        hit_10_gap_limit=limits.hits.bound,
        ks_d_limit=limits.ks_d,
    )
