"""How far a row is from Retrain: the signed gap of forget Hit@10, and how far apart Retrains themselves lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from srun.metrics.forgetting import prediction_bound
from srun.metrics.ranking import mean_and_spread
from srun.reporting.records import KINDS, METRIC, SPLIT, Group, Record

Place = Literal["below", "within", "above"]


@dataclass(frozen=True)
class Gap:
    """A value minus the Retrains' mean, and the bound within which a further Retrain would lie."""

    value: float
    bound: float

    @property
    def place(self) -> Place:
        """Where it lies; ``below`` is over-unlearning."""
        if self.value < -self.bound:
            return "below"
        return "above" if self.value > self.bound else "within"


def gap_to(values: Sequence[float], value: float) -> Gap | None:
    """Compare a value with the Retrains'; None with fewer than two of them, which have no interval."""
    if len(values) < 2:
        return None
    return Gap(value - mean_and_spread(values)[0], prediction_bound(values))


def forget_gap(group: Group, record: Record) -> Gap | None:
    """Gap of a row's forget Hit@10; a Retrain is compared with the others. None where none can be given."""
    value = record.value(SPLIT, METRIC)
    if value is None or record.kind not in KINDS:
        return None
    others = [other.value(SPLIT, METRIC) for other in group.retrains if other is not record]
    return gap_to([other for other in others if other is not None], value)
