"""A linear probe: how well the category of the next item can be read from the hidden state.

Shapes: Q queries, D hidden, L length.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srun.data.sequences import Queries
from srun.metrics.bootstrap import CONFIDENCE, NUM_RESAMPLES
from srun.models.scorer import Scorer

FOLDS = 5
MIN_OF_A_CLASS = 10  # targets in and out of the category: with fewer there is nothing to fit


@torch.inference_mode()
def last_states(scorer: Scorer, queries: Queries, device: torch.device, batch_size: int) -> NDArray[np.float64]:
    """States (Q, D) that predict the targets, as they enter the scores; of an ensemble those of all models, joined.

    What a scorer hides from its lists (masks, catalogue) is no part of a state.
    """
    histories = torch.from_numpy(queries.histories(scorer.max_length).astype(np.int64))
    parts = [_states(scorer, part.to(device)).cpu() for part in histories.split(batch_size)]
    return torch.cat(parts).numpy().astype(np.float64) if parts else np.zeros((0, 0))


def _states(scorer: Scorer, histories: Tensor) -> Tensor:
    return torch.cat([model.last_state(model.prediction_inputs(histories)) for model in scorer.models], 1)


def linear_probe_scores(
    states: NDArray[np.float64], inside: NDArray[np.bool_], users: NDArray[np.integer], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Log odds (Q,) that the next item is ``inside`` the category, by a logistic regression on ``states`` (Q, D).

    Cross-fitted by user: a query is scored by a fit that saw none of its user's. NaN everywhere when one of the two
    classes has fewer than MIN_OF_A_CLASS queries.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = np.full(len(inside), np.nan)
    if min(int(inside.sum()), int((~inside).sum())) < MIN_OF_A_CLASS:
        return scores
    known, owner = np.unique(users, return_inverse=True)
    fold = rng.permutation(np.arange(len(known)) % FOLDS)[owner]
    for left_out in range(FOLDS):
        train, test = fold != left_out, fold == left_out
        fit = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(
            states[train], inside[train]
        )
        scores[test] = fit.decision_function(states[test])
    return scores


def auc(scores: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    """Chance that a query inside scores above one outside, ties counted half; NaN where either class is empty."""
    positive, negative = int(inside.sum()), int((~inside).sum())
    if not (positive and negative) or np.isnan(scores).any():
        return float("nan")
    _, place, size = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(size) - (size - 1) / 2)[place]  # ties share their mean rank
    return float((rank[inside].sum() - positive * (positive + 1) / 2) / (positive * negative))


def nearer(
    scores: NDArray[np.float64],
    control: NDArray[np.float64],
    reference: NDArray[np.float64],
    inside: NDArray[np.bool_],
    users: NDArray[np.integer],
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """|AUC of ``control`` - AUC of ``reference``| - |AUC of ``scores`` - AUC of ``reference``|, and its 95 % interval.

    Above 0: ``scores`` (Q,) are nearer to the reference than the control is. All three are of the same queries; users
    are drawn with all their queries.
    """

    def gain(rows: NDArray[np.int64]) -> float:
        own, other, aim = (auc(values[rows], inside[rows]) for values in (scores, control, reference))
        return abs(other - aim) - abs(own - aim)

    order = np.argsort(users, kind="stable")
    _, first, size = np.unique(users[order], return_index=True, return_counts=True)
    drawn = []
    for _ in range(NUM_RESAMPLES // 2):
        chosen = rng.integers(0, len(first), len(first))
        drawn.append(gain(np.concatenate([order[first[u] : first[u] + size[u]] for u in chosen])))
    low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return gain(np.arange(len(users))), float(low), float(high)
