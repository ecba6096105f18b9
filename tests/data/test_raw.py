"""The canonical raw table: form, order, bytes, safe writing, verified reading."""

import csv
import errno
import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srun.data.raw import canonical, check_name, positions, read_info, read_raw, sort_ids, write_raw
from srun.data.values import is_missing
from srun.errors import DataError, RunError, SrunError

IDS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.text(st.characters(min_codepoint=32, exclude_characters="\x7f\ufeff", exclude_categories=("Cs",)), min_size=1),
).filter(lambda text: not is_missing(text))
ROWS = st.lists(st.tuples(IDS, IDS, st.integers(0, 2**40)), min_size=1, max_size=30)


def table(rows):
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def rows_of(frame):
    return list(zip(frame["user_id"].astype(str), frame["item_id"].astype(str), frame["timestamp"], strict=True))


def id_key(ids):
    """The sorting rule, written a second time."""
    numeric = all((text.removeprefix("-")).isascii() and text.removeprefix("-").isdigit() for text in ids)
    return (lambda text: (int(text), text.encode())) if numeric else (lambda text: text.encode())


@given(ROWS)
def test_rows_are_sorted_and_without_duplicates(rows):
    data = canonical(table(rows), None, name="t")
    user_key, item_key = id_key({row[0] for row in rows}), id_key({row[1] for row in rows})
    expected = sorted(set(rows), key=lambda row: (user_key(row[0]), row[2], item_key(row[1])))
    assert rows_of(data.interactions) == expected
    assert data.info["num_duplicates_dropped"] == len(rows) - len(expected)
    assert data.info["num_users"] == len({row[0] for row in rows})
    assert data.info["num_items"] == len({row[1] for row in rows})


@given(ROWS, st.randoms())
def test_bytes_do_not_depend_on_the_order_or_the_kind_of_column(rows, random):
    first = canonical(table(rows), None, name="t")
    random.shuffle(rows)
    other = table(rows).astype({"user_id": "category", "item_id": "category"})
    assert canonical(other, None, name="t").fingerprint == first.fingerprint


@given(rows=ROWS, titles=st.lists(st.text(), min_size=3, max_size=3))
def test_what_is_written_reads_back_equal_and_is_plain_csv(tmp_path_factory, rows, titles):
    folder = tmp_path_factory.mktemp("raw") / "t"
    items = pd.DataFrame(
        {"item_id": [row[1] for row in rows[:3]], "title": titles[: len(rows[:3])], "categories": "a|b"}
    )
    data = canonical(table(rows), items, name="t", citation="é")
    write_raw(folder, data)
    again = read_raw(folder)
    pd.testing.assert_frame_equal(again.interactions, data.interactions)
    pd.testing.assert_frame_equal(again.items, data.items)
    assert again.info == data.info
    with (folder / "interactions.csv").open(encoding="utf-8", newline="") as file:
        header, *written = list(csv.reader(file))
    assert header == ["user_id", "item_id", "timestamp"]
    assert written == [[user, item, str(at)] for user, item, at in rows_of(data.interactions)]
    content = b"".join((folder / name).read_bytes() for name in ("interactions.csv", "items.csv"))
    assert hashlib.sha256(content).hexdigest() == data.fingerprint


def test_the_exact_bytes(tmp_path):
    log = table([("10", 'a,"x', 5), ("2", "b", 4), ("2", "b", 4), ("2", "é", 3), ("2", "b", 9)])
    items = pd.DataFrame(
        {
            "item_id": ["é", "b", "not in the log"],
            "title": ["  one\n two ", None, ""],
            "categories": ["x| y ||x", "", "z"],
        }
    )
    write_raw(tmp_path / "t", canonical(log, items, name="t", licence="L", citation="C"))
    expected = 'user_id,item_id,timestamp\n2,é,3\n2,b,4\n2,b,9\n10,"a,""x",5\n'
    assert (tmp_path / "t" / "interactions.csv").read_bytes() == expected.encode()
    assert (tmp_path / "t" / "items.csv").read_bytes() == "item_id,title,categories\nb,,\né,one two,x|y\n".encode()
    info = json.loads((tmp_path / "t" / "dataset.json").read_text(encoding="utf-8"))
    assert info == {
        "name": "t",
        "fingerprint": hashlib.sha256(
            b"".join((tmp_path / "t" / name).read_bytes() for name in ("interactions.csv", "items.csv"))
        ).hexdigest(),
        "num_users": 2,
        "num_items": 3,
        "num_interactions": 4,
        "num_duplicates_dropped": 1,
        "num_described_items": 2,
        "time": "unix",
        "licence": "L",
        "citation": "C",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t"]


def test_codes_are_dense_and_keep_the_order():
    data = canonical(table([("10", "7", 1), ("9", "10", 1), ("9", "8", 1)]), None, name="t")
    assert list(data.interactions["user_id"].cat.categories) == ["9", "10"]
    assert list(data.interactions["item_id"].cat.categories) == ["7", "8", "10"]
    assert list(data.interactions["item_id"].cat.codes) == [1, 2, 0]


def test_unused_categories_leave_no_trace():
    log = table([("1", "5", 1), ("2", "6", 2), ("x", "y", 3)]).astype({"user_id": "category", "item_id": "category"})
    part = canonical(log.iloc[:2], None, name="t")
    assert part.info["num_users"] == 2
    assert part.fingerprint == canonical(table([("1", "5", 1), ("2", "6", 2)]), None, name="t").fingerprint


def test_integer_ids_of_any_size_sort_as_numbers():
    import pyarrow as pa

    ids = ["10", "9", "-3", "09", str(10**30), str(-(10**30))]
    assert [ids[i] for i in sort_ids(pa.array(ids))] == [str(-(10**30)), "-3", "09", "9", "10", str(10**30)]
    ids = ["10", "9", "a", "é", "Z"]
    assert [ids[i] for i in sort_ids(pa.array(ids))] == ["10", "9", "Z", "a", "é"]


@given(st.lists(st.integers(0, 5), min_size=1))
def test_positions_count_within_each_user(users):
    seen: dict[int, int] = {}
    expected = []
    for user in users:
        expected.append(seen.get(user, 0))
        seen[user] = expected[-1] + 1
    assert positions(np.array(users)).tolist() == expected


def test_without_times_repeated_lines_are_no_duplicates():
    log = pd.DataFrame({"user_id": ["b", "a", "b", "b"], "item_id": ["x", "x", "x", "w"]})
    data = canonical(log, None, name="t", time="order")
    assert rows_of(data.interactions) == [("a", "x", 0), ("b", "x", 0), ("b", "x", 1), ("b", "w", 2)]
    assert data.info["num_duplicates_dropped"] == 0
    assert data.info["time"] == "order"


def test_a_time_span_that_does_not_fit_one_sorting_key():
    rows = [("1", "2", 2**62), ("1", "1", 0), ("2", "1", 2**62 - 1), ("1", "1", 2**62)]
    data = canonical(table(rows), None, name="t")
    assert rows_of(data.interactions) == [rows[1], rows[3], rows[0], rows[2]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no interactions"),
        ([("1", "", 1)], "missing item_id"),
        ([(None, "1", 1)], "missing user_id"),
        ([("1", "a\nb", 1)], "control character"),
        ([("1", "2", -1)], "negative timestamp"),
        ([("1", "2", 1.5)], "must be integers"),
    ],
)
def test_bad_tables_are_refused(rows, said):
    with pytest.raises(DataError, match=said):
        canonical(table(rows), None, name="t")


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", ".a", "a b", "ä", "../x"])
def test_bad_names_are_refused(name):
    with pytest.raises(DataError, match="expected lower-case"):
        check_name(name)
    assert check_name("ml-1m_v2.1") == "ml-1m_v2.1"


@pytest.fixture
def stored(tmp_path):
    data = canonical(table([("1", "5", 1), ("2", "6", 2)]), None, name="t")
    write_raw(tmp_path / "t", data)
    return tmp_path / "t"


def test_writing_replaces_what_was_there(stored):
    data = canonical(table([("7", "7", 7)]), pd.DataFrame({"item_id": ["7"], "title": ["x"]}), name="t")
    (stored / "left.over").write_text("")
    write_raw(stored, data)
    assert sorted(path.name for path in stored.iterdir()) == ["dataset.json", "interactions.csv", "items.csv"]
    assert read_raw(stored).fingerprint == data.fingerprint
    assert [path.name for path in stored.parent.iterdir()] == ["t"]


def test_a_full_disk_leaves_everything_as_it_was(stored, monkeypatch):
    before = {path.name: path.read_bytes() for path in stored.iterdir()}

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    data = canonical(table([("7", "7", 7)]), None, name="t")
    for folder in (stored, stored.parent / "new"):
        with pytest.raises(RunError, match="No space left"):
            write_raw(folder, data)
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == before
    assert [path.name for path in stored.parent.iterdir()] == ["t"]


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    data = canonical(table([("7", "7", 7)]), None, name="t")
    with pytest.raises(RunError, match="file/t"):
        write_raw(tmp_path / "file" / "t", data)


def test_only_data_sets_are_replaced(tmp_path, stored):
    data = canonical(table([("7", "7", 7)]), None, name="t")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter").write_text("mine")
    for name in ("file", "folder"):
        with pytest.raises(RunError, match="not a data set, so it is not replaced"):
            write_raw(tmp_path / name, data)
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "letter").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    write_raw(tmp_path / "empty", data)
    (tmp_path / "link").symlink_to(stored)
    write_raw(tmp_path / "link", data)
    assert (tmp_path / "link").is_symlink()
    assert read_raw(stored).fingerprint == data.fingerprint


def test_reading_tells_what_is_wrong_and_how_to_mend_it(stored):
    log = stored / "interactions.csv"
    good = log.read_bytes()
    faults = {
        "sha256": lambda: log.write_bytes(good.replace(b"1,5,1", b"1,5,3")),
        "cannot be read": log.unlink,
        "dataset.json": lambda: (stored / "dataset.json").write_text("{"),
        "no raw data set": (stored / "dataset.json").unlink,
    }
    for said, spoil in faults.items():
        spoil()
        with pytest.raises(DataError, match=said) as raised:
            read_raw(stored)
        assert str(stored) in str(raised.value)
        assert "again" in str(raised.value)
        assert "\n" not in str(raised.value)


def test_an_added_item_table_or_wrong_counts_are_noticed(stored):
    (stored / "items.csv").write_text("item_id,title,categories\n")
    with pytest.raises(DataError, match="sha256"):
        read_raw(stored)
    (stored / "items.csv").unlink()
    info = read_info(stored)
    (stored / "dataset.json").write_text(json.dumps({**info, "num_users": 3}))
    with pytest.raises(DataError, match="num_users 3, the table has 2"):
        read_raw(stored)
    (stored / "dataset.json").write_text(json.dumps({**info, "fingerprint": 3}))
    with pytest.raises(DataError, match='no valid "fingerprint"'):
        read_raw(stored)


def test_foreign_columns_are_refused_even_with_a_fitting_hash(stored):
    content = b"user,item,timestamp\n1,5,1\n"
    (stored / "interactions.csv").write_bytes(content)
    info = {**read_info(stored), "fingerprint": hashlib.sha256(content).hexdigest()}
    (stored / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(SrunError, match="user_id"):
        read_raw(stored)


def test_half_a_million_rows_take_no_time(tmp_path):
    rng = np.random.default_rng(0)
    rows = 500_000
    log = pd.DataFrame(
        {
            "user_id": rng.integers(0, 20_000, rows),
            "item_id": rng.integers(0, 5_000, rows),
            "timestamp": rng.integers(10**9, 2 * 10**9, rows),
        }
    )
    start = time.perf_counter()
    data = canonical(log, None, name="t")
    write_raw(tmp_path / "t", data)
    read_raw(tmp_path / "t")
    assert time.perf_counter() - start < 5  # about half a second; a loop over rows takes many


def test_paths_are_not_part_of_the_data(tmp_path):
    data = canonical(table([("1", "5", 1)]), None, name="t")
    for place in ("a", "b/c"):
        write_raw(tmp_path / place, data)
    names = ["dataset.json", "interactions.csv"]
    assert [(tmp_path / "a" / n).read_bytes() for n in names] == [(tmp_path / "b/c" / n).read_bytes() for n in names]
    assert Path(tmp_path / "a").stat().st_mode & 0o055  # readable by others where the umask says so


# Order and duplicates within a second ---------------------------------------------------------------------------------


def test_fractions_of_a_second_decide_order_and_duplicates_and_are_then_cut_off():
    log = table([("u", "b", 5), ("u", "a", 5), ("u", "a", 5), ("u", "a", 5), ("u", "a", 4)])
    log["nanosecond"] = [100_000_000, 900_000_000, 900_000_000, 900_000_001, 999_999_999]
    data = canonical(log, None, name="t")
    assert rows_of(data.interactions) == [("u", "a", 4), ("u", "b", 5), ("u", "a", 5), ("u", "a", 5)]
    assert data.info["num_duplicates_dropped"] == 1


def test_equal_rows_are_kept_when_they_are_read_again(tmp_path):
    log = table([("u", "a", 5), ("u", "a", 5), ("v", "a", 1)])
    log["nanosecond"] = [1, 2, 0]
    data = canonical(log, None, name="t")
    write_raw(tmp_path / "t", data)
    assert rows_of(read_raw(tmp_path / "t").interactions) == [("u", "a", 5), ("u", "a", 5), ("v", "a", 1)]


@pytest.mark.parametrize("word", ["nan", "None", " NULL ", "<NA>", "", "\xa0"])
def test_words_for_no_value_are_no_title_no_category_and_no_id(word):
    items = pd.DataFrame({"item_id": ["a", "b"], "title": [word, "B"], "categories": [word, f"x|{word}|y"]})
    data = canonical(table([("u", "a", 1), ("u", "b", 2)]), items, name="t")
    assert data.items.to_numpy().tolist() == [["a", "", ""], ["b", "B", "x|y"]]
    with pytest.raises(DataError, match="a missing item_id"):
        canonical(table([("u", word, 1)]), None, name="t")
