"""Request files: everything that can be imported, and what a request may leave out."""

import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from srun.data.raw import read_info, read_raw
from srun.errors import DataError
from srun.flow.fetch import import_file
from srun.requests.request_file import read_request

ROWS = [["u1", "a", 1714557600], ["u2", "b", 1714557601], ["u1", "a", 1714557600]]
HEAD = "user_id,item_id,timestamp\n"
TEXT = HEAD + "".join(f"{user},{item},{at}\n" for user, item, at in ROWS)


@pytest.fixture
def put(tmp_path):
    def write(content, name="request"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows(frame):
    return frame.to_numpy().tolist()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.replace(",", "\t"),
        TEXT.replace(",", ";"),
        TEXT.replace(",", " , "),
        TEXT.replace("17145576", "2024-05-01T10:00:"),
        TEXT.replace("00\n", "00.0\n").replace("01\n", "01.9\n"),
        TEXT.replace("00\n", "00000\n").replace("01\n", "01999\n"),
        "\ufeff" + TEXT.replace("\n", "\r\n"),
        HEAD.replace("\n", ",why\n") + "".join(f'{user},{item},{at},"he, she"\n' for user, item, at in ROWS),
        "".join(json.dumps({"reviewerID": u, "asin": i, "unixReviewTime": at}) + "\n" for u, i, at in ROWS),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_every_form_of_an_import_is_a_request_and_keeps_rows_and_lines(put, text, pack):
    frame = read_request(put(pack(text.encode())))
    first = 1 if text.startswith("{") else 2
    assert rows(frame) == [[*row, line] for line, row in enumerate(ROWS, start=first)]
    assert frame.dtypes.astype(str).to_dict() == {
        "user_id": "str",
        "item_id": "str",
        "timestamp": "int64",
        "line": "int64",
    }


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_gives_the_row_as_the_line(tmp_path, unit):
    at = pa.array([row[2] for row in ROWS], "timestamp[s]").cast(f"timestamp[{unit}]")
    users = pa.array([row[0] for row in ROWS]).dictionary_encode()
    table = pa.table({"user": users, "item": ["a", "b", "a"], "time": at, "x": at})
    pyarrow.parquet.write_table(table, tmp_path / "request")
    assert rows(read_request(tmp_path / "request")) == [[*row, line] for line, row in enumerate(ROWS, start=1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user_id\n007 \n7\n", [["007", 2], ["7", 3]]),
        ("User ID\nu1\n\nu1\n", [["u1", 2], ["u1", 4]]),
        ("why;user_id\nx;u1\n", [["u1", 2]]),
        ("user_id,item_id,why\nu1,a,x\n", [["u1", "a", 2]]),
        ("u1 a\n\nu2 b\n", [["u1", "a", 1], ["u2", "b", 3]]),
        ("u1 a\n", [["u1", "a", 1]]),
        ("u1 a b\nu2 b\n", [["u1", "a", 1], ["u1", "b", 1], ["u2", "b", 2]]),
        ('user_id,item_id,x\nu1,a,"1\n2"\nu2,b,\n', [["u1", "a", 3], ["u2", "b", 4]]),
    ],
)
def test_users_alone_and_pairs_without_times_are_requests(put, text, expected):
    assert rows(read_request(put(text))) == expected


def test_a_mapping_comes_before_recorded_names_and_these_before_known_ones(put):
    path = put("customer,user_id,sku,item_id,at\nc,u,s,i,5\n")
    assert rows(read_request(path)) == [["u", "i", 2]]
    recorded = {"user": "customer", "item": "sku", "time": "at"}
    assert rows(read_request(path, recorded=recorded)) == [["c", "s", 5, 2]]
    assert rows(read_request(path, recorded=recorded, columns={"user": "user_id"})) == [["u", "s", 5, 2]]
    assert rows(read_request(path, recorded=recorded, columns={"time": "none"})) == [["c", "s", 2]]
    assert rows(read_request(put(TEXT), recorded=recorded))[0] == [*ROWS[0], 2]
    assert rows(read_request(put("c\nu\n"), recorded={"user": "c"})) == [["u", 2]]
    assert rows(read_request(put("u,9\n"), columns={"user": "1", "item": "2"}, recorded=recorded)) == [["u", "9", 1]]
    assert rows(read_request(put("u\n"), columns={"user": "1"})) == [["u", 1]]
    assert rows(read_request(put("u|i,x\nu,i\n"), columns={"user": "u|i"})) == [["u", 2]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
        (HEAD, "a header and no rows"),
        ("user_id\n\n", "a header and no rows"),
        (HEAD + "u1,a,5\nu2,b,\n", 'request:3, column "timestamp": the time is ""'),
        (HEAD + "u1,a,5\nu2,b,nan\n", 'request:3, column "timestamp": the time is "nan"'),
        (HEAD + "u1,a,5\nu2,,5\n", 'request:3, column "item_id": the item is missing'),
        (HEAD + "u1,a,1700000000\nu1,a,1700000000000\n", 'request:3, column "timestamp": the time is'),
        (HEAD + "u1,a,5,6\n", "request:2: 4 columns, expected 3"),
        (HEAD + 'u1,"a,5\n', "request:2: a quote is opened here"),
        ("item_id,timestamp\na,5\n", "no known column names"),
        ("user_id,user_id\na,b\n", "columns 1 and 2 are both named"),
        ("u1\nu2\n", "request:1: not a known form"),
        ("user_id item_id\nu1 a\n", "columns separated by spaces"),
    ],
)
def test_faults_are_those_of_an_import(put, text, said):
    with pytest.raises(DataError) as raised:
        read_request(put(text))
    assert said in str(raised.value)
    assert "request" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_null_times_in_parquet_are_refused(tmp_path):
    pyarrow.parquet.write_table(pa.table({"user": ["a", "b"], "time": [1, None]}), tmp_path / "request")
    with pytest.raises(DataError, match='column "time", row 2: the time is missing'):
        read_request(tmp_path / "request")


LOG = "who,what,at\n" + "".join(f" u{i % 3} ,i{i},2024-05-01T10:00:{i:02}.{i}5Z\n" for i in range(12))


def test_rows_of_the_imported_log_are_rows_of_the_canonical_table(put, tmp_path):
    columns = {"user": "who", "item": "what", "time": "at"}
    info = import_file(put(LOG, "log"), "own", tmp_path, columns=columns)
    assert info["columns"] == read_info(tmp_path / "own")["columns"] == columns
    request = read_request(put(LOG), recorded=info["columns"]).drop(columns="line")
    canonical = read_raw(tmp_path / "own").interactions
    found = pd.merge(request, canonical.astype({"user_id": "str", "item_id": "str"}))
    assert len(found) == 12


def test_recorded_columns_are_not_in_the_fingerprint_and_may_be_missing(put, tmp_path):
    columns = {"user": "who", "item": "what", "time": "at"}
    named = import_file(put(LOG, "log"), "a", tmp_path, columns=columns)
    text = LOG.partition("\n")[2]
    numbered = import_file(put(text, "log"), "b", tmp_path, columns={"user": "1", "item": "2", "time": "3"})
    assert "columns" not in read_info(tmp_path / "b")
    assert named["fingerprint"] == numbered["fingerprint"]
    path = tmp_path / "a" / "dataset.json"
    path.write_text(json.dumps({**named, "columns": {"user": 1}}))
    with pytest.raises(DataError, match='no valid "columns"'):
        read_info(tmp_path / "a")
