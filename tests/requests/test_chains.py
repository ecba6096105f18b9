"""Chains of requests: what the next one forgets, what no earlier event reaches, and what stays as it was drawn."""

import json
from itertools import product

import numpy as np
import pytest

from srun.data.dataset import Role
from srun.errors import DataError
from srun.requests.partition import Partition

CATEGORIES = {f"i{item}": ["red", "green", "red|green", ""][item % 4] for item in range(30)}
KINDS = ("interactions", "users", "category")


@pytest.fixture(scope="module")
def data(small):
    return small.make_data(small.random_events(60, 30), CATEGORIES, calibration_users=0.1, calibration_events=0.5)


def request_of(small, kind, seed):
    if kind == "category":
        return small.category_request(categories=(("red", "green")[seed],), seed=seed)
    return {"interactions": small.interactions_request, "users": small.users_request}[kind](seed=seed)


@pytest.fixture(scope="module", params=list(product(KINDS, KINDS)), ids=" then ".join)
def chain(request, small, data):
    """Two requests of a chain, of every pair of kinds."""
    first, second = request.param
    one = small.carry_out(data, request_of(small, first, 0), "may")
    return one, small.carry_out(data, request_of(small, second, 1), "june", one)


def test_the_second_request_forgets_what_is_new_and_retains_what_nobody_named(data, chain):
    one, two = chain
    train = data.role == Role.TRAIN
    assert not (two.forget & one.forget).any()
    assert (two.retain == train & ~one.removed & ~two.removed).all()
    assert ((two.data.role == Role.FORGOTTEN) == one.forget).all()
    assert two.chain == ["may", "june"]
    assert two.info["num_forgotten_earlier"] == one.forget.sum()


def test_no_event_of_an_earlier_request_is_asked_or_in_a_context_but_where_old_ones_are_asked(chain):
    one, two = chain
    item = two.data.item.copy()
    item[one.removed] = 999  # whatever shows one of them shows this
    seen = Partition(
        **{**vars_of(two), "data": type(two.data)(**{**vars_of(two.data), "item": item})},
    )
    for split, queries in seen.splits.items():
        asked = np.zeros(len(item), dtype=bool)
        asked[queries.event] = True
        if split != "forgotten_earlier":
            assert not (asked & one.removed).any(), split
            assert not (queries.histories(99) == 999).any(), split
    assert not (seen.never_trained(audit=False).histories(99) == 999).any()


def vars_of(instance):
    return {name: getattr(instance, name) for name in type(instance).__dataclass_fields__}


def test_old_events_are_asked_for_after_what_their_users_retain_or_else_after_their_own(data, chain):
    one, two = chain
    old = two.queries("forgotten_earlier")
    assert set(old.event) <= set(np.flatnonzero(one.forget))
    assert len(old) > 0.5 * len(one.forget_queries())
    keeps = np.zeros(data.num_users, dtype=bool)
    keeps[data.user[two.retain]] = True
    for index in range(len(old)):
        user, event = old.user[index], old.event[index]
        known = two.retain if keeps[user] else one.forget & ~two.retain
        before = [data.item[e] for e in range(data.offsets[user], event) if known[e]]
        assert old.items[old.start[index] : old.stop[index]].tolist() == before


def test_a_chain_is_read_as_it_was_written(data, chain, tmp_path):
    two = chain[1]
    two.save(tmp_path / "june")
    read = Partition.load(tmp_path / "june", data)
    assert (read.data.role == two.data.role).all()
    assert (read.gone == two.gone).all()
    assert read.info == json.loads(json.dumps(two.info))
    for split, queries in two.splits.items():
        assert (read.splits[split].event == queries.event).all()
        assert (read.splits[split].histories(9) == queries.histories(9)).all()


def test_the_halves_of_what_was_set_aside_stay(chain):
    one, two = chain
    for audit in (False, True):
        before, after = (set(request.never_trained(audit=audit).event) for request in (one, two))
        assert after <= before


def test_a_request_without_earlier_ones_has_nothing_of_a_chain(small, data, tmp_path):
    one = small.carry_out(data, small.interactions_request(), "may")
    assert "forgotten_earlier" not in one.splits
    assert "after" not in one.info
    assert one.chain == ["may"]
    assert one.gone is one.removed


def test_a_third_request_forgets_neither_of_two(small, data, chain):
    one, two = chain
    three = small.carry_out(data, small.interactions_request(seed=7), "july", two)
    assert three.chain == ["may", "june", "july"]
    assert not (three.forget & (one.forget | two.forget)).any()
    assert ((three.data.role == Role.FORGOTTEN) == (one.forget | two.forget)).all()


def test_a_request_for_what_is_forgotten_already_says_so(small, data):
    one = small.carry_out(data, small.interactions_request(), "may")
    with pytest.raises(DataError, match=r"nothing to unlearn, or request \"may\" before it forgot that already"):
        small.carry_out(data, small.interactions_request(), "june", after=replace_removed(one))


def replace_removed(one):
    """A request before that forgot everything that the same draw can take of what is left: all training events."""
    train = one.data.role == Role.TRAIN
    return Partition(**{**vars_of(one), "removed": train})


def test_a_row_that_an_earlier_request_carried_out_is_told_as_forgotten(small, data, tmp_path):
    one = small.carry_out(data, small.interactions_request(), "may")
    train = data.role == Role.TRAIN
    events = [np.flatnonzero(one.forget)[0], np.flatnonzero(train & ~one.forget)[0]]
    rows = [
        (data.users["user_id"][data.user[e]], data.items["item_id"][data.item[e] - 1], data.time[e]) for e in events
    ]
    file = small.write_request(tmp_path / "june.csv", rows)
    two = small.carry_out(data, small.interactions_request(file=file), "june", one)
    assert two.rows[["outcome", "reason"]].values.tolist() == [
        ["forgotten", "by an earlier request"],
        ["forgotten", ""],
    ]
    assert two.forget.sum() == 1
