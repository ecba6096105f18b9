"""Retrain: what it learns does not depend on what was forgotten."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from srun.data.batches import TrainingData
from srun.errors import SrunError
from srun.models.scorer import Scorer
from srun.training import shards as shards_module
from srun.unlearning import UNLEARNERS


def with_other_forgotten_items(world):
    """The same world in which other items stood at the forgotten events."""
    item = world.data.item.copy()
    forgotten = np.flatnonzero(world.request.forget)
    item[forgotten] = item[forgotten] % world.data.num_items + 1
    assert (item != world.data.item).any()
    data = replace(world.data, item=item)
    return replace(world, data=data, request=replace(world.request, data=data))


@pytest.mark.parametrize("kind", ["interactions", "users"])
@pytest.mark.parametrize("loss", ["bce", "ce"])
def test_the_forgotten_items_leave_no_trace(small, coloured, tmp_path, kind, loss):
    request = small.interactions_request() if kind == "interactions" else small.users_request()
    world = small.make_world(coloured, request, tmp_path, loss=loss)
    other = with_other_forgotten_items(world)
    one, two = world.run("retrain", tmp_path / "a"), other.run("retrain", tmp_path / "b")
    assert small.weight_bytes(one.scorer) == small.weight_bytes(two.scorer)
    assert small.weight_bytes(one.scorer) != small.weight_bytes(world.original.scorer)


@pytest.mark.parametrize("name", [n for n in UNLEARNERS if UNLEARNERS[n].from_scratch])
def test_training_data_is_built_from_the_retain_set_only(tmp_path, monkeypatch, world_for, name):
    world, seen = world_for(name), []

    class Spy(TrainingData):
        def __init__(self, data, events, catalogue, device):
            seen.append(events.copy())
            super().__init__(data, events, catalogue, device)

    monkeypatch.setattr(shards_module, "TrainingData", Spy)
    world.run(name, tmp_path)
    assert seen
    assert all(not (events & ~world.request.retain).any() for events in seen)


def test_the_whole_retain_set_is_trained_on(tmp_path, monkeypatch, world):
    seen = []

    class Spy(TrainingData):
        def __init__(self, data, events, catalogue, device):
            seen.append((events.copy(), catalogue))
            super().__init__(data, events, catalogue, device)

    monkeypatch.setattr(shards_module, "TrainingData", Spy)
    world.run("retrain", tmp_path)
    assert len(seen) == 1
    assert (seen[0][0] == world.request.retain).all()


def test_the_retained_catalogue_is_what_is_trained_and_scored(tmp_path, coloured, worlds):
    world = worlds["category", False]
    scorer = world.run("retrain", tmp_path).scorer
    assert (scorer.catalogue.numpy() == world.request.catalogue).all()
    assert not world.request.catalogue[1:].all()
    scores = scorer.scores(torch.ones(1, coloured.max_length, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    assert torch.isneginf(scores[0, 1:][~scorer.catalogue[1:]]).all()
    raw = scorer.untrained_raw().scores(torch.ones(1, 5, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    assert raw.isfinite().all()


def test_the_recipe_and_the_seed_are_those_given(small, tmp_path, world):
    result = world.run("retrain", tmp_path)
    assert len(result.history) == world.original.recipe.max_epochs
    assert result.info["best_epoch"] == result.cost.epochs
    assert {"validation/ndcg_10", "validation/recall_10", "forget_tune/hit_10"} <= set(result.history[-1])
    assert isinstance(result.scorer, Scorer)


def test_a_request_that_leaves_no_validation_target_is_an_error_of_ours(small, coloured, tmp_path):
    data = small.make_data([*small.random_events(20, 10), ("short", "i0", 0), ("short", "i1", 1)])
    file = small.write_request(tmp_path / "r.csv", [(u,) for u in data.users["user_id"] if u != "short"], "user_id")
    request = small.users_request(file=file)
    world = small.make_world(data, request, tmp_path)
    assert len(world.request.queries("validation")) == 0
    assert len(world.request.queries("test")) == 0
    with pytest.raises(SrunError, match="validation"):
        world.run("retrain", tmp_path)
