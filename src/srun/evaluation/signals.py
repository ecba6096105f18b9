"""What a model says of events that an attack asks it about: probability, logit and rank.

Shapes: Q queries, B batch, V catalogue.
"""

import numpy as np
import torch
from torch import Tensor

from srun.data.sequences import Queries
from srun.evaluation.ranking import RankingTask
from srun.metrics.membership import Signals
from srun.models.scorer import Scorer

FAR = 50.0
"""Logits end here: of an item that is never shown, and of one that has all of the probability."""


@torch.inference_mode()
def signals(scorer: Scorer, queries: Queries, batch_size: int, device: torch.device) -> Signals:
    """Signals (Q,) of the queries' targets, in their order, under the softmax over all items a scorer may show."""
    histories = torch.from_numpy(queries.histories(scorer.max_length).astype(np.int64)).to(device)
    users, targets = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (queries.user, queries.target))
    logits = torch.empty(len(queries), dtype=torch.float64)
    for start in range(0, len(queries), batch_size):
        part = slice(start, start + batch_size)
        logits[part] = _logits(scorer.scores(histories[part], users[part]), targets[part]).cpu()
    z_logit = logits.numpy()
    ranks = RankingTask.make(queries, scorer.max_length, device, batch_size).ranks(scorer).rank
    return Signals(-np.logaddexp(0, -z_logit), z_logit, ranks)


def _logits(scores: Tensor, targets: Tensor) -> Tensor:
    """(B,) log p - log(1 - p) of the targets: their score less the logsumexp of all others (B, V+1), in float64."""
    target = scores.gather(1, targets[:, None])
    scores = scores.scatter(1, targets[:, None], float("-inf"))
    scores[:, 0] = float("-inf")
    return (target[:, 0].double() - scores.double().logsumexp(1)).nan_to_num(nan=-FAR).clamp(-FAR, FAR)
