"""Own data: every format, every way to guess it, and one clear line for everything that can be wrong."""

import errno
import gzip
import json
import logging
import os
import re
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srun.data.formats.guessing import guess_format
from srun.data.importing import column_mapping, read_import
from srun.data.raw import read_raw
from srun.errors import DataError, RunError
from srun.flow.fetch import import_file

SHARED = Path(__file__).parents[3] / "shared" / "data"

CSV = "user_id,item_id,timestamp\nu1,a,10\nu2,b,20\nu1,b,30\nu2,a,40\n"
EXPECTED = [["u1", "a", "10"], ["u1", "b", "30"], ["u2", "b", "20"], ["u2", "a", "40"]]


@pytest.fixture
def put(tmp_path):
    """Write a file into the test's folder and return its path."""

    def write(content, name="log"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def imported(path, **options):
    """Import ``path`` and return the rows of the canonical table as text."""
    info = import_file(path, "own", path.parent / "raw", **options)
    data = read_raw(path.parent / "raw" / "own")
    assert data.info == info
    return data.interactions.astype(str).to_numpy().tolist()


def fault(path, **options):
    """Import ``path``, check that nothing is left behind, and return the message of the one error."""
    with pytest.raises(DataError) as raised:
        import_file(path, "own", path.parent / "raw", **options)
    message = str(raised.value)
    assert not (path.parent / "raw").exists()
    assert "\n" not in message
    return message


# Formats -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    "content",
    [
        CSV,
        "\ufeff" + CSV,
        CSV.replace("\n", "\r\n"),
        CSV.replace(",", "\t"),
        CSV.replace("\n", "\n\n"),
        CSV.rstrip("\n"),
        CSV.replace(",", ", "),
        CSV.replace("u1", '"u1"'),
        CSV.replace("user_id", "reviewerID").replace("item_id", "asin").replace("timestamp", "unixReviewTime"),
        CSV.replace("user_id", "user_id:token").replace("item_id", "item_id:token"),
        "x,rating,timestamp,Item ID,User\n" + 'n,"5,\n0",10,a,u1\nn,,20,b,u2\nn,"""",30,b,u1\nn,1,40,a,u2\n',
        CSV.replace("0\n", "0.0\n"),
        CSV.replace("10\n", "1e1\n"),
    ],
)
def test_csv_and_tsv_with_a_header(put, content, pack):
    assert imported(put(pack(content.encode()))) == EXPECTED


def test_columns_may_be_named_or_numbered(put):
    path = put("when,who,what\n10,u1,a\n20,u2,b\n30,u1,b\n40,u2,a\n")
    assert imported(path, columns={"user": "who", "item": "what", "time": "when"}) == EXPECTED
    path = put("10,u1,a\n20,u2,b\n30,u1,b\n40,u2,a\n")
    assert imported(path, columns={"user": "2", "item": "3", "time": "1"}) == EXPECTED
    path = put("u1\ta\t5\t10\nu2\tb\t5\t20\nu1\tb\t1\t30\nu2\ta\t1\t40\n")
    assert imported(path, form="tsv", columns={"user": "1", "item": "2", "time": "4"}) == EXPECTED


def test_one_named_column_and_the_rest_as_known(put):
    content = CSV.replace("user_id", "account")
    assert imported(put(content), columns={"user": "account"}) == EXPECTED


@pytest.mark.parametrize(
    "dates",
    [
        ["1970-01-02", "1970-01-03", "1970-01-04", "1970-01-05"],
        ["1970-01-02T00:00:00Z", "1970-01-03T00:00:00Z", "1970-01-04T00:00:00Z", "1970-01-05T00:00:00Z"],
        ["1970-01-02 02:00:00+02:00", "1970-01-03", "1970-01-04 00:00:00.9", "1970-01-05 00:00"],
    ],
)
def test_iso_dates_become_unix_seconds(put, dates):
    content = CSV
    for number, date in zip((10, 20, 30, 40), dates, strict=True):
        content = content.replace(str(number), date)
    expected = [[*row[:2], str(86400 * int(row[2]) // 10)] for row in EXPECTED]
    assert imported(put(content)) == expected


def test_fractions_of_a_second_are_cut_off_and_said(put, caplog):
    assert imported(put(CSV.replace("10", "10.7"))) == EXPECTED
    assert "1 times have a fraction" in caplog.text


SUBSECOND = [("u1", "b", 100), ("u1", "a", 900), ("u2", "b", 0), ("u2", "a", 5000), ("u1", "b", 100), ("u1", "b", 101)]
"""Users, items, and milliseconds after 2024-05-01T10:00:00; one exact duplicate."""


def subsecond(kind):
    """A log in which only fractions of a second tell the order: file content, or a Parquet column of times."""
    at = [1714557600000 + row[2] for row in SUBSECOND]
    if kind in ("s", "ms", "us", "ns"):
        return pa.array(at, "timestamp[ms]").cast(f"timestamp[{kind}]")
    if kind == "float":
        return pa.array([milliseconds / 1000 for milliseconds in at])
    if kind == "decimal":
        return pa.array([Decimal(milliseconds) / 1000 for milliseconds in at])
    if kind == "integer ms":
        return pa.array(at)
    if kind == "iso":
        return pa.array([f"{np.datetime64(milliseconds, 'ms')}Z" for milliseconds in at])
    return pa.array([f"{milliseconds // 1000}.{milliseconds % 1000:03}" for milliseconds in at])


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet", "amazon"])
@pytest.mark.parametrize("kind", ["ms", "us", "ns", "float", "decimal", "integer ms", "iso", "text"])
def test_events_less_than_a_second_apart_keep_their_order(tmp_path, caplog, form, kind):
    times = subsecond(kind)
    table = pa.table({"user": [row[0] for row in SUBSECOND], "item": [row[1] for row in SUBSECOND], "time": times})
    if form == "parquet":
        pyarrow.parquet.write_table(table, tmp_path / "log")
    elif form == "amazon":
        if kind not in ("integer ms", "text", "float"):
            pytest.skip("records have numbers")
        names = ("reviewerID", "asin", "unixReviewTime")
        lines = [json.dumps(dict(zip(names, row.values(), strict=True))) for row in table.to_pylist()]
        (tmp_path / "log").write_text("\n".join(lines))
    else:
        table.to_pandas().to_csv(tmp_path / "log", sep="," if form == "csv" else "\t", index=False)
    second = "1714557600"
    assert imported(tmp_path / "log") == [
        ["u1", "b", second], ["u1", "b", second], ["u1", "a", second], ["u2", "b", second], ["u2", "a", "1714557605"],
    ]  # fmt: skip
    assert "4 times have a fraction of a second; it decides the order and is then cut off" in caplog.text


def test_no_digit_of_a_time_in_text_is_lost(put):
    path = put(
        "user,item,time\nu1,b,1700000000.123456788\nu1,a,1700000000.123456789\nu2,a,1700000000\nu2,b,1700000001\n"
    )
    assert [row[1] for row in imported(path)[:2]] == ["b", "a"]


def test_a_small_catalogue_is_warned_of(put, caplog):
    imported(put(CSV))
    assert (
        "2 items, so that each is among the first 10 and every Hit@10 is 1; import a log with more items" in caplog.text
    )
    caplog.clear()
    imported(put("".join(f"{user} {item}\n" for user in range(3) for item in range(11))))
    assert "Hit@10" not in caplog.text


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2", "1", "2"], "large_string"),
        (["1", "2", "1", "2"], "string_view"),
        ([1, 2, 1, 2], "uint64"),
        ([1, 2, 1, 2], "int8"),
        ([1, 2, 1, 2], "float"),
        ([1, 2, 1, 2], "double"),
        ([Decimal(1), Decimal(2), Decimal(1), Decimal(2)], pa.decimal128(38, 0)),
    ],
)
@pytest.mark.parametrize("dictionary", [False, True])
def test_parquet_ids_of_every_type_that_holds_them_exactly(tmp_path, values, kind, dictionary):
    column = pa.array(values, kind) if kind != "string_view" else pa.array(values).cast(pa.string_view())
    if dictionary and kind != "string_view":
        column = column.dictionary_encode()
    table = pa.table({"user": column, "item": ["a", "b", "b", "a"], "time": [1, 2, 3, 4]})
    pyarrow.parquet.write_table(table, tmp_path / "log")
    assert imported(tmp_path / "log") == [["1", "a", "1"], ["1", "b", "3"], ["2", "b", "2"], ["2", "a", "4"]]


@pytest.mark.parametrize("kind", ["int", "float", "timestamp", "date", "text", "category"])
def test_parquet(tmp_path, kind):
    seconds = pd.Series([10, 20, 30, 40]) * 86400
    stamps = pd.to_datetime(seconds, unit="s")
    times = {
        "int": seconds,
        "float": seconds + 0.0,
        "timestamp": stamps,
        "date": stamps.dt.date,
        "text": stamps.astype(str),
        "category": seconds,
    }[kind]
    users = pd.Series(["u1", "u2", "u1", "u2"], dtype="category" if kind == "category" else "str")
    pd.DataFrame({"user_id": users, "item_id": [1, 2, 2, 1], "ts": times}).to_parquet(tmp_path / "log")
    expected = [["u1", "1", "864000"], ["u1", "2", "2592000"], ["u2", "2", "1728000"], ["u2", "1", "3456000"]]
    assert imported(tmp_path / "log") == expected


def test_pairs_and_sequences_are_ordered_by_line(put):
    expected = [["1", "7", "0"], ["1", "8", "1"], ["1", "7", "2"], ["2", "9", "0"], ["2", "8", "1"]]
    assert imported(put("1 7\n2 9\n1 8\n\n1\t7\n2  8")) == expected
    assert imported(put("1 7 8\r\n 2 9 8 \n1 7\n")) == expected
    assert imported(put(gzip.compress(b"1 7 8\n2 9 8\n1 7\n"))) == expected


ITEMS = st.lists(st.text("abc12é", min_size=1, max_size=3), min_size=1, max_size=5)


@given(st.lists(st.tuples(st.sampled_from(["u", "v", "w"]), ITEMS), min_size=1))
def test_pairs_and_sequences_say_the_same(tmp_path_factory, lines):
    lines = [("u", ["first", "second"]), ("v", ["first"]), *lines]
    folder = tmp_path_factory.mktemp("lines")
    (folder / "s").write_text("".join(f"{user} {' '.join(items)}\n" for user, items in lines), encoding="utf-8")
    (folder / "p").write_text("".join(f"{u} {item}\n" for u, items in lines for item in items), encoding="utf-8")
    expected = [
        [user, [item for u, items in lines if u == user for item in items]] for user in sorted({u for u, _ in lines})
    ]
    for name, form in (("s", "sequences"), ("p", "pairs")):
        info = import_file(folder / name, name, folder / "raw", form=form)
        table = read_raw(folder / "raw" / name).interactions.astype({"user_id": "str", "item_id": "str"})
        found = [[user, rows["item_id"].tolist()] for user, rows in table.groupby("user_id")]
        assert found == expected
        assert info["num_duplicates_dropped"] == 0
    assert len({read_raw(folder / "raw" / name).fingerprint for name in "sp"}) == 1


def test_blocks_join_without_a_seam(put, monkeypatch):
    content = "".join(f"user{i % 50} item{i % 7}\n" for i in range(2000))
    whole = imported(put(content))
    monkeypatch.setattr("srun.data.formats.lines.BLOCK", 97)
    assert imported(put("\ufeff" + content)) == whole


def test_ids_are_text_of_any_size(put):
    big = str(10**25)
    assert imported(put(f"user,item,time\n{big},007,1\n7,7,2\n7,007,3\n")) == [
        ["7", "7", "2"],
        ["7", "007", "3"],
        [big, "007", "1"],
    ]


def test_no_time_column(put, caplog):
    caplog.set_level(logging.INFO, "srun.data")
    expected = [["u1", "a", "0"], ["u1", "b", "1"], ["u2", "b", "0"]]
    assert imported(put("user,item\nu1,a\nu2,b\nu1,b\n")) == expected
    assert "order of the lines" in caplog.text
    content = "user,item,rating\nu1,a,1\nu2,b,1\nu1,b,5\n"
    assert imported(put(content), columns={"time": "none"}) == expected


def test_amazon_and_steam_are_recognised(put):
    records = [{"reviewerID": f"u{1 + i % 2}", "asin": "ab"[i // 2], "unixReviewTime": i} for i in range(4)]
    path = put(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))
    meta = put("{'asin': 'a', 'title': 'T', 'categories': [['Root', 'X']]}\n", "meta")
    assert imported(path, items=meta) == [["u1", "a", "0"], ["u1", "b", "2"], ["u2", "a", "1"], ["u2", "b", "3"]]
    assert read_raw(path.parent / "raw" / "own").items.to_numpy().tolist() == [["a", "T", "X"]]
    records = [{"username": f"u{1 + i % 2}", "product_id": "ab"[i // 2], "date": "1970-01-02"} for i in range(4)]
    path = put("".join(repr(record) + "\n" for record in records))
    assert imported(path)[0] == ["u1", "a", "86400"]


def test_users_with_one_item_are_counted(put, caplog):
    imported(put(CSV + "u3,a,1\n"))
    assert "1 of 3 users have a single interaction" in caplog.text


def test_an_import_can_be_imported_again_without_change(put):
    first = put(CSV)
    imported(first)
    log = first.parent / "raw" / "own" / "interactions.csv"
    assert imported(put(log.read_bytes(), "again")) == EXPECTED


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (CSV, "csv"),
        (CSV.replace(",", "\t"), "tsv"),
        ("1 2\n3 4\n", "pairs"),
        ("1\t2\n", "pairs"),
        ("1 2 3\n4 5\n", "sequences"),
        ("1 2 3 4 5 6\n1 2 3 4 5 6\n", "sequences"),
        ("1 " + "2345678 " * 20_000, "sequences"),
        ('{"reviewerID": "a", "asin": "b"}\n', "amazon"),
        ("{u'username': u'a', u'product_id': u'b'}\n", "steam"),
    ],
)
def test_guesses(put, content, form):
    assert guess_format(put(content))[0] == form


# Item tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_item_tables(put, caplog, delimiter, pack):
    items = 'asin,name,genres\nb,"B, ""x""",X | Y\nz,Z,\n'
    if delimiter == ";":
        items = items.replace(",", ";").replace("B;", "B,")
    if delimiter == "\t":
        items = 'asin\tname\tgenres\nb\tB, "x"\tX | Y\nz\tZ\t\n'
    imported(put(CSV), items=put(pack(items.encode()), "items"))
    assert read_raw(put("").parent / "raw" / "own").items.to_numpy().tolist() == [["b", 'B, "x"', "X|Y"]]
    assert "1 of 2 items of the log are not described" in caplog.text
    assert "1 described items are not in the log" in caplog.text


@pytest.mark.parametrize("categories", [["X|none", "nan"], [["X", None, "none"], None]])
def test_item_tables_in_parquet(tmp_path, put, categories):
    table = pa.table({"item_id": ["b ", "z"], "title": ["B", None], "genres": categories})
    pyarrow.parquet.write_table(table, tmp_path / "items")
    imported(put(CSV), items=tmp_path / "items")
    assert read_raw(tmp_path / "raw" / "own").items.to_numpy().tolist() == [["b", "B", "X"]]
    pyarrow.parquet.write_table(table.set_column(0, "item_id", [["b", None]]), tmp_path / "items")
    assert 'column "item_id", row 2: the item is missing' in read_fault(put(CSV), tmp_path / "items")
    pyarrow.parquet.write_table(table.set_column(0, "item_id", [["b", "null"]]), tmp_path / "items")
    assert "row 2: the item is missing" in read_fault(put(CSV), tmp_path / "items")
    pyarrow.parquet.write_table(table.drop_columns(["title", "genres"]), tmp_path / "items")
    assert "neither a title nor categories" in read_fault(put(CSV), tmp_path / "items")


def read_fault(path, items):
    with pytest.raises(DataError) as raised:
        read_import(path, items=items)
    return str(raised.value)


def test_item_columns_may_be_named_or_numbered(put):
    items = put("sku;x,label\na,A\nb,B\n", "items")
    read = read_import(put(CSV), items=items, item_columns={"item": "sku;x", "title": "label"})
    assert read.items["title"].tolist() == ["A", "B"]
    items = put("a,A|X\nb,B\n", "items")
    read = read_import(put(CSV), items=items, item_columns={"item": "1", "categories": "2"})
    assert read.items.to_numpy().tolist() == [["a", "", "A|X"], ["b", "", "B"]]


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ("item_id,title\nx,X\n", 'describes none of the items of .*there "a", here "x"'),
        ("item_id,title\na,A\n\nb,B,C\n", "items:4: 3 columns, expected 2"),
        ("item_id,title\na,A\nnan,B\n", 'items:3, column "item_id": the item is missing'),
        (
            "item_id,title\na,A\nb,B\na,C\n",
            'items:4, column "item_id": item "a" is described again, otherwise than in .*items:2',
        ),
        ("item_id,title\n", "a header and no items"),
        ("", "empty"),
        ("item_id|title\na|A\n", 'columns separated by "|"'),
        ("item_id,price\na,1\n", "neither a title nor categories"),
        ("code,title\na,1\n", "no column for the item; the header has code, title"),
        (b"item_id,title\na,caf\xe9\n", "items:2: not UTF-8 text"),
        (gzip.compress(b"item_id,title\na,A\n" * 100, mtime=0)[:-9], "gzip data break off"),
    ],
)
def test_bad_item_tables(put, items, said):
    message = fault(put(CSV), items=put(items, "items"))
    assert re.search(said, message), message


# Bad input -----------------------------------------------------------------------------------------------------------

BAD = {
    "no user column": ("account,item_id,timestamp\n1,2,3\n", "log:1: no known column names"),
    "no time column": ("user,item,rating\n1,2,3\n", "log:1: no column for the time; the header has user, item, rating"),
    "NaN user": (CSV + "nan,a,50\n", 'log:6, column "user_id": the user is missing ("nan")'),
    "empty user": (CSV + ",a,50\n", 'log:6, column "user_id": the user is missing ("")'),
    "blank item": (CSV + "u1,  ,50\n", 'log:6, column "item_id": the item is missing'),
    "NaN item": (CSV.replace("u2,b", "u2,NaN"), 'log:3, column "item_id": the item is missing ("NaN")'),
    "empty time": (CSV + "u1,a,\n", 'log:6, column "timestamp": the time is ""'),
    "NaN time": (CSV + "u1,a,nan\n", 'log:6, column "timestamp": the time is "nan"'),
    "infinite time": (CSV + "u1,a,inf\n", 'log:6, column "timestamp": the time is "inf"'),
    "text as time": (CSV + "u1,a,soon\n", 'log:6, column "timestamp": the time is "soon"; expected seconds since 1970'),
    "negative time": (CSV + "u1,a,-5\n", 'log:6, column "timestamp": the time is "-5"'),
    "negative fraction": (CSV + "u1,a,-0.5\n", 'log:6, column "timestamp": the time is "-0.5"'),
    "time beyond int64": (CSV + f"u1,a,{2**63}\n", 'log:6, column "timestamp": the time is "9223372036854775808"'),
    "numbers then dates": (CSV + "u1,a,2014-01-01\n", 'the time is "2014-01-01"; expected seconds since 1970'),
    "dates then words": ("user,item,time\n1,2,2014-01-01\n2,2,never\n", 'log:3, column "time": the time is "never"'),
    "dates then numbers": ("user,item,time\n1,2,2014-01-01\n2,2,99999999\n", 'log:3, column "time": the time is "999'),
    "date before 1970": ("user,item,time\n1,2,2014-01-01\n2,3,1969-01-01\n", 'log:3, column "time": the time is "1969'),
    "too many columns": (CSV + "u1,a,50,x\n", "log:6: 4 columns, expected 3"),
    "too few columns": (CSV + "\nu1,a\n", "log:7: 2 columns, expected 3"),
    "line after a multi-line field": (
        'user,item,time,x\n1,2,3,"a\nb"\n1,2,x,y\n',
        'log:4, column "time": the time is "x"',
    ),
    "open quote": (CSV + '"u1,a,50\nu1,b,60\n', "log:6: a quote is opened here and never closed"),
    "control character": (
        CSV + "u\x01,a,50\n",
        'log:6, column "user_id": the user "u\\x01" holds a control character',
    ),
    "pipes": (CSV.replace(",", "|"), 'log:1: columns separated by "|"'),
    "spaces": (CSV.replace(",", " "), "log:1: columns separated by spaces"),
    "no header": ("1,2,3\n4,5,6\n", "numbers from 1 if there is no header"),
    "header only": ("user,item,time\n", "a header and no rows below it"),
    "empty": ("", "the file is empty"),
    "blank": ("\n \n\n", "the file is empty"),
    "one user": (CSV.replace("u2", "u1"), 'only one user ("u1")'),
    "one item": (CSV.replace("b", "a"), 'only one item ("a")'),
    "only single interactions": ("u,1\n".replace(",", " ") + "v 2\n", "every user has a single interaction"),
    "binary": (bytes(range(256)) * 50, "log:1: binary data, not text"),
    "binary later": (CSV.encode() * 9 + b"a,\x00,1\n", "log:46: binary data"),
    "Latin-1": (CSV.encode() + "ü,a,50\n".encode("latin-1"), "log:6: not UTF-8 text (byte 0xfc at character 1)"),
    "UTF-16": (CSV.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    "truncated gzip": (gzip.compress(os.urandom(100) + CSV.encode() * 99)[:90], "gzip data break off"),
    "gzip damaged": (gzip.compress(CSV.encode() * 999)[:-8] + b"12345678", "gzip data break off or are damaged"),
    "empty gzip": (gzip.compress(b""), "the file is empty"),
    "pair too short": ("1 2\n2 3\n\n4\n", 'log:4: not a known form ("4")'),
    "pair too long": ("1 2\n" * 20_000 + "1 2 3\n", 'log:20001: 3 words ("1 2 3"); expected two words'),
    "user without items": ("1 2 3\n2 3\n4\n", 'log:3: not a known form ("4")'),
    "NaN in pairs": ("1 2\n2 nan\n", 'log:2, word 2: the item is missing ("nan")'),
    "Latin-1 in pairs": (b"1 2\n" * 20_000 + b"\xfc 1\n", "log:20001: not UTF-8 text"),
    "ambiguous": ("1 2 3\n4 5 6\n", "columns or sequences; if these are sequences say --format sequences"),
    "foreign records": ('{"user": 1}\n', "log:1: a record with the fields user; expected reviewerID and asin or"),
    "broken record": ("{user}\n", "log:1: neither a JSON object nor a Python literal"),
    "broken Parquet": (b"PAR1" + b"x" * 100, "cannot be read as Parquet"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_line(put, case):
    content, said = BAD[case]
    message = fault(put(content))
    assert said in message
    assert str(put("", "x").parent / "log") in message


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (CSV, {"form": "xls"}, '--format "xls": expected one of csv, tsv'),
        (CSV, {"form": "tsv"}, 'log:1: one column ("user_id,item_id,timestamp"); expected several, separated by tabs'),
        (CSV, {"form": "parquet"}, "cannot be read as Parquet"),
        (CSV, {"form": "pairs"}, "log:1: 1 words"),
        (CSV, {"form": "amazon"}, "log:1: neither a JSON object"),
        ("", {"form": "amazon"}, "empty; expected one review a line"),
        ("1 2\n3\n", {"form": "sequences"}, 'log:2: 1 words ("3"); expected a user and one or more items'),
        (
            CSV,
            {"columns": {"user": "who"}},
            'log:1: no column "who" for user; the header has user_id, item_id, timestamp',
        ),
        (CSV, {"columns": {"usr": "user_id"}}, 'unknown key "usr"; expected user, item, time; did you mean "user"'),
        (CSV, {"columns": {"user": "1", "item": "9"}}, "item=9: there are 3 columns"),
        ("1 2\n2 3\n", {"columns": {"user": "1"}}, "pairs files have no columns"),
        ("a,1,2\n,1,3\n", {"columns": {"user": "1", "item": "2", "time": "3"}}, "log:2, column 1: the user is missing"),
    ],
)
def test_bad_options_get_one_clear_line(put, content, options, said):
    assert said in fault(put(content), **options)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"user": ["a", None], "item": [1, 2], "time": [1, 2]}, 'column "user", row 2: the user is missing'),
        ({"user": ["a", ""], "item": [1, 2], "time": [1, 2]}, 'column "user", row 2: the user is missing'),
        ({"user": ["a", "b"], "item": [1.0, 2.5], "time": [1, 2]}, 'column "item", row 2: the item is 2.5'),
        ({"user": ["a", "b"], "item": [1, 2], "time": [1, -2]}, 'column "time", row 2: the time is "-2"'),
        ({"user": ["a", "b"], "item": [1, 2], "time": [1.0, float("nan")]}, 'column "time", row 2: the time is '),
        ({"user": ["a", "b"], "item": [1, 2], "time": ["2014-01-01", "x"]}, 'column "time", row 2: the time is "x"'),
        ({"user": ["a", "b"], "item": [[1], [2]], "time": [1, 2]}, "cannot be the item; write it as text"),
        ({"user": ["a", "b"], "item": [1, 2], "x": [1, 2]}, "no column for the time; the header has user, item, x"),
        (
            {"user": [2.0**53, 1.0], "item": [1, 2], "time": [1, 2]},
            'column "user", row 1: the user is 9007199254740992.0',
        ),
        (
            {"user": [1.0, -(2.0**53)], "item": [1, 2], "time": [1, 2]},
            "row 2: the user is -9007199254740992.0; floats from",
        ),
        (
            {"user": pa.array([1, 2**24], "float"), "item": [1, 2], "time": [1, 2]},
            "row 2: the user is 16777216.0; floats",
        ),
        ({"user": [1.0, float("inf")], "item": [1, 2], "time": [1, 2]}, "row 2: the user is inf; expected an id"),
        ({"user": [1.0, float("nan")], "item": [1, 2], "time": [1, 2]}, "row 2: the user is nan; expected an id"),
        ({"user": [1.0, None], "item": [1, 2], "time": [1, 2]}, "row 2: the user is missing"),
        ({"user": [9.3e18, 1.0], "item": [1, 2], "time": [1, 2]}, "row 1: the user is 9.3e+18; floats from"),
        ({"user": pa.nulls(2), "item": [1, 2], "time": [1, 2]}, 'column "user", row 1: the user is missing'),
        ({"user": [True, False], "item": [1, 2], "time": [1, 2]}, "bool cannot be the user; write it as text"),
        ({"user": [b"a", b"b"], "item": [1, 2], "time": [1, 2]}, "binary cannot be the user; write it as text"),
        ({"user": [{"a": 1}, {"a": 2}], "item": [1, 2], "time": [1, 2]}, "struct<a: int64> cannot be the user"),
        ({"user": [Decimal("1.5"), Decimal(2)], "item": [1, 2], "time": [1, 2]}, "row 1: the user is 1.5"),
        ({"user": [1, 2], "item": [1, 2], "time": [True, False]}, "bool cannot be the time"),
        ({"user": [1, 2], "item": [1, 2], "time": pa.array([1, 2], "duration[s]")}, "cannot be the time"),
        ({"user": [1, 2], "item": [1, 2], "time": pa.array([1, 2], "time64[us]")}, "cannot be the time"),
        ({"user": [1, 2], "item": [1, 2], "time": [1, None]}, 'column "time", row 2: the time is missing'),
        (
            {"user": [1, 2], "item": [1, 2], "time": pa.array([1, 2**63], "uint64")},
            'row 2: the time is "9223372036854775808"',
        ),
        (
            {"user": ["a", "b\x00"], "item": [1, 2], "time": [1, 2]},
            'row 2: the user "b\\x00" holds a control character',
        ),
        ({"user": pa.array([], "string"), "item": pa.array([], "int64")}, "no rows"),
    ],
)
def test_bad_parquet_gets_one_clear_line(tmp_path, table, said):
    pyarrow.parquet.write_table(pa.table(table), tmp_path / "log")
    assert said in fault(tmp_path / "log")


def test_missing_files_and_folders_are_named(tmp_path):
    assert "nowhere: cannot be read (No such file or directory)" in fault(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    assert "cannot be read (Is a directory)" in fault(tmp_path / "folder")


def test_bad_names_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(DataError, match="expected lower-case letters"):
        import_file(tmp_path / "nowhere", "../x", tmp_path)


def test_a_full_disk_and_an_unwritable_folder_leave_nothing(put, monkeypatch):
    path = put(CSV)
    with pytest.raises(RunError, match="cannot be written"):
        import_file(path, "own", path)  # below a file
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(RunError, match="No space left on device"):
        import_file(path, "own", path.parent / "raw")
    assert list((path.parent / "raw").iterdir()) == []


@pytest.mark.parametrize("text", ["user", "user=", "=a", "user=a,", ""])
def test_column_mappings_are_checked(text):
    with pytest.raises(DataError, match="expected key=column"):
        column_mapping(text)
    assert column_mapping("user=a, item = b") == {"user": "a", "item": "b"}
    assert column_mapping(None) is None


def test_a_million_pairs_take_no_time(put):
    path = put("".join(f"{i // 10} {i % 997}\n" for i in range(1_000_000)))
    start = time.perf_counter()
    assert import_file(path, "own", path.parent / "raw")["num_interactions"] == 1_000_000
    assert time.perf_counter() - start < 8  # about half a second; a loop over lines takes many


# Real files ----------------------------------------------------------------------------------------------------------

REAL = [
    ("amazon-beauty-5core/sequences.txt.gz", "amazon-beauty-5core/items.csv.gz", (22363, 12101, 198502)),
    ("amazon-games/pairs.txt.gz", None, (31013, 23715, 287107)),
    ("amazon-beauty/pairs.txt.gz", None, (40226, 54542, 353962)),
]


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data here")
@pytest.mark.parametrize(("log", "items", "counts"), REAL)
def test_real_files_have_the_published_counts(tmp_path, log, items, counts):
    info = import_file(SHARED / log, "real", tmp_path, items=SHARED / items if items else None)
    assert (info["num_users"], info["num_items"], info["num_interactions"]) == counts
    assert info["num_duplicates_dropped"] == 0
    if items:
        assert info["num_described_items"] == counts[1]
        first = read_raw(tmp_path / "real")
        assert first.interactions.iloc[:5]["item_id"].tolist() == ["1", "2", "3", "4", "5"]
        assert "Makeup" in first.items["categories"][0].split("|")
