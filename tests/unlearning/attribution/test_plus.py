"""attribution_plus: every option does something, choices see find users only, and its parts by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from srun.config import read_yaml
from srun.data.dataset import Role
from srun.models.scorer import Scorer, clone_model
from srun.requests.partition import REPORT, category_items
from srun.system.meter import Meter
from srun.unlearning.attribution import erasure
from srun.unlearning.attribution.integrated_gradients import neuron_values
from srun.unlearning.attribution.neurons import Neuron
from srun.unlearning.attribution.plus import INSIDE, OUTSIDE, contrast, forgotten_items
from srun.unlearning.controls.largest_neurons import most_active

NOTHING = {"neurons": "none", "items": "keep", "directions": 0, "finetune_steps": 0}
FEW = {"neurons": "joint", "max_loss": 0.99, "max_neurons": 8}  # so that their order matters


@pytest.fixture(scope="module")
def bert(small, coloured, tmp_path_factory):
    """A category request to a BERT4Rec, whose states are sums."""
    return small.make_world(coloured, small.category_request(), tmp_path_factory.mktemp("bert"), "bert4rec")


@pytest.fixture(scope="module")
def lively(bert):
    """The same with neurons that count, so that the path from 0 to their values is far from straight."""
    model = clone_model(bert.original.model)
    for block in model.neuron_blocks:
        block.outer.weight.data *= 20
    return replace(bert, original=replace(bert.original, scorer=Scorer([model])))


def test_contrast_by_hand():
    inside = torch.tensor([[4.0, 1.0], [3.0, -2.0]])  # shares .4 .1 .3 -.2
    outside = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # shares .5 0 0 .5
    assert contrast(inside, outside, None) == [Neuron(1, 0), Neuron(0, 1)]
    both = torch.tensor([[3.0, 2.0], [1.0, 0.0]])
    assert contrast(both, torch.zeros(2, 2), None) == [Neuron(0, 0), Neuron(0, 1), Neuron(1, 0)]
    assert contrast(both, torch.zeros(2, 2), 1) == [Neuron(0, 0), Neuron(1, 0)]


def test_nothing_changes_nothing(small, bert, tmp_path):
    result = bert.run("attribution_plus", tmp_path, **NOTHING)
    assert small.weight_bytes(result.scorer) == small.weight_bytes(bert.original.scorer)
    assert result.info["edits"] == []


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ({}, {"items": "reset"}),
        ({}, {"directions": 1}),
        ({"directions": 1}, {"directions": 2}),
        ({}, {"finetune_steps": 2}),
        ({"finetune_steps": 2}, {"learning_rate": 0.01}),
        ({"finetune_steps": 2}, {"batch_size": 5}),
        ({"neurons": "joint", "max_loss": 0.99}, {"neurons": "shared"}),
        ({"neurons": "joint", "max_loss": 0.99}, {"max_neurons": 3}),
        ({"neurons": "joint", "max_loss": 0.99}, {"max_neurons_per_layer": 2}),
        ({"neurons": "joint", "max_loss": 0.99}, {"scale": 0.5}),
        (FEW, {"max_loss": 0.0}),
        ({"neurons": "shared"}, {"scale": 0.5}),
        ({"neurons": "shared"}, {"max_sequences": 3}),
        ({"neurons": "shared", "privacy_mode": "fixed"}, {"attribution_threshold": 0.02}),
        ({"neurons": "shared", "privacy_mode": "fixed"}, {"privacy_threshold": 5}),
        ({"neurons": "shared"}, {"privacy_mode": "fixed"}),
    ],
    ids=str,
)
def test_every_option_does_something(small, bert, tmp_path, base, change):
    one, two = (
        bert.run("attribution_plus", tmp_path / name, **{**NOTHING, **values})
        for name, values in (("a", base), ("b", {**base, **change}))
    )
    assert small.weight_bytes(one.scorer) != small.weight_bytes(two.scorer)


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (FEW, {"path": "single"}),
        ({**FEW, "steps": 1}, {"rule": "left"}),
        ({**FEW, "rule": "left"}, {"steps": 1}),
        (FEW, {"max_sequences": 3}),
    ],
    ids=str,
)
def test_every_option_of_attribution_changes_which_neurons_are_taken(lively, tmp_path, base, change):
    one, two = (
        lively.run("attribution_plus", tmp_path / name, **{**NOTHING, **values})
        for name, values in (("a", base), ("b", {**base, **change}))
    )
    assert one.info["edits"] != two.info["edits"]


def test_without_directions_only_items_are_reset(small, bert, tmp_path):
    """``directions: 0``: no state is looked at, none is projected, and the rest is as it would be."""
    result = bert.run("attribution_plus", tmp_path, **{**NOTHING, "items": "reset"})
    assert result.info["erasure"]["directions"] == []
    assert (result.cost.target_gradients, result.cost.steps, result.cost.scored_positions) == (0, 0, 0)
    expected = clone_model(bert.original.model)
    erasure.reset_items(expected, forgotten_items(bert.request), 0)
    assert small.weight_bytes(result.scorer) == small.weight_bytes(Scorer([expected]))
    assert small.weight_bytes(result.scorer) != small.weight_bytes(bert.original.scorer)
    model = result.scorer.model
    erasure.restore(model, clone_model(bert.original.model), erasure.Erasure.read(result.info))
    assert small.weight_bytes(result.scorer) == small.weight_bytes(bert.original.scorer)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_as_many_directions_as_are_asked_for(bert, tmp_path, number):
    result = bert.run("attribution_plus", tmp_path, **{**NOTHING, "directions": number})
    assert len(result.info["erasure"]["directions"]) == number
    assert result.cost.target_gradients == pytest.approx(number * _forward_cost(bert))


def _forward_cost(world) -> float:
    """A third of the positions of both sides' validation targets of find users, masks among them."""
    queries = [world.request.queries(split) for split in (INSIDE, OUTSIDE)]
    return sum(np.minimum(q.stop - q.start, world.data.max_length).sum() for q in queries) / 3


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_as_many_steps_of_repair_as_are_asked_for(bert, tmp_path, steps):
    assert bert.run("attribution_plus", tmp_path, **{**NOTHING, "finetune_steps": steps}).cost.steps == steps


def test_the_ablation_tries_every_option_that_the_block_has(small):
    entries = read_yaml(small.ROOT / "benchmarks/search/entries/attribution_plus.yaml")
    for changes in entries.values():
        small.method_settings("attribution_plus", **changes)
    tried = {key for changes in entries.values() for key in changes}
    assert tried == small.PARAMS["unlearn"]["attribution_plus"].keys()


def test_the_bound_holds_on_validation_targets_of_find_users(bert, tmp_path):
    probe = bert.probe()
    before = probe(bert.original.scorer, "out_of_category_tune")
    loose = bert.run("attribution_plus", tmp_path / "a", **{**NOTHING, "neurons": "joint", "max_loss": 0.99})
    tight = bert.run("attribution_plus", tmp_path / "b", **{**NOTHING, "neurons": "joint", "max_loss": 0.0})
    after = probe(tight.scorer, "out_of_category_tune")
    assert all(after[name] >= before[name] for name in before)
    assert len(tight.info["edits"]) <= len(loose.info["edits"])
    assert len(loose.info["edits"]) > 0


def test_report_users_decide_nothing(bert, tmp_path):
    """Shuffling their held-out targets changes no weight."""
    request = bert.request
    data = request.data
    report = request.group[data.user] == REPORT
    held_out = report & np.isin(data.role, (Role.VALIDATION, Role.TEST))
    items = data.item.copy()
    items[held_out] = np.roll(items[held_out], 1)
    other = replace(bert, request=replace(request, data=replace(data, item=items)))
    settings = {"neurons": "joint", "max_loss": 0.5}
    one, two = (w.run("attribution_plus", tmp_path / n, **settings) for n, w in (("a", bert), ("b", other)))
    assert one.info["erasure"]["directions"] == two.info["erasure"]["directions"]
    assert one.info["edits"] == two.info["edits"]


def test_without_a_repair_it_can_be_undone(small, bert, tmp_path):
    result = bert.run("attribution_plus", tmp_path, neurons="shared", finetune_steps=0)
    model, original = result.scorer.model, clone_model(bert.original.model)
    erasure.restore(model, original, erasure.Erasure.read(result.info))
    assert small.weight_bytes(result.scorer) == small.weight_bytes(bert.original.scorer)


def test_items_of_users_who_keep_them_are_kept(small, coloured):
    inside = category_items(coloured, ["red"])
    whole = small.carry_out(coloured, small.category_request())
    assert forgotten_items(whole) == tuple(np.flatnonzero(inside & (np.arange(len(inside)) > 0)).tolist())
    some = tuple(coloured.users["user_id"][:25])
    named = small.carry_out(coloured, small.category_request(users=some))
    retained = set(coloured.item[named.retain].tolist())
    assert not retained & set(forgotten_items(named))
    assert len(forgotten_items(named)) < len(forgotten_items(whole))


def test_values_are_what_the_block_computes(small, coloured):
    model = small.random_model(coloured, "bert4rec", blocks=2)
    histories = torch.tensor([[0, 0, 1, 2, 3], [4, 5, 6, 7, 8]])
    seen = []
    hooks = [block.outer.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for block in model.blocks]
    with torch.no_grad():
        model.hidden(model.prediction_inputs(histories))
    for hook in hooks:
        hook.remove()
    expected = torch.stack([values[:, -1] for values in seen], 1)
    assert torch.allclose(neuron_values(model, histories, batch_size=1), expected, atol=1e-6)


def test_the_most_active_come_first_and_draws_differ(bert):
    first, other = (most_active(bert.original.model, bert.request, seed, Meter()) for seed in (0, 1))
    assert sorted(first) == sorted(other)
    assert len(set(first)) == len(first) == 32
    assert first != other
