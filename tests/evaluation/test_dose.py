"""Lists, dose and response, and what categories share: by hand and against ranks."""

import math

import numpy as np
import pytest
import torch

from srun.evaluation.dose import collateral_loss, dose_response, overlap
from srun.evaluation.ranking import RankingTask
from srun.models.scorer import Scorer
from srun.unlearning.attribution.neurons import Edit, Neuron


@pytest.fixture(scope="module")
def asked(worlds):
    """A model, and the queries in and out of the category, of find users."""
    world = worlds["category", False]
    splits = [world.request.queries(f"{side}_category_tune") for side in ("in", "out_of")]
    return world, world.original.model, *splits


def task(world, queries, batch_size=7):
    return RankingTask.make(queries, world.data.max_length, torch.device("cpu"), batch_size)


def naive_top(model, query, k):
    """The best k items of one query, by a plain sort."""
    scores = Scorer([model]).scores(
        torch.from_numpy(query.histories(model.max_length).astype(np.int64)), torch.tensor([0])
    )
    context = set(query.items[query.start[0] : query.stop[0]].tolist()) - {int(query.target[0])}
    ranked = sorted(range(1, model.num_items + 1), key=lambda item: -float(scores[0, item]))
    return [item for item in ranked if item not in context][:k]


def test_lists_are_the_best_candidates(asked):
    world, model, inside, _ = asked
    lists = task(world, inside).top(Scorer([model]), 5)
    one_by_one = [naive_top(model, inside.select(np.array([row])), 5) for row in range(len(inside))]
    assert lists.tolist() == one_by_one


def test_a_target_is_in_its_list_when_its_rank_says_so(asked):
    world, model, _, outside = asked
    lists = task(world, outside).top(Scorer([model]), 10)
    ranks = task(world, outside).ranks(Scorer([model])).rank
    assert ((lists == outside.target[:, None]).any(1) == (ranks <= 10)).all()


def test_empty_places_are_zero(asked):
    world, model, inside, _ = asked
    lists = task(world, inside).top(Scorer([model]), 10**6)
    assert lists.shape[1] == world.data.num_items
    assert ((lists == 0).sum(1) > 0).all()  # items of the context are no candidates
    assert task(world, inside.select(np.array([], dtype=np.int64))).top(Scorer([model]), 3).shape == (0, 3)


def test_dose_and_response(asked, small):
    world, model, inside, outside = asked
    before = small.weight_bytes(Scorer([model]))
    neurons = [Neuron(0, unit) for unit in range(8)]
    red = world.data.categories["red"]
    rows = dose_response(model, neurons, 0.0, [0, 2, 99], task(world, inside), task(world, outside), red)
    assert [row["num_neurons"] for row in rows] == [0, 2, 8]
    assert rows[0]["removal_rate_10"] == rows[0]["list_removal_rate_10"] == 0
    assert rows[0]["hit_10_kept"] == rows[0]["ndcg_10_kept"] == 1
    for row in rows:
        assert row["removal_rate_10"] == pytest.approx(1 - row["hit_10_in_category"] / rows[0]["hit_10_in_category"])
        assert row["hit_10_kept"] == pytest.approx(row["hit_10_out_of_category"] / rows[0]["hit_10_out_of_category"])
    assert rows[0] != rows[2]
    assert small.weight_bytes(Scorer([model])) == before
    left = dose_response(model, neurons, 1.0, [8], task(world, inside), task(world, outside), red)
    assert left[0]["hit_10_in_category"] == rows[0]["hit_10_in_category"]


def test_collateral_loss_reads_targets_by_category(asked):
    world, model, inside, outside = asked
    members = {name: world.data.categories[name] for name in ("red", "green")}
    edits = {"red": [Edit(0, unit, 0.0) for unit in range(8)], "green": []}
    loss = collateral_loss(model, edits, members, task(world, outside))
    assert math.isnan(loss["red"]["red"])  # no target outside the category is in it
    rows = dose_response(
        model, [Neuron(0, u) for u in range(8)], 0.0, [8], task(world, inside), task(world, inside), members["red"]
    )
    loss = collateral_loss(model, edits, members, task(world, inside))
    assert loss["red"]["red"] == rows[0]["removal_rate_10"]
    assert loss["green"]["red"] == 0  # an empty edit costs nobody anything


def test_collateral_loss_of_a_category_is_that_of_its_queries_alone(asked):
    """A task may rank its queries in any order: targets of other categories, asked beside, change nothing."""
    world, model, *_ = asked
    queries = world.request.queries("test_raw")
    members = {name: world.data.categories[name] for name in ("red", "green")}
    edits = {name: [Edit(0, unit, 0.0) for unit in range(8)] for name in members}
    whole = collateral_loss(model, edits, members, task(world, queries))
    assert (np.diff(queries.stop - queries.start) < 0).any()
    for name, items in members.items():
        part = collateral_loss(model, edits, members, task(world, queries.select(items[queries.target])))
        assert part["red"][name] == whole["red"][name]
    assert any(whole["red"].values())


def test_overlap_by_hand():
    a, b, c = Neuron(0, 1), Neuron(0, 2), Neuron(1, 1)
    table = overlap({"x": [a, b, c], "y": [b], "z": []})
    assert table["x"] == {"x": 1, "y": pytest.approx(1 / 3), "z": 0}
    assert table["y"] == {"x": 1, "y": 1, "z": 0}
    assert all(math.isnan(value) for value in table["z"].values())
