"""Ridge regression on a fixed basis of ranks: as good as boosted trees for levels, in a hundredth of a second.

Products and solves are torch's, which keeps to the threads that it was given; numpy's would take all of them. Shapes: P
events that are known, Q others, X features, B columns of the basis.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
        columns, mean = basis(features, features), float(values.mean())
        return cls(features, mean, _ridge(_gram(columns), columns, values - mean))

    @classmethod
    def fit_crossed(
        cls, features: Floats, values: Floats, users: NDArray[np.int32], rng: np.random.Generator
    ) -> tuple["Regression", Floats]:
        """The same, and predictions (P,) of ``values`` (P,), each by a regression on other users' values.

        Ranks and scales are among the features of all, so that one sum of products less that of a fold serves all.
        """
        known, owner = np.unique(users, return_inverse=True)
        fold = rng.permutation(len(known))[owner] % min(FOLDS, len(known))
        columns, mean = basis(features, features), float(values.mean())
        parts = [columns[fold == number] for number in range(int(fold.max()) + 1)]
        grams = [_gram(part) for part in parts]
        whole, predicted = torch.stack(grams).sum(0), np.empty(len(values))
        for number, (part, gram) in enumerate(zip(parts, grams, strict=True)):
            out = fold == number
            centred = np.where(out, 0, values - values[~out].mean())
            predicted[out] = _times(part, _ridge(whole - gram, columns, centred)) + values[~out].mean()
        return cls(features, mean, _ridge(whole, columns, values - mean)), predicted

    def predict(self, features: Floats) -> Floats:
        """(Q,) of ``features`` (Q, X)."""
        return _times(basis(features, self.features), self.weights) + self.mean


def basis(features: Floats, known: Floats) -> Floats:
    """(Q, B) of ``features`` (Q, X): 1, each feature, its rank among ``known`` (P, X) with knots, products of ranks."""
    ranks = np.empty_like(features)
    for column, ordered in enumerate(np.sort(known, axis=0).T):
        sides = [np.searchsorted(ordered, features[:, column], side) for side in ("left", "right")]
        ranks[:, column] = np.sum(sides, axis=0) / (2 * len(known)) - 0.5
    scaled = ((features - known.mean(0)) / np.maximum(known.std(0), 1e-9)).clip(-CLIP, CLIP)
    bends = [np.maximum(ranks - knot, 0) for knot in KNOTS]
    one, other = np.triu_indices(features.shape[1])
    return np.column_stack([np.ones(len(features)), scaled, ranks, *bends, ranks[:, one] * ranks[:, other]])


def _gram(columns: Floats) -> Tensor:
    """(B, B) products of the ``columns`` (P, B) with each other."""
    known = torch.from_numpy(columns)
    return known.T @ known


def _ridge(gram: Tensor, columns: Floats, centred: Floats) -> Floats:
    """(B,) weights for values ``centred`` (P,) of ``columns`` (P, B), of which ``gram`` (B, B) are the products."""
    right = torch.from_numpy(columns).T @ torch.from_numpy(centred)
    return np.asarray(torch.linalg.solve(gram + RIDGE * torch.eye(len(gram), dtype=gram.dtype), right).numpy())


def _times(columns: Floats, weights: Floats) -> Floats:
    """(Q,) products of the rows of ``columns`` (Q, B) with ``weights`` (B,)."""
    return np.asarray((torch.from_numpy(columns) @ torch.from_numpy(weights)).numpy())
