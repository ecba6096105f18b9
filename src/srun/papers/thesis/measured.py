"""Our figures for the thesis' tables and bars, computed once: values of every seed, and ratios of their means."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from srun.judging.records import Record
from srun.metrics.ranking import mean_and_spread
from srun.models import MODELS


@dataclass(frozen=True)
class Runs:
    """What all seeds of one model and method measured; every list has a value a seed that measured it."""

    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By ``split/metric``; ranked among 100 sampled candidates, ``split/metric_sampled``."""
    minutes: list[float] = field(default_factory=list)
    """To the returned model."""
    minutes_with_patience: list[float] = field(default_factory=list)
    """To the end of the run, as the thesis seems to count."""

    def of(self, key: str) -> list[float]:
        """The values of a figure; none where nothing measured it."""
        return self.values.get(key, [])


Measured = Mapping[tuple[str, str], Runs]
"""By model and method."""


def measure(records: Sequence[Record]) -> Measured:
    """Collect every figure and cost of the records by model and method, seeds in the order of the records."""
    measured: dict[tuple[str, str], Runs] = {}
    for record in records:
        runs = measured.setdefault((record.model, record.method), Runs())
        for split, figures in record.metrics.items():
            for metric, value in figures.items():
                runs.values[f"{split}/{metric}"].append(value)
        if record.measured:
            runs.minutes.append(record.measured["seconds"] / 60)
            runs.minutes_with_patience.append((record.measured["seconds"] + record.measured["seconds_patience"]) / 60)
    return measured


def models_of(measured: Measured) -> list[str]:
    """The models that anything was measured of, in the order of the tables."""
    return [model for model in MODELS if any(model == name for name, _ in measured)]


def speed_up(minutes: Sequence[float], reference: Sequence[float]) -> float | None:
    """How many times the mean of ``minutes`` goes into the reference's; None where either is empty."""
    return mean_and_spread(reference)[0] / mean_and_spread(minutes)[0] if minutes and reference else None
