"""Distance and barrier by hand, and on models between which there is one and between which there is none."""

import math

import pytest
import torch

from srun.evaluation.way_back import alike, barrier, distance, retained_loss, retained_windows
from srun.models.scorer import clone_model, untied_copy

CPU = torch.device("cpu")


@pytest.fixture
def windows(world):
    return retained_windows(world.request, 0, CPU)


def test_the_distance_is_that_of_all_weights(world):
    model = clone_model(world.original.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5
    number = sum(parameter.numel() for parameter in model.parameters())
    assert distance(model, world.original.model) == pytest.approx(0.5 * math.sqrt(number), rel=1e-5)
    assert distance(model, model) == 0


def test_models_of_one_and_of_two_tables_are_compared_by_two(world):
    tied, untied = world.original.model, untied_copy(world.original.model)
    assert alike([tied, tied]) == [tied, tied]
    one, other = alike([tied, untied])
    assert one.output is not None
    assert distance(one, other) == 0


def test_the_loss_is_the_mean_cross_entropy_of_next_items(world, windows):
    model = world.original.model
    inputs, targets = windows[:, :-1], windows[:, 1:] * (windows[:, :-1] != 0)
    with torch.no_grad():
        scores = model.scores(model.hidden(inputs)[targets != 0])[:, 1:]
    wanted = torch.nn.functional.cross_entropy(scores, targets[targets != 0] - 1)
    assert retained_loss(model, windows, 0) == pytest.approx(float(wanted), rel=1e-5)


def test_there_is_a_barrier_between_strangers_and_none_to_a_model_itself(small, world, windows):
    original, before = world.original.model, small.weight_bytes(world.original.scorer)
    assert barrier(clone_model(original), original, windows, 0) == pytest.approx(0, abs=1e-6)
    model = untied_copy(original).eval()
    mirrored = clone_model(model)  # states and output table with all signs turned: the same scores, and nothing between
    with torch.no_grad():
        for parameter in (mirrored.norm.weight, mirrored.norm.bias, mirrored.output.weight):
            parameter.neg_()
    loss = retained_loss(model, windows, 0)
    assert retained_loss(mirrored, windows, 0) == pytest.approx(loss, rel=1e-6)
    assert loss < math.log(world.data.num_items)
    assert barrier(mirrored, model, windows, 0) == pytest.approx(math.log(world.data.num_items) - loss, rel=1e-5)
    assert small.weight_bytes(world.original.scorer) == before
