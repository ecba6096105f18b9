"""What is left of the memory of single events: figures that pooled ranks cannot give, from per-event ranks alone.

Shapes: Q events, n Retrains, V items of the catalogue, X features of an event, K columns of a regression.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from srun.metrics.ranking import Ranks

Floats = NDArray[np.float64]
NUM_RESAMPLES = 200
LEVEL = 0.95


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
class MemoryLeft:
    """How much of what Original remembered of the events is left: 0 for a Retrain, 1 for Original."""

    value: float
    low: float
    high: float
    """Bounds of the 95 % interval when users are drawn again with all their events."""


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
    columns = _columns(model, own_original, other_original, retrains, features)
    _, owner = np.unique(users, return_inverse=True)
    num_users = int(owner.max()) + 1
    weights = [np.ones(len(users))]
    for _ in range(number):
        drawn = np.bincount(rng.integers(0, num_users, num_users), minlength=num_users)
        weights.append(drawn[owner].astype(np.float64))
    shares = np.array([_share((columns * weight[:, None]).T @ columns, len(retrains)) for weight in weights])
    low, high = np.nanquantile(shares[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if number else (math.nan, math.nan)
    return MemoryLeft(float(shares[0]), float(low), float(high))


def memory_coefficient(model: Floats, other_original: Floats, retrains: Floats, features: Floats) -> float:
    """The coefficient alone: the numerator of ``memory_left``, for events where nothing can be left (audit-only)."""
    columns = _columns(model, model, other_original, retrains, features)
    return float(_coefficients(columns.T @ columns, len(retrains))[0])


def _columns(model: Floats, own_original: Floats, other_original: Floats, retrains: Floats, features: Floats) -> Floats:
    """(Q, K) the model, its own Original, the Retrains, then what both stages share: z(O2), 1, X and X^2."""
    if len(retrains) < 2:
        raise ValueError(f"memory_left needs at least 2 Retrains, one for each half; found {len(retrains)}")
    spread = features.std(0)
    scaled = (features[:, spread > 0] - features[:, spread > 0].mean(0)) / spread[spread > 0]
    shared = np.column_stack([other_original, np.ones(len(model)), scaled, scaled**2])
    return np.column_stack([model, own_original, retrains.T, shared])


def _share(gram: Floats, num_retrains: int) -> float:
    own, original = _coefficients(gram, num_retrains)
    return float(own / original) if original else math.nan


def _coefficients(gram: Floats, num_retrains: int) -> Floats:
    """(2,) coefficients of z(O2) in the model's z and in its own Original's, from products (K, K) of all columns."""
    found, rest = np.zeros(2), gram[2:, 2:]
    num_shared = len(rest) - num_retrains
    halves = list(_halves(num_retrains))
    for half in halves:
        one, two = np.zeros(num_retrains), np.full(num_retrains, 1 / (num_retrains - len(half)))
        one[list(half)], two[list(half)] = 1 / len(half), 0.0
        maps = [block_diag(mean[:, None], np.eye(num_shared)) for mean in (one, two)]  # all columns -> regressors
        for regressors, instruments in (maps, maps[::-1]):
            left, right = instruments.T @ rest @ regressors, instruments.T @ gram[2:, :2]
            found += np.linalg.lstsq(left, right, rcond=None)[0][1]
    return found / (2 * len(halves))


def _halves(number: int) -> Iterator[tuple[int, ...]]:
    """Every way to take half of the Retrains, rounded down, once."""
    size = number // 2
    for half in combinations(range(number), size):
        if 2 * size < number or 0 in half:
            yield half
