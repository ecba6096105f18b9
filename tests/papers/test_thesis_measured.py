"""The figures of the thesis' tables, by hand: values by seed, minutes with and without patience, speed-ups."""

from collections.abc import Callable

import pytest

from srun.judging.records import Record
from srun.papers.thesis.measured import measure, models_of, speed_up


def test_runs_collect_a_value_a_seed(record: Callable[..., Record]) -> None:
    cost = {"seconds": 60.0, "seconds_patience": 30.0}
    unmeasured = record("sruga", 1, 0.5, model="bert4rec", measured=None)
    records = [record("sruga", 0, 0.25, model="bert4rec", measured=cost), unmeasured, record("retrain", 0, 0.75)]
    measured = measure(records)
    runs = measured["bert4rec", "sruga"]
    assert runs.of("forget_report/hit_10") == [0.25, 0.5]
    assert runs.of("forget_report/hit_50") == []
    assert (runs.minutes, runs.minutes_with_patience) == ([1.0], [1.5]), "a run that was not measured has no minutes"
    assert models_of(measured) == ["sasrec", "bert4rec"], "in the order of the tables"


def test_a_speed_up_is_of_means_and_needs_both() -> None:
    assert speed_up([1.0, 3.0], [10.0]) == pytest.approx(5)
    assert speed_up([], [10.0]) is None
    assert speed_up([1.0], []) is None
