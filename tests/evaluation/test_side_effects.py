"""Who is looked at, by hand, and figures of made-up models."""

import math

import numpy as np
import pytest
import torch

from srun.evaluation.side_effects import (
    SideEffects,
    long_tail,
    nearest_items,
    neighbours_of_forgotten,
    similar_users,
    worst_users,
)
from srun.metrics.memory import z_rank
from srun.metrics.ranking import ndcg
from srun.requests.partition import Partition
from srun.unlearning.closed_form.features import RetainedFeatures

CPU = torch.device("cpu")


def test_the_worst_tenth_is_of_users_not_of_events():
    values = np.array([0.0, 10.0, 1.0, 1.0, *np.full(18, 5.0)])
    users = np.array([0, 0, 1, 1, *range(2, 20)])
    rng = np.random.default_rng(0)
    assert worst_users(values, users, rng).value == (1 + 5) / 2, "20 users: the two of lowest mean"
    assert worst_users(np.array([3.0, 1.0]), np.array([4, 5]), rng).value == 1
    assert math.isnan(worst_users(np.zeros(0), np.zeros(0, dtype=int), rng).value)


def test_the_long_tail_is_the_rarest_items_with_a_fifth_of_the_events():
    popularity = np.array([99, 50, 6, 0, 10, 34])  # item 0 is padding; items 3, 2 and 4 have 16 of 100
    assert np.flatnonzero(long_tail(popularity)).tolist() == [2, 3, 4]


@pytest.fixture
def request_by_hand(small):
    """Items i0 and i1 go together, and i2 and i3; user 0 forgets i0."""
    data = small.make_data(small.log_of([[0, 1, 2, 1, 3], [0, 1, 0, 1, 0], [2, 3, 2, 3, 2], [0, 1, 0, 3, 1]]))
    removed = np.zeros(data.num_events, dtype=bool)
    removed[0] = True
    return Partition.by_mask(data, removed)


def test_similar_users_have_most_in_common_with_one_who_forgot(request_by_hand):
    users = similar_users(request_by_hand)
    assert users.sum() == 1, "a tenth of three, at least one"
    assert not users[0], "who forgot is not similar"
    data, kept = request_by_hand.data, request_by_hand.retain
    sets = [set(data.item[kept & (data.user == user)]) for user in range(4)]
    cosines = [len(sets[0] & sets[user]) / math.sqrt(len(sets[0]) * len(sets[user])) for user in (1, 2, 3)]
    assert int(np.flatnonzero(users)[0]) == 1 + int(np.argmax(cosines))


def test_neighbours_are_near_in_retained_data_and_not_forgotten(world):
    features = RetainedFeatures(world.request, 0)
    item = int(world.data.item[world.request.forget][0])
    nearest = nearest_items(features, np.array([item]), 3)[0]
    cosines = features.unit @ features.unit[item]
    assert item not in nearest
    assert 0 not in nearest
    others = np.setdiff1d(np.arange(1, world.data.num_items + 1), [item, *nearest])
    assert cosines[nearest].min() >= cosines[others].max()
    inside = neighbours_of_forgotten(world.request, features)
    assert not inside[np.unique(world.data.item[world.request.forget])].any()
    assert not inside[0]


def test_figures_are_of_the_test_targets_that_are_looked_at(world):
    features = RetainedFeatures(world.request, 0)
    effects = SideEffects.of(world.request, features, 64, CPU)
    bounded = effects.measure(world.original.scorer, np.random.default_rng(0))
    figures = {name: figure.value for name, figure in bounded.items()}
    ranks, rare = effects.task.ranks(world.original.scorer).rank, effects.parts["long_tail"]
    assert rare.any()
    assert figures["long_tail_ndcg_10"] == ndcg(ranks[rare], 10)
    assert figures["long_tail_z_rank"] == pytest.approx(z_rank(ranks[rare], world.data.num_items).mean())
    lists = effects.task.top(world.original.scorer, 10)
    assert figures["coverage_10"] == len(set(lists.ravel().tolist()) - {0}) / world.data.num_items
    assert figures["popularity_10"] == pytest.approx(np.log1p(features.popularity[lists[lists > 0]]).mean())
    assert figures["worst_users_z_rank"] <= z_rank(ranks, world.data.num_items).mean()
    assert [name for name, figure in bounded.items() if np.isnan(figure.low)] == ["coverage_10"]
    for name in set(bounded) - {"coverage_10"}:
        assert bounded[name].low <= figures[name] <= bounded[name].high, name
