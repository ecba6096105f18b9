"""Ridge regression on a fixed basis of ranks: as good as boosted trees for levels, in a hundredth of a second.

Products and solves are torch's, which keeps to the threads that it was given; numpy's would take all of them. Shapes: P
events that are known, Q others, X features, B columns of the basis.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

KNOTS = (-0.3, -0.1, 0.1, 0.3)
"""Ranks, from -1/2 to 1/2, at which the slope of a feature may change."""
CLIP = 4.0  # standard deviations beyond which a feature says no more
RIDGE = 3.0
FOLDS = 5
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Regression:
    """Least squares with a small ridge on the basis of known ``features`` (P, X)."""

    features: Floats
    mean: float
    weights: Floats  # (B,)

    @classmethod
    def fit(cls, features: Floats, values: Floats) -> "Regression":
        """Fit ``values`` (P,) of ``features`` (P, X)."""
        return cls(features, float(values.mean()), _ridge(basis(features, features), values))

    def predict(self, features: Floats) -> Floats:
        """(Q,) of ``features`` (Q, X)."""
        return _times(basis(features, self.features), self.weights) + self.mean


def crossed(features: Floats, values: Floats, users: NDArray[np.int32], rng: np.random.Generator) -> Floats:
    """(P,) predictions of ``values`` (P,), each by a regression on other users' events."""
    known, owner = np.unique(users, return_inverse=True)
    fold = rng.permutation(len(known))[owner] % min(FOLDS, len(known))
    order = np.argsort(features, axis=0)
    places = [_places(column[rising], column) for column, rising in zip(features.T, order.T, strict=True)]
    predicted = np.empty(len(values))
    for number in range(int(fold.max()) + 1):
        out = fold == number
        columns = _expand(features, _ranks_among(~out, order, places), features[~out])
        predicted[out] = _times(columns[out], _ridge(columns[~out], values[~out])) + values[~out].mean()
    return predicted


def basis(features: Floats, known: Floats) -> Floats:
    """(Q, B) of ``features`` (Q, X): 1, each feature, its rank among ``known`` (P, X) with knots, products of ranks."""
    ranks = np.empty_like(features)
    for column, rising in enumerate(np.sort(known, axis=0).T):
        ranks[:, column] = _places(rising, features[:, column]).sum(0) / (2 * len(known)) - 0.5
    return _expand(features, ranks, known)


def _places(rising: Floats, column: Floats) -> NDArray[np.int64]:
    """(2, Q) how many of the values ``rising`` (P,) are below each of ``column`` (Q,), and how many not above it."""
    return np.stack([np.searchsorted(rising, column, "left"), np.searchsorted(rising, column, "right")])


def _ranks_among(kept: NDArray[np.bool_], order: NDArray[np.int64], places: list[NDArray[np.int64]]) -> Floats:
    """(P, X) ranks of all events among those that are ``kept`` (P,), from their ``places`` (2, P) among all."""
    ranks = np.empty(order.shape)
    for column, (rising, place) in enumerate(zip(order.T, places, strict=True)):
        below = np.concatenate([[0], np.cumsum(kept[rising])])
        ranks[:, column] = below[place].sum(0) / (2 * below[-1]) - 0.5
    return ranks


def _expand(features: Floats, ranks: Floats, known: Floats) -> Floats:
    """(Q, B) columns of ``features`` (Q, X) and their ``ranks`` (Q, X); the scale is that of ``known`` (P, X)."""
    scaled = ((features - known.mean(0)) / np.maximum(known.std(0), 1e-9)).clip(-CLIP, CLIP)
    bends = [np.maximum(ranks - knot, 0) for knot in KNOTS]
    one, other = np.triu_indices(features.shape[1])
    return np.column_stack([np.ones(len(features)), scaled, ranks, *bends, ranks[:, one] * ranks[:, other]])


def _ridge(columns: Floats, values: Floats) -> Floats:
    """(B,) weights of ``columns`` (P, B) for ``values`` (P,) less their mean."""
    known, centred = torch.from_numpy(columns), torch.from_numpy(values - values.mean())
    gram = known.T @ known + RIDGE * torch.eye(known.shape[1], dtype=known.dtype)
    return np.asarray(torch.linalg.solve(gram, known.T @ centred).numpy())


def _times(columns: Floats, weights: Floats) -> Floats:
    """(Q,) products of the rows of ``columns`` (Q, B) with ``weights`` (B,)."""
    return np.asarray((torch.from_numpy(columns) @ torch.from_numpy(weights)).numpy())
