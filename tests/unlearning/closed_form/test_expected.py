"""Expected memory: what it is predicted from, and that it holds for a model of another seed."""

import numpy as np
import pytest
import torch

from srun.data.dataset import Role
from srun.requests.draws import draw_extreme
from srun.unlearning.closed_form.expected import expected_memory

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(small):
    """Most transitions follow a rule, and a model remembers the others."""
    return small.make_data(small.random_events(300, 60), calibration_events=0.5)


@pytest.fixture(scope="module")
def memories(small, data, tmp_path_factory):
    """Expected memory by Originals of two seeds."""

    def by(seed):
        folder = tmp_path_factory.mktemp(f"seed-{seed}")
        request = small.interactions_request()
        world = small.make_world(data, request, folder, max_epochs=25, learning_rate=0.01 + 0.001 * seed)
        return expected_memory(world.original.model, data, None, seed, CPU)

    return by(0), by(1)


def test_every_training_event_with_a_context_has_an_expectation(data, memories):
    expected = memories[0].expected
    train = data.role == Role.TRAIN
    assert np.isnan(expected[~train]).all()
    assert np.isfinite(expected[train]).mean() > 0.8
    assert (np.isfinite(expected) == np.isfinite(memories[0].lift)).all()


def test_core_is_remembered_more_than_random_and_edge_less_by_a_model_that_drew_nothing(data, memories):
    drawer, other = memories
    core, edge = (other.lift[draw_extreme(data, drawer.expected, 300, extreme, 0.3)] for extreme in ("most", "least"))
    assert np.nanmean(core) > np.nanmean(other.lift) > np.nanmean(edge)
    assert drawer.correlation > 0.1


def test_an_event_is_not_expected_by_its_own_lift(data, memories):
    """Were lifts themselves drawn by, the drawer would remember its core far more than another model does."""
    drawer = memories[0]
    core = draw_extreme(data, drawer.expected, 300, "most", 0.3)
    by_lift = draw_extreme(data, drawer.lift, 300, "most", 0.3)
    assert np.nanmean(drawer.lift[by_lift]) - np.nanmean(drawer.lift[core]) > 0.5


def test_the_same_seed_expects_the_same(small, data, tmp_path):
    world = small.make_world(data, small.interactions_request(), tmp_path)
    one, two, third = (expected_memory(world.original.model, data, None, seed, CPU).expected for seed in (3, 3, 4))
    assert np.array_equal(one, two, equal_nan=True)
    assert not np.array_equal(one, third, equal_nan=True)
