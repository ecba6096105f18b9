"""Contexts that nobody trained on are what they say, and memory of the exact question does not hide in them."""

import numpy as np
import pytest
import torch

from srun.evaluation.held_contexts import held_contexts, measure_contexts
from srun.evaluation.side_effects import nearest_items
from srun.unlearning.closed_form.features import RetainedFeatures

CPU = torch.device("cpu")


@pytest.fixture
def features(world):
    return RetainedFeatures(world.request, 0)


@pytest.fixture
def ways(world, features):
    return held_contexts(world.request, features, np.random.default_rng(0))


def context(queries, row):
    return queries.items[queries.start[row] : queries.stop[row]].tolist()


def rows_of(queries, other):
    """(row, row of the same event in ``other``)"""
    place = {int(event): row for row, event in enumerate(other.event)}
    return [(row, place[int(event)]) for row, event in enumerate(queries.event)]


def test_a_subsequence_keeps_some_items_in_their_order(world, ways):
    whole, shorter = world.request.queries("forget_report"), 0
    for row, own in rows_of(ways["subsequences"], whole):
        left = iter(context(whole, own)[-world.data.max_length :])
        part = context(ways["subsequences"], row)
        assert part
        assert all(item in left for item in part)
        shorter += len(part) < whole.stop[own] - whole.start[own]
    assert shorter


def test_a_substitute_is_the_nearest_item_and_never_the_target(world, ways, features):
    whole, replaced = world.request.queries("forget_report"), 0
    for row, own in rows_of(ways["substituted"], whole):
        before, after = context(whole, own)[-world.data.max_length :], context(ways["substituted"], row)
        target = int(ways["substituted"].target[row])
        assert target not in after
        if target in before or len(before) != len(after):
            continue
        for old, new in zip(before, after, strict=True):
            assert new == old or new in nearest_items(features, np.array([old]), 2)[0]
            replaced += new != old
    assert replaced


def test_other_users_histories_lead_to_the_same_item_and_were_retained(world, ways):
    whole, others = world.request.queries("forget_report"), ways["other_users"]
    assert len(others)
    assert world.request.retain[others.event].all()
    assert set(others.target.tolist()) <= set(whole.target.tolist())
    owners = {item: set(whole.user[whole.target == item].tolist()) for item in whole.target.tolist()}
    for item, user in zip(others.target.tolist(), others.user.tolist(), strict=True):
        assert owners[item] != {user}, "nobody's own history stands for another's"


def test_figures_are_of_the_ways_that_have_events(world, ways):
    figures = measure_contexts(world.original.scorer, ways, 64, CPU, np.random.default_rng(0))
    assert set(figures) == {f"{way}_{name}" for way in ways for name in ("hit_10", "z_rank")}
    for figure in figures.values():
        assert figure.low <= figure.value <= figure.high
    assert 0 <= figures["subsequences_hit_10"].value <= 1
    empty = ways["subsequences"].select(np.zeros(0, dtype=np.int64))
    assert measure_contexts(world.original.scorer, {"subsequences": empty}, 64, CPU, np.random.default_rng(0)) == {}
