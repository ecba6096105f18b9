"""What a choice of neurons is worth: the same number, or the same loss elsewhere, of neurons chosen without it.

Shapes: Q queries of targets in the category. The caller says which queries measure and which choose a dose.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srun.evaluation.ranking import RankingTask
from srun.metrics.bootstrap import user_interval
from srun.metrics.ranking import hit, hits
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer
from srun.unlearning.attribution.neurons import Edit, Neuron, as_edits, edited
from srun.unlearning.attribution.plus import largest_dose

K = 10
NORMAL = 1.96  # two-sided 95 %


@dataclass(frozen=True)
class Tasks:
    """Where controls are measured, and the targets out of the category at which their dose is chosen."""

    inside: RankingTask
    outside: RankingTask
    choose: RankingTask


@dataclass(frozen=True)
class Draw:
    """One control: how many neurons it took, and what followed."""

    num_neurons: int
    inside: NDArray[np.float64]  # (Q,) hits
    kept: float  # hit_10 out of the category / before


def measure(model: SequenceModel, edits: Sequence[Edit], tasks: Tasks, before_outside: float) -> Draw:
    """Hits in the category and what is kept out of it, with ``edits``; the model is as it was afterwards."""
    with edited(model, edits):
        scorer = Scorer([model])
        inside, outside = tasks.inside.ranks(scorer).rank, tasks.outside.ranks(scorer).rank
    kept = hit(outside, K) / before_outside if before_outside else float("nan")
    return Draw(len(edits), hits(inside, K), kept)


def dose_at_loss(
    model: SequenceModel, ordered: Sequence[Neuron], scale: float, lowest: float, task: RankingTask
) -> int:
    """How many of ``ordered`` leave hit_10 of ``task`` at ``lowest`` or above: see ``largest_dose``."""

    def within(dose: int) -> bool:
        with edited(model, as_edits(ordered[:dose], scale)):
            return hit(task.ranks(Scorer([model])).rank, K) >= lowest

    return largest_dose(len(ordered), within)


def compare(
    chosen: Draw, controls: Sequence[Draw], before: NDArray[np.float64], users: NDArray[np.int64], seed: int
) -> dict[str, float]:
    """Removal rates of the choice and of its controls, their spread over draws, and the difference's 95 % interval.

    ``before`` (Q,) are hits without an edit. The interval of the controls' mean rate is of the draws; that of the
    difference is of the users, whose hits are drawn with all their queries, with the draws as they are. Rates are NaN
    where there was no hit before.
    """
    base = float(before.mean()) or float("nan")  # without a hit before there is no rate of removal
    rates = np.array([1 - draw.inside.mean() / base for draw in controls])
    mean_inside = np.mean([draw.inside for draw in controls], axis=0)
    low, high = user_interval(mean_inside - chosen.inside, users, np.random.default_rng(seed))
    error = NORMAL * rates.std(ddof=1) / np.sqrt(len(rates)) if len(rates) > 1 else float("nan")
    return {
        "num_draws": float(len(controls)),
        "num_neurons": float(np.mean([draw.num_neurons for draw in controls])),
        "removal_rate_10": float(rates.mean()),
        "removal_rate_10_low": float(rates.mean() - error),
        "removal_rate_10_high": float(rates.mean() + error),
        "hit_10_kept": float(np.mean([draw.kept for draw in controls])),
        "advantage": float((mean_inside - chosen.inside).mean() / base),
        "advantage_low": low / base,
        "advantage_high": high / base,
    }
