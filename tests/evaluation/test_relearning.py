"""Relearning: what is trained on and what is asked, masks are lifted, and the model that is judged stays as it is."""

import math

import numpy as np
import pytest
import torch

from srun.config import build
from srun.data.batches import Cycle
from srun.evaluation import relearning
from srun.evaluation.relearning import WAYS, RelearningConfig, looks, related_events, relearn, split_events
from srun.metrics.ranking import hit
from srun.models.scorer import Scorer, clone_model
from srun.rng import Streams
from srun.training.fit import TrainConfig


@pytest.fixture(scope="module")
def world(worlds):
    return worlds["category", False]


def settings(**changes):
    values = {"kinds": ("category",), "ways": WAYS, "share": 0.3, "max_epochs": 4, "max_queries": 50}
    return RelearningConfig(**{**values, **changes})


def run(world, scorer, **changes):
    recipe = build(TrainConfig, world.original.info["train"], "train")
    return relearn(scorer, world.request, recipe, settings(**changes), 0, scorer.device, 64)


def test_what_comes_back_is_not_what_is_asked(world):
    returned, asked = split_events(world.request, settings(), 0)
    report = world.request.queries("forget_report")
    assert len(returned) == round(0.3 * len(report))
    assert set(returned.event) <= set(report.event)
    assert set(asked.event) <= set(report.event) - set(returned.event)
    assert len(asked) == min(50, len(report) - len(returned))
    assert len(split_events(world.request, settings(max_queries=5), 0)[1]) == 5


def test_the_first_look_is_the_model_itself_without_masks(world, small, tmp_path):
    masked = world.run("output_mask", tmp_path).scorer
    before = small.weight_bytes(masked)
    one, two = run(world, world.original.scorer), run(world, masked)
    assert one == two
    _, asked = split_events(world.request, settings(), 0)
    for curve in one.values():
        assert curve.hit_10[0] == hit(world.probe().ranks(Scorer(masked.models), asked).rank, 10)
    assert small.weight_bytes(masked) == before


def test_training_on_events_events_is_on_their_targets_alone(small, coloured, tmp_path):
    """Against a loop written out here: Adam on the cross-entropy of the next item at the last position."""
    world = small.make_world(coloured, small.category_request(), tmp_path)
    model = clone_model(world.original.model).eval()  # without dropout
    returned, _ = split_events(world.request, settings(), 0)
    recipe = small.recipe(batch_size=8)
    steps = relearning._on_events(model, returned, world.request, recipe, Streams(0))
    for _ in range(3):
        next(steps)
    other = clone_model(world.original.model).eval()
    optimiser = torch.optim.Adam(other.parameters(), lr=recipe.learning_rate)
    rows = Cycle(len(returned), 8, Streams(0)["batches"])
    for _ in range(3):
        chosen = rows.next().numpy()
        queries = returned.select(chosen)
        optimiser.zero_grad()
        histories = torch.from_numpy(queries.histories(model.max_length).astype(np.int64))
        scores = other.last_state(other.prediction_inputs(histories)) @ other.output_weight.T
        torch.nn.functional.cross_entropy(
            scores[:, 1:], torch.from_numpy(queries.target.astype(np.int64)) - 1
        ).backward()
        optimiser.step()
    assert torch.allclose(model.embedding.weight, other.embedding.weight, atol=1e-5)
    assert not torch.allclose(model.embedding.weight, world.original.model.embedding.weight, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_events_that_come_back_are_learned(small, coloured, tmp_path, loss):
    """BERT4Rec too, whose last position is a mask."""
    world = small.make_world(coloured, small.category_request(), tmp_path, "bert4rec", loss=loss)
    model = clone_model(world.original.model)
    returned, _ = split_events(world.request, settings(), 0)
    probe = world.probe()
    before = probe.ranks(Scorer([model]), returned).rank.mean()
    steps = relearning._on_events(model.train(), returned, world.request, small.recipe(loss=loss), Streams(0))
    for _ in range(60):
        next(steps)
    assert probe.ranks(Scorer([model]), returned).rank.mean() < before - 1


def test_the_other_way_sees_the_retain_set_and_its_catalogue_only(world, monkeypatch):
    seen = []

    class Spy(relearning.TrainingData):
        def __init__(self, data, events, catalogue, device):
            seen.append((events, catalogue))
            super().__init__(data, events, catalogue, device)

    monkeypatch.setattr(relearning, "TrainingData", Spy)
    recipe = build(TrainConfig, world.original.info["train"], "train")
    scorer = world.original.scorer
    found = relearn(scorer, world.request, recipe, settings(ways=("retain",)), 0, scorer.device, 64)
    assert list(found) == ["retain"]
    [(events, catalogue)] = seen
    assert np.array_equal(events, world.request.retain)
    assert np.array_equal(catalogue, world.request.catalogue)
    assert len(set(found["retain"].hit_10)) > 1, "training moves it"


def test_the_cap_is_in_passes_over_the_retain_set(world):
    windows = len(relearning.TrainingData(world.data, world.request.retain, None, torch.device("cpu")))
    for max_epochs in (1, 3):
        for curve in run(world, world.original.scorer, max_epochs=max_epochs).values():
            assert curve.steps[-1] == max_epochs * math.ceil(windows / 64)
            assert len(curve.steps) == len(curve.hit_10)


def test_looks():
    assert looks(0) == [0]
    assert looks(3) == [0, 1, 2, 3]
    assert looks(20) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 18, 20]


def test_where_it_is_measured(world, worlds):
    assert run(world, world.original.scorer, kinds=()) == {}
    assert run(world, world.original.scorer, kinds=("users",)) == {}
    assert run(world, Scorer([world.original.model] * 2)) == {}
    other = worlds["interactions", False]
    assert run(other, other.original.scorer) == {}
    assert set(run(other, other.original.scorer, kinds=("interactions",), max_epochs=1)) == set(WAYS)


def test_related_events_are_others_events_of_the_forgotten_items(worlds):
    request = worlds["interactions", False].request
    related, asked = related_events(request), request.queries("forget_report")
    assert len(related)
    assert request.retain[related.event].all()
    assert set(related.target) <= set(request.data.item[request.forget])
    assert not set(related.user) & set(asked.user)
    others = request.retain & ~np.isin(request.data.user, asked.user)
    assert set(request.data.item[others]) - set(related.target), "other items are left out"


def test_where_nobody_keeps_the_category_related_events_are_those_of_the_tune_half(world):
    request = world.request
    assert not np.isin(request.data.item[request.retain], request.data.item[request.forget]).any()
    related = related_events(request)
    assert np.array_equal(related.event, request.queries("forget_tune").event)
    assert not set(related.user) & set(request.queries("forget_report").user)


def test_a_way_with_nothing_to_train_on_is_not_there(world, monkeypatch):
    nothing = world.request.queries("forget_tune").select(np.array([], dtype=np.int64))
    monkeypatch.setattr(relearning, "related_events", lambda request: nothing)
    assert set(run(world, world.original.scorer, max_epochs=1)) == {"retain", "returned"}
