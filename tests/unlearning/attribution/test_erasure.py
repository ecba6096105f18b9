"""Items made untrained and directions taken out: what they change, what they leave, and that they can be undone."""

import json

import pytest
import torch

from srun.errors import CheckpointError, ConfigError
from srun.models.published import load_published, publish
from srun.models.scorer import Scorer, clone_model
from srun.unlearning.attribution import erasure as e
from srun.unlearning.attribution.neurons import Edit

HISTORIES = torch.tensor([[0, 0, 1, 2, 3], [4, 5, 6, 7, 8]])


@pytest.fixture(params=[("bert4rec", {}), ("bert4rec", {"tie_embeddings": False}), ("sasrec", {})], ids=str)
def model(request, small, coloured):
    name, changes = request.param
    return small.random_model(coloured, name, blocks=2, **changes)


@pytest.fixture
def erasure(model):
    directions = tuple(tuple(torch.randn(8, generator=torch.Generator().manual_seed(k)).tolist()) for k in range(2))
    return e.Erasure((Edit(0, 1, 0.0), Edit(1, 2, 0.5)), (3, 7), 5, directions)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


@torch.no_grad()
def state(model):
    return model.last_state(model.prediction_inputs(HISTORIES))


def test_an_erasure_is_undone_errors_or_not(model, erasure):
    before = weights(model)

    def broken():
        with e.erased(model, erasure):
            assert not same(before, weights(model))
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert same(before, weights(model))


def test_a_published_model_says_what_was_erased_and_is_restored(model, erasure, tmp_path):
    original = clone_model(model)
    e.apply(model, erasure)
    publish(tmp_path / "m", Scorer([model]), erasure.describe(), [])
    scorer, info = load_published(tmp_path / "m")
    read = e.Erasure.read(json.loads(json.dumps(info)))
    assert read == erasure
    e.restore(scorer.model, original, read)
    assert same(weights(scorer.model), weights(original))


def test_what_is_not_that_erasure_is_not_restored(model, erasure):
    original = clone_model(model)
    e.apply(model, erasure)
    with torch.no_grad():
        model.embedding.weight[1, 0] += 1e-3  # as a repair does
    changed = weights(model)
    with pytest.raises(CheckpointError, match="cannot be undone"):
        e.restore(model, original, erasure)
    assert same(changed, weights(model))


def test_only_the_named_items_are_drawn_anew(model):
    before = weights(model)
    e.reset_items(model, (3, 7), 0)
    for name, tensor in model.state_dict().items():
        rows = (tensor != before[name]).flatten(1).any(1) if tensor.dim() > 1 else torch.zeros(0)
        expected = [3, 7] if name in ("embedding.weight", "output.weight") else []
        assert rows.nonzero()[:, 0].tolist() == expected, name
    again = clone_model(model)
    e.reset_items(again, (3, 7), 0)
    assert same(weights(model), weights(again)), "the same seed draws the same"
    e.reset_items(again, (3, 7), 1)
    assert not same(weights(model), weights(again))


def test_the_draw_is_that_of_a_new_model(small, coloured):
    model = small.random_model(coloured, hidden=64)
    items = tuple(range(1, model.num_items + 1))
    e.reset_items(model, items, 0)
    drawn = model.embedding.weight.detach()[1 : model.num_items + 1]
    expected = (2 / (model.num_items + 2 + 64)) ** 0.5
    assert float(drawn.std()) == pytest.approx(expected, rel=0.1)


def test_states_that_are_sums_lose_the_direction(small, coloured):
    model = small.random_model(coloured, "bert4rec", blocks=2)
    direction = torch.randn(8, generator=torch.Generator().manual_seed(0))
    for block in model.blocks:
        for bias in (block.outer.bias, block.attention.out.bias):
            torch.nn.init.normal_(bias, generator=torch.Generator().manual_seed(1))
    assert (state(model) @ direction).abs().min() > 1e-4
    e.project_out(model, direction)
    assert (state(model) @ direction / direction.norm()).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["sasrec", "bert4rec"])
def test_behind_a_norm_scores_lose_the_direction(small, coloured, name):
    model = small.random_model(coloured, name, **({"norm_first": False} if name == "bert4rec" else {}))
    direction = torch.randn(8, generator=torch.Generator().manual_seed(0))
    e.project_out(model, direction)
    moved = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(model.scores(moved), model.scores(moved + direction), atol=1e-5)


def test_no_linear_function_tells_apart_what_has_one_mean():
    generator = torch.Generator().manual_seed(0)
    states, inside = torch.randn(200, 6, generator=generator), torch.arange(200) < 80
    states[inside] += torch.tensor([1.0, 0.5, 0.0, 0.0, -2.0, 0.0])
    unit = e.mean_difference(states, inside)
    assert float(unit.norm()) == pytest.approx(1)
    left = states - (states @ unit)[:, None] * unit
    centred = left - left.mean(0)
    assert (centred.T @ (inside.float() - 0.4)).abs().max() < 1e-3, "covariance of every coordinate with the class"


def test_what_cannot_be_done_is_refused(model):
    before = weights(model)
    for items in [(0,), (model.num_items + 1,)]:
        with pytest.raises(ConfigError, match="items are 1"):
            e.reset_items(model, items, 0)
    with pytest.raises(ConfigError, match="length 0"):
        e.project_out(model, torch.zeros(8))
    assert same(before, weights(model))
