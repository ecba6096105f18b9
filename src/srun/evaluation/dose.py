"""What an edit of neurons does to targets inside and outside a category: lists, dose and response, collateral loss.

Shapes: Q queries, K places, V catalogue, C categories. The caller says which queries; nothing here looks at others.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from srun.evaluation.ranking import RankingTask
from srun.metrics.ranking import Ranks, hit, ndcg
from srun.metrics.removal import kept_rate, list_removal_rate, removal_rate
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer
from srun.unlearning.attribution.neurons import Edit, Neuron, as_edits, edited

K = 10


def dose_response(
    model: SequenceModel,
    ordered: Sequence[Neuron],
    scale: float,
    doses: Sequence[int],
    inside: RankingTask,
    outside: RankingTask,
    items: NDArray[np.bool_],
) -> list[dict[str, float]]:
    """Removal of a category and what is kept elsewhere when the first d neurons are scaled, one row a dose.

    ``inside`` and ``outside`` ask for targets in and out of the category, ``items`` (V+1,) are the category's. A dose
    larger than the number of neurons takes all. The model is as it was afterwards.
    """

    def look() -> tuple[Ranks, Ranks, NDArray[np.int64]]:
        scorer = Scorer([model])
        return inside.ranks(scorer).rank, outside.ranks(scorer).rank, inside.top(scorer, K)

    before_in, before_out, before_lists = look()
    rows = []
    for dose in doses:
        with edited(model, as_edits(ordered[:dose], scale)):
            after_in, after_out, after_lists = look()
        rows.append(
            {
                "num_neurons": len(ordered[:dose]),
                "removal_rate_10": removal_rate(before_in, after_in, K),
                "list_removal_rate_10": list_removal_rate(before_lists, after_lists, items),
                "hit_10_kept": kept_rate(before_out, after_out, K),
                "ndcg_10_kept": _ratio(ndcg(after_out, K), ndcg(before_out, K)),
                "hit_10_in_category": hit(after_in, K),
                "hit_10_out_of_category": hit(after_out, K),
            }
        )
    return rows


def collateral_loss(
    model: SequenceModel,
    edits: Mapping[str, Sequence[Edit]],
    members: Mapping[str, NDArray[np.bool_]],
    task: RankingTask,
) -> dict[str, dict[str, float]]:
    """``loss[a][b]`` = 1 - hit_10 of targets in category b after the edits of a / before; NaN where there was no hit.

    ``members`` maps a category to its items (V+1,). The model is as it was afterwards.
    """
    targets = task.queries.target
    before = task.ranks(Scorer([model])).rank
    loss = {}
    for name, chosen in edits.items():
        with edited(model, chosen):
            after = task.ranks(Scorer([model])).rank
        loss[name] = {b: removal_rate(before[members[b][targets]], after[members[b][targets]], K) for b in edits}
    return loss


def overlap(neurons: Mapping[str, Sequence[Neuron]]) -> dict[str, dict[str, float]]:
    """``overlap[a][b]`` = the share of a's neurons that b has too; NaN for a category without neurons."""
    sets = {name: set(chosen) for name, chosen in neurons.items()}
    return {
        a: {b: _ratio(float(len(mine & theirs)), float(len(mine))) for b, theirs in sets.items()}
        for a, mine in sets.items()
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
