"""Attribution as a method: whose sequences it reads, what it edits, and its control."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from srun.data.dataset import Role
from srun.errors import ConfigError, DataError
from srun.models.scorer import Scorer
from srun.requests.partition import TUNE
from srun.system.meter import Meter
from srun.unlearning.attribution.integrated_gradients import attribute
from srun.unlearning.attribution.neurons import Edit, Neuron, Shared, apply, read_edits, select
from srun.unlearning.attribution.privacy import attribute_queries, find_sequences


@pytest.fixture(scope="module")
def category_world(worlds):
    return worlds["category", False]


def test_sequences_are_the_last_training_transitions_of_find_users(category_world):
    request, data = category_world.request, category_world.data
    queries = request.queries("forget_tune")
    [rows] = find_sequences(request, None, 0).values()
    chosen = queries.select(rows)
    red = data.categories["red"]
    assert (data.role[chosen.event] == Role.TRAIN).all()
    assert (request.group[chosen.user] == TUNE).all()
    assert red[chosen.target].all()
    assert not any(red[chosen.items[a:b]].any() for a, b in zip(chosen.start, chosen.stop, strict=True))
    for user in np.unique(queries.user):
        assert (chosen.event[chosen.user == user] == queries.event[queries.user == user].max()).all()
    assert len(chosen) == len(np.unique(queries.user))


def test_a_sample_is_drawn_by_seed(category_world):
    whole, *some = (
        find_sequences(category_world.request, size, seed)["red"] for size, seed in [(None, 0), (7, 0), (7, 0), (7, 1)]
    )
    assert all(len(rows) == 7 and set(rows) <= set(whole) for rows in some)
    assert some[0].tolist() == some[1].tolist() != some[2].tolist()
    assert (np.diff(some[0]) > 0).all()


def test_several_categories_are_looked_at_one_by_one(small, coloured, category_world, tmp_path):
    request = small.carry_out(coloured, small.category_request(categories=("red", "green")))
    both = replace(category_world, request=request)
    result = both.run("attribution", tmp_path)
    sequences = find_sequences(request, None, 0)
    assert set(sequences) == set(result.info["categories"]) == {"red", "green"}
    targets = request.queries("forget_tune").target
    for category, rows in sequences.items():
        assert coloured.categories[category][targets[rows]].all()
        assert result.info["categories"][category]["num_sequences"] == len(rows)
    neurons = {tuple(pair) for one in result.info["categories"].values() for pair in one["neurons"]}
    assert {(edit["layer"], edit["unit"]) for edit in result.info["edits"]} == neurons
    red_only = {tuple(pair) for pair in result.info["categories"]["red"]["neurons"]}
    assert red_only <= neurons


def test_the_result_is_original_with_the_edits_it_lists(small, category_world, tmp_path):
    result = category_world.run("attribution", tmp_path, privacy_mode="fixed", privacy_threshold=10, scale=0.5)
    edits = read_edits(result.info)
    assert edits
    assert {edit.scale for edit in edits} == {0.5}
    expected = {name: tensor.clone() for name, tensor in category_world.original.model.state_dict().items()}
    for edit in edits:
        expected[f"blocks.{edit.layer}.outer.weight"][:, edit.unit] *= 0.5
    for name, tensor in result.scorer.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_the_info_allows_another_selection_without_another_attribution(category_world, tmp_path):
    first = category_world.run("attribution", tmp_path, privacy_mode="fixed", privacy_threshold=50)
    info = first.info["categories"]["red"]
    shared = Shared.read(info["shared"])
    for threshold, p in [(0.3, 25), (0.6, 10)]:
        there = category_world.run(
            "attribution", tmp_path, attribution_threshold=threshold, privacy_mode="fixed", privacy_threshold=p
        )
        here = select(shared.at(threshold), shared.num_sequences, "fixed", p)
        assert [[one.layer, one.unit] for one in here.neurons] == there.info["categories"]["red"]["neurons"]


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "single"},
        {"rule": "left"},
        {"steps": 1},
        {"attribution_threshold": 0.9},
        {"privacy_mode": "fixed", "privacy_threshold": 90},
        {"privacy_threshold": 10},
        {"scale": 0.5},
        {"max_sequences": 5},
    ],
    ids=str,
)
def test_every_setting_changes_the_result(category_world, tmp_path, changes):
    # many neurons in many sequences, so that P matters
    base = {"attribution_threshold": 0.05}
    one = category_world.run("attribution", tmp_path, **base)
    two = category_world.run("attribution", tmp_path, **{**base, **changes})
    assert one.info != two.info


def test_cost_is_a_pass_by_sequence_layer_and_step(small, category_world):
    world = category_world
    rows = find_sequences(world.request, None, 0)["red"]
    queries = world.request.queries("forget_tune").select(rows)
    positions = int((queries.histories(world.data.max_length) != 0).sum())
    layers, units = 1, 8
    joint, single = Meter(), Meter()
    for meter, path in ((joint, "joint"), (single, "single")):
        settings = small.method_settings("attribution", steps=5, path=path)
        attribute_queries(settings, world.original.model, queries, meter)
    assert joint.cost.target_gradients == pytest.approx(positions * layers * (5 + (1 / layers + 2) / 3))
    assert single.cost.target_gradients == pytest.approx(
        positions * layers * (5 * units + (1 / layers + 1 + units) / 3)
    )
    assert joint.cost.steps == 0


def test_few_users_have_no_find_part(small, coloured, category_world, tmp_path):
    some = tuple(coloured.users["user_id"][:3])
    world = replace(category_world, request=small.carry_out(coloured, small.category_request(users=some)))
    with pytest.raises(DataError, match="find part"):
        world.run("attribution", tmp_path)


def test_a_unit_planted_for_a_category_is_found(small, coloured):
    """A last block in which one unit alone raises red items: it has the largest attribution for red targets."""
    model = small.random_model(coloured, "sasrec")
    red = torch.from_numpy(coloured.categories["red"])
    block = model.blocks[0]
    with torch.no_grad():
        direction = model.output_weight[red].mean(0) - model.output_weight[1:][~red[1:]].mean(0)
        block.inner.bias[5] = 3.0  # active whatever the history is
        block.outer.weight[:, 5] = 3 * direction / direction.norm()
    histories = torch.randint(1, coloured.num_items, (20, 5), generator=torch.Generator().manual_seed(0))
    targets = red.nonzero()[:, 0][torch.arange(20) % int(red.sum())]
    found = attribute(model, histories, targets, "joint", "gauss_legendre", 20)
    assert found.values.flatten(1).argmax(1).mode().values.item() == 5
    before = found.probability.mean()
    apply(model, [Edit(0, 5, 0.0)])
    after = attribute(model, histories, targets, "joint", "gauss_legendre", 1).probability.mean()
    assert after < before


def test_random_neurons_are_as_many_and_depend_on_the_seed(category_world, tmp_path):
    settings = {"privacy_mode": "fixed", "privacy_threshold": 20}
    found = read_edits(category_world.run("attribution", tmp_path, **settings).info)
    draws = [read_edits(category_world.run("random_neurons", tmp_path, seed=s, **settings).info) for s in range(6)]
    assert {len(edits) for edits in draws} == {len(found)}
    assert len({tuple(edits) for edits in draws}) > 1
    assert all(edits == sorted(set(edits)) for edits in draws)


def test_a_given_number_of_random_neurons_needs_no_attribution(category_world, tmp_path):
    result = category_world.run("random_neurons", tmp_path, num_neurons=3, scale=0.25)
    edits = read_edits(result.info)
    assert len(edits) == 3
    assert {edit.scale for edit in edits} == {0.25}
    assert result.cost.target_gradients == 0
    everything = read_edits(category_world.run("random_neurons", tmp_path, num_neurons=10**6).info)
    assert [Neuron(edit.layer, edit.unit) for edit in everything] == [Neuron(0, unit) for unit in range(8)]


@pytest.mark.parametrize("model", ["gru4rec", "caser"])
def test_recommenders_without_neurons_are_refused_by_name(small, category_world, tmp_path, model):
    original = small.random_model(category_world.data, model)
    world = replace(category_world, original=replace(category_world.original, scorer=Scorer([original])))
    number = {"num_neurons": 3}
    methods = {"attribution": {}, "attribution_plus": {}, "random_neurons": number, "largest_neurons": number}
    for method, settings in methods.items():
        with pytest.raises(ConfigError, match=f"{type(original).__name__} has no feed-forward neurons"):
            world.run(method, tmp_path / method, **settings)
