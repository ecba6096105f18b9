"""Negatives, batches and the endless cycle."""

import functools
import operator
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srun.data import batches
from srun.data.batches import Cycle, TrainingData
from srun.data.dataset import Role
from srun.errors import DataError, SrunError
from srun.requests.partition import partition

SEQUENCES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=2, max_size=6)


def training(small, data, events=None, catalogue=None):
    return TrainingData(data, data.role == Role.TRAIN if events is None else events, catalogue, small.CPU)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("max_bitmap", [0, batches.MAX_BITMAP])
@given(SEQUENCES, st.integers(0, 99), st.integers(1, 3))
def test_negatives_are_never_among_the_users_items_of_the_set_trained_on(small, max_bitmap, sequences, seed, count):
    data = small.make_data(small.log_of([*sequences, list(range(14))]), max_length=3)
    request = partition(data, "r", small.users_request(share_of_users=0.5, seed=seed))
    for events in (data.role == Role.TRAIN, request.retain):
        if not len(np.unique(data.user[events])) or max(np.bincount(data.user[events])) < 2:
            continue
        with mock.patch.object(batches, "MAX_BITMAP", max_bitmap):
            trained = training(small, data, events)
        assert (trained.bitmap is None) == (max_bitmap == 0)
        users = trained.user.repeat(4)
        drawn = trained.negatives(users, count, generator(seed))
        assert drawn.shape == (len(users), count)
        assert int(drawn.min()) >= 1
        assert int(drawn.max()) <= data.num_items
        for user, row in zip(users.tolist(), drawn.tolist(), strict=True):
            assert not set(row) & set(data.item[events & (data.user == user)].tolist())


def test_negatives_are_uniform_and_include_held_out_and_forgotten_items(small, tmp_path):
    data = small.make_data(small.log_of([[0, 1, 2, 3, 4, 5], list(range(12))]))
    file = small.write_request(tmp_path / "r.csv", [("u0", "i2")], "user_id,item_id")
    request = small.carry_out(data, small.interactions_request(file=file))
    trained = training(small, data, request.retain)
    drawn = trained.negatives(torch.zeros(10_000, dtype=torch.int64), 1, generator()).flatten()
    names = data.items["item_id"].to_numpy()[drawn.numpy() - 1]
    found, number = np.unique(names, return_counts=True)
    assert set(found) == {f"i{k}" for k in (2, *range(4, 12))}  # i0, i1, i3 are retained training items
    expected = 10_000 / 9
    assert ((number - expected) ** 2 / expected).sum() < 26.1  # chi-square, 8 degrees of freedom, p = 0.001


def test_the_catalogue_restricts_negatives(small):
    data = small.make_data(small.log_of([[0, 1, 2, 3, 4, 5], list(range(12))]))
    catalogue = np.zeros(data.num_items + 1, dtype=bool)
    catalogue[[1, 2, 6, 9]] = True
    trained = training(small, data, catalogue=catalogue)
    known = set(data.item[(data.user == 0) & (data.role == Role.TRAIN)].tolist())
    drawn = trained.negatives(torch.zeros(500, dtype=torch.int64), 2, generator())
    assert set(drawn.unique().tolist()) == {1, 2, 6, 9} - known
    assert trained.candidates.tolist() == [1, 2, 6, 9]


def test_a_user_who_knows_everything_is_an_error_of_ours(small):
    data = small.make_data(small.log_of([[0, 1, 2, 0, 1, 2], [0, 1, 2]]))
    with pytest.raises(SrunError, match="negative"):
        training(small, data).negatives(torch.tensor([0]), 1, generator())


def test_the_same_generator_gives_the_same_negatives(small):
    trained = training(small, small.make_data(small.random_events(20, 15)))
    first, second = (trained.negatives(trained.user, 2, generator(4)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, trained.negatives(trained.user, 2, generator(5)))


@given(SEQUENCES, st.integers(1, 7), st.integers(0, 9), st.booleans())
def test_an_epoch_has_every_window_once_and_trimming_loses_nothing(small, sequences, batch_size, seed, grouped):
    data = small.make_data(small.log_of([*sequences, list(range(8))]), max_length=3)
    trained = training(small, data)
    seen = []
    for rows in trained.epoch(batch_size, generator(seed), grouped):
        assert grouped or len(rows) <= batch_size
        windows, users = trained.batch(rows)
        assert (windows[:, 0] != 0).any()
        for row, window, user in zip(rows.tolist(), windows.tolist(), users.tolist(), strict=True):
            whole = [0] * (trained.windows.shape[1] - len(window)) + window
            assert whole == trained.windows[row].tolist()
            assert user == int(trained.user[row])
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(trained)))


@pytest.mark.parametrize("grouped", [False, True])
def test_epochs_are_shuffled_anew(small, grouped):
    trained = training(small, small.make_data(small.random_events(40, 15)))
    shuffle = generator()
    first, second = (list(trained.epoch(8, shuffle, grouped)) for _ in range(2))
    assert {frozenset(rows.tolist()) for rows in first} != {frozenset(rows.tolist()) for rows in second}
    assert torch.cat(first).tolist() != sorted(torch.cat(first).tolist())


def test_windows_of_a_group_are_together_by_length(small, monkeypatch):
    trained = training(small, small.make_data(small.random_events(300, 15, low=3, high=30), max_length=27))

    def computed(**how):
        return sum(trained.batch(rows)[0].numel() for rows in trained.epoch(16, generator(), **how))

    real = int(trained.length.sum())
    assert computed() > 1.5 * real
    assert computed(group_by_length=True) < 1.1 * real
    monkeypatch.setattr(batches, "GROUP", 4)
    group = {
        int(row): place // (4 * 16) for place, row in enumerate(torch.randperm(len(trained), generator=generator()))
    }
    found = list(trained.epoch(16, generator(), group_by_length=True))
    assert len(found) == -(-len(trained) // 16)
    assert all(len({group[int(row)] for row in rows}) == 1 for rows in found)
    assert [group[int(rows[0])] for rows in found] != sorted(group[int(rows[0])] for rows in found)


def test_grouped_batches_have_the_same_share_of_positions(small):
    trained = training(small, small.make_data(small.random_events(320, 15, low=3, high=30), max_length=27))
    sizes = torch.tensor([int(trained.length[rows].sum()) for rows in trained.epoch(32, generator(), True)])
    assert (sizes - sizes.double().mean()).abs().max() <= trained.length.max()
    assert max(map(len, trained.epoch(32, generator(), True))) > 64  # more windows where they are short


@given(st.integers(1, 20), st.integers(1, 25), st.integers(0, 40), st.integers(0, 9))
def test_a_cycle_passes_over_all_rows_and_goes_on_where_it_was(num_rows, batch_size, steps, seed):
    whole = Cycle(num_rows, batch_size, generator(seed))
    batches = [whole.next().tolist() for _ in range(steps + 5)]
    per_pass = -(-num_rows // batch_size)
    for start in range(0, len(batches) - per_pass + 1, per_pass):
        assert sorted(functools.reduce(operator.iadd, batches[start : start + per_pass], [])) == list(range(num_rows))
    shuffle = generator(seed)
    first = Cycle(num_rows, batch_size, shuffle)
    assert [first.next().tolist() for _ in range(steps)] == batches[:steps]
    order, position, state = first.order.clone(), first.position, shuffle.get_state()
    again = Cycle(num_rows, batch_size, generator(seed + 1))
    again.order, again.position = order, position
    again.generator.set_state(state)
    assert [again.next().tolist() for _ in range(5)] == batches[steps:]


def test_data_without_a_transition_is_an_error(small):
    data = small.make_data([("a", "x", 1), ("b", "y", 1)])
    with pytest.raises(DataError, match="tiny"):
        training(small, data)
