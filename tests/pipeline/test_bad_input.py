"""Two dozen bad inputs on the command line: one line with file and place, exit code 1, nothing half-written."""

import gzip
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from srun.cli import cli

HEADER = "user,item,time\n"
GOOD = HEADER + "".join(f"u{user},i{(user + step) % 9},{step}\n" for user in range(12) for step in range(6))

FILES = {
    "missing column": (b"user,time\nu1,1\nu2,2\n", "item"),
    "NaN": (f"{GOOD}u1,nan,7\n".encode(), ":74"),
    "empty user": (f"{GOOD},i1,7\n".encode(), ":74"),
    "text as time": (f"{GOOD}u1,i1,yesterday\n".encode(), ":74"),
    "negative time": (f"{GOOD}u1,i1,-7\n".encode(), ":74"),
    "empty file": (b"", "empty"),
    "header only": (HEADER.encode(), ""),
    "one user": (f"{HEADER}u1,i1,1\nu1,i2,2\nu1,i3,3\n".encode(), "user"),
    "wrong delimiter": (GOOD.replace(",", ";").encode(), ""),
    "binary junk": (bytes(range(256)) * 40, ""),
    "truncated gzip": (gzip.compress(GOOD.encode())[:-20], "gzip"),
    "a field too many": (f"{GOOD}u1,i1,7,8\n".encode(), ":74"),
    "not UTF-8": (f"{GOOD}u1,caf\xe9,7\n".encode("latin-1"), ""),
}

REQUESTS = {
    "unknown user": ("user_id,item_id\nnobody,i1\n", "1 row unknown_user: line 2"),
    "unknown item": ("user_id,item_id\nu1,nothing\n", "1 row unknown_item: line 2"),
    "no such event": ("user_id,item_id,timestamp\nu1,i1,999999\n", "1 row no_such_event (the user has this item"),
    "no header": ("u1,i1\n", "request.csv:1"),
    "a field too many": ("user_id,item_id\nu1,i1,7\n", "request.csv:2"),
    "nothing named": ("user_id,item_id\n", "request.csv"),
    "empty": ("", "empty"),
}


def srun(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def check_refused(result: Result, *said: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    lines = [line for line in result.output.strip().splitlines() if line.startswith("Error")]
    assert len(lines) == 1, result.output
    for words in said:
        assert words in lines[0]


@pytest.mark.parametrize("name", FILES)
def test_a_bad_log_is_refused(project: Path, name: str) -> None:
    content, place = FILES[name]
    (project / "bad.csv").write_bytes(content)
    check_refused(srun("data", "import", "bad.csv", "--name", "bad", "--format", "csv"), "bad.csv", place)
    assert not (project / "data").exists() or not list((project / "data").rglob("*"))


@pytest.mark.parametrize(
    ("items", "said"),
    [("item,title\nz1,A\nz2,B\n", "items.csv"), ("name\nA\n", "items.csv"), ("", "items.csv")],
    ids=["matches nothing", "no ids", "empty"],
)
def test_a_bad_item_table_is_refused(project: Path, items: str, said: str) -> None:
    (project / "items.csv").write_text(items)
    check_refused(srun("data", "import", "log.csv", "--name", "bad", "--items", "items.csv"), said)
    assert not (project / "data/raw/bad").exists()


@pytest.fixture
def prepared(project: Path) -> Path:
    (project / "good.csv").write_text(GOOD)
    for words in (["data", "import", "good.csv", "--name", "tiny"], ["prepare", "--params", "tiny.yaml"]):
        result = srun(*words)
        assert result.exit_code == 0, result.output
    return project


@pytest.mark.parametrize("name", REQUESTS)
def test_a_bad_request_is_refused(prepared: Path, name: str) -> None:
    content, said = REQUESTS[name]
    (prepared / "request.csv").write_text(content)
    words = ("--request", "mine", "--file", "request.csv")
    check_refused(srun("partition", "--params", "tiny.yaml", *words), said)
    assert not (prepared / "data/partition").exists()


def test_an_unknown_category_or_data_without_any_is_refused(prepared: Path) -> None:
    request = "{kind: category, categories: [Akshun], users: null, context: retained, catalogue: full, seed: 0}"
    words = ["partition", "--params", "tiny.yaml", "--request", "new", "--set", f"partition.new={request}"]
    check_refused(srun(*words), "no item categories")
    (prepared / "items.csv").write_text("item,categories\n" + "".join(f"i{item},Action|Drama\n" for item in range(9)))
    again = ["data", "import", "good.csv", "--name", "tiny", "--items", "items.csv"]
    assert srun(*again).exit_code == 0
    assert srun("prepare", "--params", "tiny.yaml").exit_code == 0
    check_refused(srun(*words), 'unknown category "Akshun"', "Action")


def test_a_missing_file_or_data_set_is_refused(project: Path) -> None:
    check_refused(srun("data", "import", "nowhere.csv", "--name", "x"), "nowhere.csv")
    check_refused(srun("data", "describe", "nothing"), "nothing")
    check_refused(srun("prepare", "--params", "tiny.yaml"), "tiny")
    check_refused(srun("data", "import", "log.csv", "--name", "../x"), "../x")
