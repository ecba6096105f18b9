"""Figures of single events, worked by hand and on made-up memories."""

import math

import numpy as np
import pytest

from srun.metrics.memory import (
    MAX_WAYS,
    event_corr,
    event_mae,
    fidelity,
    memory_coefficient,
    memory_left,
    memory_limit,
    ways,
    z_rank,
)


def test_z_rank_is_zero_in_the_middle_and_the_same_with_another_sign_at_both_ends():
    z = z_rank(np.array([1.0, 5.5, 10.0]), 10)
    assert z.tolist() == pytest.approx([math.log(9.5 / 0.5), 0.0, -math.log(9.5 / 0.5)])
    assert z_rank(np.array([1.5]), 3).item() == pytest.approx(math.log(2.0 / 1.0))


def test_by_event_figures_compare_with_the_mean_of_the_retrains():
    retrains = np.array([[0.0, 2.0, 1.0], [2.0, 2.0, 3.0]])  # mean 1, 2, 2
    assert event_mae(np.array([1.0, 0.0, 5.0]), retrains) == pytest.approx((0 + 2 + 3) / 3)
    assert event_corr(np.array([3.0, 5.0, 5.0]), retrains) == pytest.approx(1.0)
    assert event_corr(np.array([0.0, 1.0, 0.0]), retrains) == pytest.approx(0.5)


def test_by_event_figures_of_nothing_are_not_a_number():
    assert math.isnan(event_mae(np.zeros(0), np.zeros((2, 0))))
    assert math.isnan(event_corr(np.zeros(0), np.zeros((2, 0))))
    assert math.isnan(event_corr(np.ones(3), np.array([[0.0, 1.0, 2.0]])))


@pytest.fixture
def memories():
    """z_rank of 4,000 made-up events of 800 users: what is known without the event, noise of a training, memory."""
    rng = np.random.default_rng(0)
    number = 4000
    features = rng.normal(size=(number, 2))
    truth = features @ [1.0, -0.5] + rng.normal(size=number)
    memory = np.abs(rng.normal(size=number))

    def model(share: float) -> np.ndarray:
        return truth + 2 * share * memory + 0.5 * rng.normal(size=number)

    retrains = np.stack([model(0.0) for _ in range(4)])
    return model, retrains, features, rng.integers(0, 800, number)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_memory_left_is_the_share_that_a_model_kept(memories, share):
    model, retrains, features, users = memories
    rng = np.random.default_rng(1)
    found = memory_left(model(share), model(1.0), model(1.0), retrains, features, users, rng, 100)
    assert found.value == pytest.approx(share, abs=0.05)
    assert found.low < share < found.high
    assert found.high - found.low < 0.25


def test_noise_of_the_retrains_does_not_pass_for_memory(memories):
    """Plain least squares sees memory in a Retrain: its regressor carries the noise of four trainings."""
    model, retrains, features, _ = memories
    other = model(1.0)
    plain = np.column_stack([other, retrains[0], np.ones(len(other)), features, features**2])
    assert np.linalg.lstsq(plain, model(0.0), rcond=None)[0][0] > 0.05
    assert memory_coefficient(model(0.0), other, retrains, features) == pytest.approx(0.0, abs=0.03)


def test_permuted_ranks_hold_no_memory(memories):
    model, retrains, features, users = memories
    rng = np.random.default_rng(2)
    found = memory_left(rng.permutation(model(1.0)), model(1.0), model(1.0), retrains, features, users, rng, 20)
    assert abs(found.value) < 0.15


def test_memory_left_needs_two_retrains(memories):
    model, retrains, features, users = memories
    with pytest.raises(ValueError, match="at least 2 Retrains"):
        memory_left(model(0), model(1), model(1), retrains[:1], features, users, np.random.default_rng(0))


def test_fidelity_is_to_four_retrains_and_beside_a_retrains_own(memories):
    model, retrains, _, _ = memories
    more = np.stack([*retrains, model(0.0), model(0.0)])
    another, half = fidelity(model(0.0), more), fidelity(model(0.5), more)
    assert another.event_corr_share == pytest.approx(1, abs=0.01)
    assert another.event_mae_ratio == pytest.approx(1, abs=0.02)
    assert half.event_corr_share < 0.95
    assert half.event_mae_ratio > 1.5
    z, first = model(0.0), more[:5]
    chosen = [np.delete(first, left_out, axis=0) for left_out in range(5)]
    assert fidelity(z, first).event_corr == pytest.approx(np.mean([event_corr(z, part) for part in chosen]))
    assert fidelity(z, first).event_mae == pytest.approx(np.mean([event_mae(z, part) for part in chosen]))
    own = np.mean([event_mae(first[i], np.delete(first, i, axis=0)) for i in range(5)])
    assert fidelity(z, first).event_mae_ratio == pytest.approx(fidelity(z, first).event_mae / own)


def test_few_retrains_are_measured_by_one_fewer(memories):
    model, retrains, _, _ = memories
    z, two = model(0.0), retrains[:2]
    found = fidelity(z, two)
    assert found.event_mae == pytest.approx(np.mean([event_mae(z, one[None]) for one in two]))
    assert found.event_mae_ratio == pytest.approx(found.event_mae / event_mae(two[0], two[1:]))


def test_ways_are_all_there_are_or_always_the_same():
    assert ways(4, 2) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    many = ways(32, 16)
    assert len(many) == MAX_WAYS
    assert many == ways(32, 16)
    assert all(len(set(way)) == 16 for way in many)


def test_many_retrains_are_halved_in_some_ways_only(memories):
    model, _, features, users = memories
    retrains = np.stack([model(0.0) for _ in range(12)])
    found = memory_left(model(0.3), model(1.0), model(1.0), retrains, features, users, np.random.default_rng(3), 20)
    assert found.value == pytest.approx(0.3, abs=0.05)


def test_how_much_memory_may_be_left():
    assert memory_limit([-0.1, 0.04]) == 0.10
    assert memory_limit([0.05, 0.12]) == 0.12


def test_retrains_that_do_not_vary_leave_no_answer(memories):
    model, _, features, users = memories
    flat = np.zeros((2, len(users)))
    found = memory_left(model(0), model(1), model(1), flat, features, users, np.random.default_rng(0), 5)
    assert math.isnan(found.value)
    assert math.isnan(found.high)
