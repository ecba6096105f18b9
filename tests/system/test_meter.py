"""The meter: what it counts, what it leaves out, and that a kill loses nothing."""

import json
import time
from dataclasses import asdict

import pytest
import torch

from srun.system.devices import PeakMemory
from srun.system.meter import FORWARD_SHARE, Cost, Elapsed, Meter


def test_positions_count_by_what_they_pass() -> None:
    meter = Meter()
    inputs = torch.tensor([[0, 3, 4], [0, 0, 5]])
    meter.count_inputs(inputs)
    meter.count_inputs(inputs, FORWARD_SHARE)
    meter.count_look(positions=6, queries=4)
    meter.count(epochs=1, steps=2, scored_positions=10)
    assert meter.read().exact() == {
        "epochs": 1,
        "steps": 2,
        "target_gradients": pytest.approx(3 + 1 + 2),
        "scored_positions": 14,
    }


def test_times_of_the_run_and_of_its_curves_are_kept_apart() -> None:
    meter = Meter()
    with meter.running():
        time.sleep(0.02)
    with meter.evaluating():
        time.sleep(0.01)
    cost = meter.read()
    assert 0.02 <= cost.seconds < 1
    assert cost.processor_seconds < cost.seconds, "sleep takes no processor"
    assert 0.01 <= cost.seconds_evaluation < 1
    meter.charge(Elapsed(4.0, 2.0), 0.5)
    assert meter.read().seconds == cost.seconds + 2
    assert meter.read().processor_seconds == cost.processor_seconds + 1


def test_processor_time_is_that_of_work() -> None:
    meter = Meter()
    with meter.running():
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
    assert meter.read().processor_seconds >= 0.05


def test_a_reading_stays_as_it_was() -> None:
    meter = Meter()
    before = meter.read()
    meter.count(steps=1)
    assert before == Cost()
    assert meter.read() == Cost(steps=1)


def test_the_cost_of_an_earlier_model_leaves_later_time_to_patience() -> None:
    meter = Meter()
    meter.include(Cost(epochs=2, steps=5, seconds=3.0, seconds_evaluation=1.0))
    best = meter.read()
    meter.include(Cost(epochs=1, steps=2, seconds=4.0, seconds_evaluation=2.0))
    assert meter.read_until(best) == Cost(epochs=2, steps=5, seconds=3.0, seconds_patience=4.0, seconds_evaluation=3.0)


def test_parts_add_up_and_the_larger_peak_stays() -> None:
    meter = Meter()
    meter.include(Cost(epochs=1, steps=2, target_gradients=3.0, seconds=1.0, peak_memory_mb=50.0))
    meter.include(Cost(epochs=2, steps=1, target_gradients=0.5, seconds=1.0, peak_memory_mb=40.0))
    assert meter.read() == Cost(epochs=3, steps=3, target_gradients=3.5, seconds=2.0, peak_memory_mb=50.0)


def test_a_state_goes_through_json() -> None:
    meter, other = Meter(), Meter()
    meter.include(Cost(epochs=1, steps=2, target_gradients=1 / 3, seconds=0.1, processor_seconds=0.2))
    other.restore(json.loads(json.dumps(meter.state())))
    assert other.read() == meter.read()


def test_memory_is_read_where_it_is_watched() -> None:
    assert Meter().read().peak_memory_mb == 0
    assert Meter(PeakMemory(torch.device("cpu"))).read().peak_memory_mb > 1


def test_every_figure_is_either_exact_or_measured() -> None:
    cost = Cost(flops=1.0)
    assert {**cost.exact(), **cost.measured()} == asdict(cost)
    assert set(cost.exact()) == {"epochs", "steps", "target_gradients", "scored_positions", "flops"}
    assert "flops" not in Cost().exact(), "nobody counted them, which is not the same as none"
