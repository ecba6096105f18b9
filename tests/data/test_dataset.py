"""Preparation: filters, dense ids, roles, calibration users."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srun.data.dataset import (
    Dataset,
    PrepareConfig,
    Role,
    counts,
    describe,
    filter_interactions,
    prepare,
    report_users,
    share_by_size,
)
from srun.data.raw import read_raw
from srun.errors import DataError
from srun.files import seal

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 50)), min_size=1, max_size=60)
SEQUENCES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=1, max_size=8)


def naive_filter(rows, how, minimum):
    while how != "none":
        users, items = Counter(u for u, _, _ in rows), Counter(i for _, i, _ in rows)
        kept = [(u, i, t) for u, i, t in rows if users[u] >= minimum and items[i] >= minimum]
        if kept == rows or how == "once":
            return kept
        rows = kept
    return rows


@given(PAIRS, st.sampled_from(["none", "once", "k_core"]), st.integers(1, 5), st.booleans())
def test_filters_agree_with_a_plain_loop(rows, how, minimum, categorical):
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    if categorical:
        table = table.astype({"user_id": "category", "item_id": "category"})
    kept = filter_interactions(table, how, minimum)
    assert [tuple(map(int, row)) for row in kept.to_numpy()] == naive_filter(rows, how, minimum)
    again = counts(kept)
    left = naive_filter(rows, how, minimum)
    assert again == {
        "num_users": len({u for u, _, _ in left}),
        "num_items": len({i for _, i, _ in left}),
        "num_interactions": len(left),
    }


def test_once_counts_on_the_raw_log_and_drops_both_together():
    # item x has five users, but two of them go: after one pass it is left with three, and stays
    rows = [(f"u{u}", f"f{k}", k) for u in range(3) for k in range(5)] + [(f"u{u}", "x", 9) for u in range(5)]
    rows += [(f"more{u}", f"f{k}", k) for u in range(2) for k in range(5)]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    once, core = filter_interactions(table, "once", 5), filter_interactions(table, "k_core", 5)
    assert set(once["user_id"]) == {"u0", "u1", "u2", "more0", "more1"}
    assert (once["item_id"] == "x").sum() == 3
    assert "x" not in set(core["item_id"])


def test_ids_are_dense_and_keep_the_raw_order(small):
    data = small.make_data([("10", "300", 1), ("10", "20", 2), ("9", "300", 5), ("9", "100", 4)])
    assert data.users["user_id"].tolist() == ["9", "10"]
    assert data.items["item_id"].tolist() == ["20", "100", "300"]
    assert data.user.tolist() == [0, 0, 1, 1]
    assert data.item.tolist() == [2, 3, 3, 1]
    assert data.time.tolist() == [4, 5, 1, 2]
    assert data.offsets.tolist() == [0, 2, 4]


def test_items_and_users_that_the_filter_drops_get_no_id(small):
    events = [(f"u{u}", f"i{k}", k) for u in range(3) for k in range(3)] + [("rare", "i0", 0), ("u0", "odd", 7)]
    data = small.make_data(events, {"i1": "a|b", "odd": "a"}, filter="once", min_interactions=2)
    assert data.users["user_id"].tolist() == ["u0", "u1", "u2"]
    assert data.items["item_id"].tolist() == ["i0", "i1", "i2"]
    assert data.num_items == 3
    assert {name: flags.tolist() for name, flags in data.categories.items()} == {
        "a": [False, False, True, False],
        "b": [False, False, True, False],
    }
    assert data.info["before"] == {"num_users": 4, "num_items": 4, "num_interactions": 11}
    assert data.info["after"] == {"num_users": 3, "num_items": 3, "num_interactions": 9}


@given(SEQUENCES)
def test_the_id_map_leads_back_to_the_raw_log(small, sequences):
    events = small.log_of(sequences)
    data = small.make_data(events)
    back = zip(
        data.users["user_id"].to_numpy()[data.user],
        data.items["item_id"].to_numpy()[data.item - 1],
        data.time,
        strict=False,
    )
    assert sorted((u, i, int(t)) for u, i, t in back) == sorted(events)
    assert data.item.min() == 1
    assert data.item.max() == data.num_items


@given(SEQUENCES)
def test_the_last_item_is_the_test_target_and_the_one_before_validates(small, sequences):
    data = small.make_data(small.log_of(sequences))
    for user in range(data.num_users):
        roles = data.role[data.offsets[user] : data.offsets[user + 1]].tolist()
        length = len(roles)
        held = [Role.VALIDATION, Role.TEST] if length >= 3 else []
        assert roles == [Role.TRAIN] * (length - len(held)) + held
    assert data.info["num_users_too_short"] == sum(len(items) < 3 for items in sequences)


@pytest.mark.parametrize("holdout", ["user", "users_80_20"])
def test_calibration_users_have_no_other_role(small, holdout):
    events = small.random_events(40, 20)
    data = small.make_data(events, calibration_users=0.25, holdout=holdout)
    apart = {u for u, r in zip(data.user, data.role, strict=True) if r == Role.CALIBRATION}
    assert len(apart) == 10
    assert not apart & {u for u, r in zip(data.user, data.role, strict=True) if r != Role.CALIBRATION}
    assert data.info["num_calibration_users"] == 10


def test_calibration_users_are_drawn_by_the_data_seed(small):
    events = small.random_events(40, 20)

    def drawn(seed):
        data = small.make_data(events, calibration_users=0.25, seed=seed)
        return tuple(np.unique(data.user[data.role == Role.CALIBRATION]))

    assert drawn(0) == drawn(0)
    assert len({drawn(seed) for seed in range(5)}) > 3


@given(SEQUENCES, st.integers(0, 3), st.sampled_from(["user", "users_80_20"]))
def test_events_set_aside_are_drawn_as_a_request_draws(small, sequences, seed, holdout):
    events = small.log_of(sequences)
    before = small.make_data(events, calibration_users=0.2, holdout=holdout, seed=seed)
    data = small.make_data(events, calibration_users=0.2, calibration_events=0.5, holdout=holdout, seed=seed)
    aside = data.role == Role.SET_ASIDE
    assert (before.role[aside] == Role.TRAIN).all()  # nothing else changes its role
    assert (data.role[~aside] == before.role[~aside]).all()
    eligible, chosen = 0, 0
    for user in range(data.num_users):
        of_user = aside[(data.user == user) & (before.role == Role.TRAIN)]
        eligible += len(of_user) >= 3
        chosen += of_user.any()
        assert not of_user[:2].any()
        assert of_user.sum() <= max(len(of_user) // 2, 0)
    assert chosen == round(0.5 * eligible)
    assert data.info["roles"]["set_aside"] == aside.sum()


def test_events_set_aside_are_drawn_by_the_data_seed(small):
    def drawn(seed):
        data = small.make_data(small.random_events(40, 20), calibration_events=0.5, seed=seed)
        return tuple(np.flatnonzero(data.role == Role.SET_ASIDE))

    assert drawn(0) == drawn(0)
    assert len({drawn(seed) for seed in range(5)}) == 5


@pytest.mark.parametrize(
    ("num_users", "length", "share", "because"),
    [
        (100_000, 8, 0.032, "8,000 events, of users who lose (1 + 4) / 2 each"),
        (6_000, 160, 0.067, "400 users, who lose 40 each"),
        (20_000, 6, 0.2, "at most, 8,000 events would take all of 20,000 x 2 x .2"),
        (943, 100, 0.2, "at most, though they are 189 users"),
        (1_000_000, 20, 0.02, "at least"),
        (100_000, 2, 0.0, "nobody has 3 events"),
    ],
)
def test_the_share_set_aside_goes_by_the_size_of_the_data(num_users, length, share, because):
    assert share_by_size(np.full(num_users, length)) == share, because


@given(st.integers(1, 40), st.integers(3, 60))
def test_the_share_by_size_is_enough_and_no_larger(thousands, length):
    """Between its bounds: 8,000 events of 400 users are expected, and a thousandth less would not do."""
    num_users = 1000 * thousands
    share = share_by_size(np.full(num_users, length))

    def enough(share):
        return share * num_users >= 400 and share * num_users * (1 + length // 2) / 2 >= 8000

    assert enough(share) or share == 0.2
    assert not enough(share - 0.001) or share == 0.02


def test_what_is_set_aside_by_size_is_told_and_drawn_as_the_same_share(small):
    events = small.random_events(60, 30)
    by_size, given_share = (small.make_data(events, calibration_events=share) for share in (None, 0.2))
    assert (by_size.role == given_share.role).all()
    assert by_size.info["config"]["calibration_events"] is None
    told = by_size.info["set_aside"]
    assert told["share_of_users"] == 0.2  # so few users
    aside, train = (int((by_size.role == role).sum()) for role in (Role.SET_ASIDE, Role.TRAIN))
    assert told["share_of_training_events"] == round(aside / (aside + train), 4)
    assert (
        describe(small.make_raw(events), PrepareConfig(**{**small.PREPARE, "calibration_events": None}))["set_aside"]
        == told
    )


def test_nothing_set_aside_costs_nothing(small):
    told = small.make_data(small.random_events(20, 10)).info["set_aside"]
    assert told == {"share_of_users": 0.0, "share_of_training_events": 0.0, "num_users": 0}


@given(SEQUENCES, st.integers(0, 3))
def test_users_80_20(small, sequences, seed):
    data = small.make_data(small.log_of(sequences), holdout="users_80_20", seed=seed)
    report = set()
    for user in range(data.num_users):
        roles = data.role[data.offsets[user] : data.offsets[user + 1]].tolist()
        if set(roles) <= {Role.CONTEXT, Role.TEST}:
            report.add(user)
            assert roles[:-1] == [Role.CONTEXT] * (len(roles) - 1)
            assert len(roles) < 2 or roles[-1] == Role.TEST
        else:
            assert roles[:-1] == [Role.TRAIN] * (len(roles) - 1)
            assert len(roles) < 3 or roles[-1] == Role.VALIDATION
    assert len(report) == data.num_users - round(0.8 * data.num_users)
    assert report == set(np.flatnonzero(report_users(data.num_users, seed)))


@given(st.lists(st.integers(1, 17), min_size=1, max_size=5), st.integers(2, 5), st.booleans())
def test_windows_as_users(small, lengths, max_length, drop_short):
    # items tell events apart: user u has u00, u01, ...
    events = [(f"u{u}", f"i{u * 100 + k:04d}", k) for u, length in enumerate(lengths) for k in range(length)]
    data = small.make_data(events, holdout="window", max_length=max_length, drop_short=drop_short)
    expected, dropped = [], 0
    for user, length in enumerate(lengths):
        stop, windows = length, []
        while True:
            start = max(0, stop - max_length - 1)
            windows.append(list(range(start, stop)))
            if start == 0:
                break
            stop = start + 1  # the shared item
        if drop_short and len(windows) > 1 and len(windows[-1]) <= 2:
            windows.pop()
            dropped += 1
        expected += [[f"i{user * 100 + k:04d}" for k in window] for window in reversed(windows)]
    names = data.items["item_id"].to_numpy()
    found = [names[data.item[data.offsets[u] : data.offsets[u + 1]] - 1].tolist() for u in range(data.num_users)]
    assert found == expected
    assert data.info["num_windows_dropped"] == dropped
    assert [f"u{int(items[0][1:]) // 100}" for items in expected] == data.users["user_id"].tolist()
    for user, items in enumerate(expected):
        roles = data.role[data.offsets[user] : data.offsets[user + 1]].tolist()
        held = [Role.VALIDATION, Role.TEST] if len(items) >= 3 else []
        assert roles == [Role.TRAIN] * (len(items) - len(held)) + held


def test_dropped_windows_are_counted_with_every_holdout(small):
    # training sequence of 7 with n = 5: a full window of 6 items and a left-over of 2
    events = small.log_of([list(range(9)), [0, 1, 2, 3]])
    data = small.make_data(events, drop_short=True)
    assert (np.diff(data.offsets) - 2).tolist() == [7, 2]
    assert data.info["num_windows_dropped"] == 1
    assert small.make_data(events, drop_short=False).info["num_windows_dropped"] == 0


@given(SEQUENCES)
def test_what_is_saved_loads_equal(small, tmp_path_factory, sequences):
    folder = tmp_path_factory.mktemp("prepared") / "x"
    data = small.make_data(small.log_of(sequences), {"i0": "a b|c", "i1": ""}, calibration_users=0.2)
    data.save(folder)
    again = Dataset.load(folder)
    for name in ("user", "item", "time", "role"):
        assert (getattr(again, name) == getattr(data, name)).all()
        assert getattr(again, name).dtype == getattr(data, name).dtype
    assert again.users["user_id"].tolist() == data.users["user_id"].tolist()
    assert again.items.to_numpy().tolist() == data.items.to_numpy().tolist()
    assert again.info == data.info
    assert {k: v.tolist() for k, v in again.categories.items()} == {k: v.tolist() for k, v in data.categories.items()}


def test_the_same_input_gives_the_same_bytes(small, tmp_path):
    for name in ("a", "b"):
        small.make_data(small.random_events(20, 10), {"i1": "x"}, calibration_users=0.2).save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_ids_that_look_like_missing_values_survive(small, tmp_path):
    data = small.make_data([("NA", "n/a", 1), ("NA", "007", 2), ("nil", "-nan", 3)])
    data.save(tmp_path / "x")
    again = Dataset.load(tmp_path / "x")
    assert set(again.users["user_id"]) == {"NA", "nil"}
    assert set(again.items["item_id"]) == {"n/a", "007", "-nan"}


@pytest.mark.parametrize(("num_items", "warned"), [(1, True), (10, True), (11, False)])
def test_a_catalogue_in_which_every_hit_at_10_is_1_is_warned_of(small, caplog, num_items, warned):
    small.make_data([(f"u{user}", f"i{item}", item) for user in range(3) for item in range(num_items)])
    assert (f"{num_items} items are left" in caplog.text) == warned
    assert ("a weaker prepare.filter" in caplog.text) == warned


def test_nothing_left_is_an_error_that_says_what_to_do(small):
    raw = small.make_raw([("a", "x", 1), ("b", "y", 2)])
    with pytest.raises(DataError, match="min_interactions"):
        prepare(raw, PrepareConfig(**{**small.PREPARE, "filter": "k_core", "min_interactions": 5}))


def test_a_folder_without_data_is_an_error(tmp_path):
    with pytest.raises(DataError, match="srun prepare"):
        Dataset.load(tmp_path / "none")


def test_exact_duplicates_go_and_repeats_at_another_time_stay(small):
    data = small.make_data([("a", "x", 1), ("a", "x", 1), ("a", "x", 2), ("a", "y", 3)])
    assert data.time.tolist() == [1, 2, 3]
    assert small.make_raw([("a", "x", 1), ("a", "x", 1)]).info["num_duplicates_dropped"] == 1


@pytest.mark.network
def test_movielens_1m_has_the_published_counts(small):
    folder = small.ROOT / "data" / "raw" / "ml-1m"
    if not Path(folder, "dataset.json").is_file():
        pytest.skip("data/raw/ml-1m is not there: srun data fetch ml-1m")
    settings = PrepareConfig(**{**small.PREPARE, "filter": "once", "min_interactions": 5})
    after = describe(read_raw(folder), settings)["after"]
    assert after == {"num_users": 6040, "num_items": 3416, "num_interactions": 999_611}


@pytest.mark.parametrize("name", ["events.safetensors", "info.json", "users.csv", "items.csv"])
@pytest.mark.parametrize("resealed", [False, True])
def test_damaged_prepared_data_are_one_line_that_names_the_file(coloured, tmp_path, name, resealed):
    coloured.save(tmp_path / "d")
    (tmp_path / "d" / name).write_bytes(b"\xff" + (tmp_path / "d" / name).read_bytes())
    if resealed:
        seal(tmp_path / "d")
    with pytest.raises(DataError, match=rf"{name}.*; run `srun prepare` again$"):
        Dataset.load(tmp_path / "d")


def test_ids_that_a_spreadsheet_would_take_for_formulas_come_back(small, tmp_path):
    data = small.make_data([(user, item, t) for user in ("-5", "=1", "'x") for t, item in enumerate(["+1", "@b", "c"])])
    data.save(tmp_path / "d")
    again = Dataset.load(tmp_path / "d")
    assert again.users["user_id"].tolist() == data.users["user_id"].tolist()
    assert again.items.equals(data.items)
