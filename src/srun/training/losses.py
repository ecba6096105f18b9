"""Training losses as free functions: one value per target, nothing reduced, no padding among the targets.

Shapes: T targets, D hidden, N negatives, V catalogue.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from srun.models.base import SequenceModel


def bce(model: SequenceModel, state: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """Binary cross-entropy (T,) of ``targets`` (T,) against ``negatives`` (T, N): [T] eq. 1, summed over the labels."""
    positive = model.item_scores(state, targets)
    return softplus(-positive) + softplus(model.item_scores(state, negatives)).sum(-1)


def gbce(model: SequenceModel, state: Tensor, targets: Tensor, negatives: Tensor, beta: float) -> Tensor:
    """Generalised binary cross-entropy (T,): bce with the likelihood sigmoid(score)**beta of ``targets`` (T,).

    Petrov and Macdonald, 2023 (gSASRec), but summed over the labels like bce, not averaged.
    """
    positive = model.item_scores(state, targets)
    return beta * softplus(-positive) + softplus(model.item_scores(state, negatives)).sum(-1)


def gbce_beta(num_negatives: int, num_candidates: int, t: float) -> float:
    """The power of gbce, alpha * (t * (1 - 1/alpha) + 1/alpha), alpha the share of the other items that is drawn.

    ``t`` in [0, 1]: 0 gives 1 (bce), 1 gives alpha. More negatives than other items count as all of them.
    """
    alpha = min(num_negatives / max(num_candidates - 1, 1), 1.0)
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha)


def ce(model: SequenceModel, state: Tensor, targets: Tensor, catalogue: Tensor | None) -> Tensor:
    """Full softmax cross-entropy (T,) over the items 1..V, or over those of ``catalogue`` (V+1,) only."""
    return cross_entropy(catalogue_scores(model, state, catalogue), targets, reduction="none")


def catalogue_scores(model: SequenceModel, state: Tensor, catalogue: Tensor | None) -> Tensor:
    """Scores (T, V+1) with -inf for padding and for items outside ``catalogue``."""
    scores = model.scores(state)
    outside = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
    outside[0] = True
    if catalogue is not None:
        outside |= ~catalogue
    return scores.masked_fill(outside, float("-inf"))
