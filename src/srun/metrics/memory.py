"""What is left of the memory of single events: figures that pooled ranks cannot give, from per-event ranks alone.

Shapes: Q events, n Retrains, V items of the catalogue, X features of an event, K columns of a regression, W ways to
choose among the Retrains, B draws of users.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from srun.metrics.ranking import Ranks

Floats = NDArray[np.float64]
NUM_RESAMPLES = 200
LEVEL = 0.95
BESIDE = 4
"""Retrains whose mean a model is compared with: the mean of more is nearer to any model."""
MAX_WAYS = 128
"""Ways to choose among the Retrains that are looked at; of more, as many, spread evenly."""
LEAST, MOST = 0.10, 0.20
"""Memory that nobody is asked to go below, and above which a limit tells nothing (see ``memory_limit``)."""


def z_rank(ranks: Ranks, num_items: int) -> Floats:
    """(Q,) log((V - r + 1/2) / (r - 1/2)) of ranks r in a catalogue of V items: 0 in the middle, higher is better.

    A scale that is as wide for the first ranks as for the last ones. Ranks are from 1 to V, ties counted half; they are
    never to be had back from z, whose rounding splits ties.
    """
    ranks = np.asarray(ranks, dtype=np.float64)
    return np.log((num_items - ranks + 0.5) / (ranks - 0.5))


def event_corr(z: Floats, retrains: Floats) -> float:
    """Correlation of z_rank (Q,) with the mean of the Retrains' (n, Q), event by event; NaN where one does not vary."""
    mean = retrains.mean(0)
    if len(z) < 2 or z.std() == 0 or mean.std() == 0:
        return math.nan
    return float(np.corrcoef(z, mean)[0, 1])


def event_mae(z: Floats, retrains: Floats) -> float:
    """Mean absolute difference of z_rank (Q,) to the mean of the Retrains' (n, Q); NaN without events."""
    return float(np.abs(z - retrains.mean(0)).mean()) if len(z) else math.nan


@dataclass(frozen=True)
class Fidelity:
    """How near single events rank to where Retrains rank them, beside how near these rank them to each other."""

    event_corr: float
    event_corr_share: float
    """Over that of a Retrain."""
    event_mae: float
    event_mae_ratio: float
    """Over that of a Retrain."""


def fidelity(z: Floats, retrains: Floats) -> Fidelity:
    """Of z_rank (Q,) to the mean of ``BESIDE`` of the ``retrains`` (n, Q), n >= 2, over the ways to choose them.

    With no more than that there are, one fewer than there are: so each Retrain is measured by as many others.
    """
    number = min(BESIDE, len(retrains) - 1)
    own = _nearness(z, retrains, number)
    left_out = [_nearness(one, np.delete(retrains, i, axis=0), number) for i, one in enumerate(retrains)]
    corr, mae = (float(np.mean(values)) for values in zip(*left_out, strict=True))
    return Fidelity(own[0], _ratio(own[0], corr), own[1], _ratio(own[1], mae))


def _nearness(z: Floats, retrains: Floats, number: int) -> tuple[float, float]:
    """Mean ``event_corr`` and ``event_mae`` over the ways to choose ``number`` of the Retrains."""
    chosen = [retrains[list(way)] for way in ways(len(retrains), number)]
    return tuple(float(np.mean([measure(z, part) for part in chosen])) for measure in (event_corr, event_mae))  # type: ignore[return-value]  # two measures, two means


def ways(number: int, size: int) -> list[tuple[int, ...]]:
    """Ways to choose ``size`` of ``number`` things: all, or ``MAX_WAYS`` that are drawn, always the same ones."""
    if math.comb(number, size) <= MAX_WAYS:
        return list(combinations(range(number), size))
    rng = np.random.default_rng(0)
    return [tuple(sorted(rng.permutation(number)[:size].tolist())) for _ in range(MAX_WAYS)]


@dataclass(frozen=True)
class MemoryLeft:
    """How much of what Original remembered of the events is left: 0 for a Retrain, 1 for Original."""

    value: float
    low: float
    high: float
    """Bounds of the 95 % interval when users are drawn again with all their events."""


@dataclass(frozen=True)
class MemoryQuality:
    """The interval of what is left of the memory, and how much may be left (``memory_limit``)."""

    low: float
    high: float
    limit: float


def memory_left(
    model: Floats,
    own_original: Floats,
    other_original: Floats,
    retrains: Floats,
    features: Floats,
    users: NDArray[np.int64],
    rng: np.random.Generator,
    number: int = NUM_RESAMPLES,
) -> MemoryLeft:
    """Coefficient of another Original's z_rank in the model's, over the same coefficient of the model's own Original.

    All z_rank (Q,), of n >= 2 ``retrains`` (n, Q). The regression is z(M) ~ 1 + zA + z(O2) + X + X^2, by two-stage
    least squares with zB as the instrument for zA: means of two halves of the Retrains, which carry the noise of a few
    trainings each. ``features`` (Q, X) must come from retained data, never from a model. The other Original has another
    seed than the model's own: what both remember is the events, not the noise of a seed. Both directions of every way
    to halve the Retrains are averaged. NaN where the own Original remembers nothing.
    """
    gauge = MemoryGauge.of(own_original, other_original, retrains, features, user_draws(users, rng, number))
    value, low, high = gauge.interval(model[None])
    return MemoryLeft(float(value[0]), float(low[0]), float(high[0]))


def user_draws(users: NDArray[np.int64], rng: np.random.Generator, number: int = NUM_RESAMPLES) -> Floats:
    """(1 + number, Q) how often each event counts: once, then in draws of as many users (Q,) with all their events."""
    _, owner = np.unique(users, return_inverse=True)
    num_users = int(owner.max()) + 1
    weights = [np.ones(len(users))]
    for _ in range(number):
        drawn = np.bincount(rng.integers(0, num_users, num_users), minlength=num_users)
        weights.append(drawn[owner].astype(np.float64))
    return np.stack(weights)


@dataclass(frozen=True)
class MemoryGauge:
    """Measures ``memory_left`` of any number of models that came from one Original, by the same Retrains.

    The coefficient is linear in the model's z_rank, so that one row of weights gives it for every model.
    """

    weights: Floats  # (B, Q), all events first, then draws of users
    original: Floats  # (B,) the coefficient of the Original

    @classmethod
    def of(
        cls, own_original: Floats, other_original: Floats, retrains: Floats, features: Floats, draws: Floats
    ) -> "MemoryGauge":
        """From z_rank (Q,) of two Originals and (n, Q) of the Retrains, features (Q, X) and ``user_draws`` (B, Q)."""
        weights = _coefficient_weights(other_original, retrains, features, draws)
        return cls(weights, weights @ own_original)

    def interval(self, models: Floats) -> tuple[Floats, Floats, Floats]:
        """Value, low and high, each (M,), of models (M, Q); NaN where the Original remembers nothing."""
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = self.weights @ models.T / self.original[:, None]  # (B, M)
        shares[~np.isfinite(shares)] = math.nan
        drawn = shares[1:]
        drawn = drawn[~np.isnan(drawn).all(1)] if len(drawn) else drawn
        ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        low, high = np.nanquantile(drawn, ends, axis=0) if len(drawn) else np.full((2, len(models)), math.nan)
        return shares[0], low, high


def memory_limit(highs: Sequence[float]) -> float:
    """How much memory may be left: the upper bounds of Retrains, each measured by the others, or ``LEAST`` if larger.

    A limit above ``MOST`` tells nothing of a model below it: then even Retrains are not known to remember little.
    """
    return max([LEAST, *highs])


def memory_coefficient(model: Floats, other_original: Floats, retrains: Floats, features: Floats) -> float:
    """The coefficient alone: the numerator of ``memory_left``, for events where nothing can be left (audit-only)."""
    return float(_coefficient_weights(other_original, retrains, features, np.ones((1, len(model))))[0] @ model)


def _columns(other_original: Floats, retrains: Floats, features: Floats) -> Floats:
    """(Q, K) the Retrains and z(O2), then what both stages share: 1, X and X^2."""
    spread = features.std(0)
    scaled = (features[:, spread > 0] - features[:, spread > 0].mean(0)) / spread[spread > 0]
    return np.column_stack([*retrains, other_original, np.ones(len(other_original)), scaled, scaled**2])


def _ratio(value: float, of: float) -> float:
    return value / of if of else math.nan


def _coefficient_weights(other_original: Floats, retrains: Floats, features: Floats, draws: Floats) -> Floats:
    """(B, Q) weights whose product with z_rank (Q,) of a model is the coefficient of z(O2) in it, for each draw.

    1, X and X^2 are regressors and instruments alike, so they are taken out of Retrains and O2 first.
    """
    number = len(retrains)
    if number < 2:
        raise ValueError(f"memory_left needs at least 2 Retrains, one for each half; found {number}")
    columns = _columns(other_original, retrains, features)
    grams = np.stack([(columns * draw[:, None]).T @ columns for draw in draws])  # (B, K, K)
    inner, shared, outer = grams[:, : number + 1, : number + 1], grams[:, number + 1 :, number + 1 :], number + 1
    explained = np.linalg.pinv(shared, rcond=1e-12, hermitian=True) @ grams[:, outer:, :outer]  # (B, S, n + 1)
    left = inner - grams[:, :outer, outer:] @ explained
    solved = _second_stage(left, number)  # (B, n + 1) weights of Retrains and O2, once 1, X and X^2 are taken out
    of_columns = np.concatenate([solved, -np.einsum("bsi,bi->bs", explained, solved)], axis=1)
    return np.asarray(draws * (of_columns @ columns.T))


def _second_stage(left: Floats, num_retrains: int) -> Floats:
    """(B, n + 1) weights of Retrains and O2 in the coefficient, from their products (B, n + 1, n + 1)."""
    halves = np.array([_half_means(way, num_retrains) for way in ways(num_retrains, num_retrains // 2)])  # (W, 2, n)
    both = np.concatenate([halves, halves[:, ::-1]])  # in both directions
    regressor, instrument = both[:, 0], both[:, 1]
    retrains, by_other = left[:, :-1, :-1], left[:, :-1, -1]
    # the 2 x 2 equations of each way, with instruments (zB, O2) and regressors (zA, O2)
    a = np.einsum("wi,bij,wj->bw", instrument, retrains, regressor)
    b, c, d = by_other @ instrument.T, by_other @ regressor.T, left[:, None, -1, -1]
    with np.errstate(divide="ignore", invalid="ignore"):  # Retrains that do not vary leave no answer: NaN
        scale = 1 / (a * d - b * c)
        of_instrument, of_other = -(c * scale) @ instrument / len(both), (a * scale).mean(1)
    return np.concatenate([of_instrument, of_other[:, None]], axis=1)


def _half_means(way: Sequence[int], number: int) -> Floats:
    """(2, n) weights of the means of the Retrains of one way, and of the others."""
    inside = np.zeros(number, dtype=bool)
    inside[list(way)] = True
    return np.stack([inside / inside.sum(), ~inside / (~inside).sum()])
