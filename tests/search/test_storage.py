"""Storages: journals that are torn at their end, in the middle and while others work on; places that are none."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from srun.errors import ConfigError, RunError, SrunError
from srun.search import journal, storage
from srun.search.journal import repair_journal
from srun.search.results import read_study
from srun.search.storage import open_storage, reaching
from srun.search.study import Search, load_study, num_finished, open_study

HALF = b'{"op_code":4,"worker_id":"dead","st'


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "folder" / "s.journal")


@pytest.fixture
def begun(toy, place):
    """The journal of a study with three trials, as bytes."""
    toy.work(place, "s", 3, 0.0)
    return Path(place).read_bytes()


def tear(place, at, what):
    """Put bytes between two lines of a journal."""
    data = Path(place).read_bytes()
    lines = data.splitlines(keepends=True)
    Path(place).write_bytes(b"".join([*lines[:at], what, *lines[at:]]))


def is_whole(place):
    data = Path(place).read_bytes()
    return data.endswith(b"\n") and all(json.loads(line) for line in data.splitlines())


@pytest.mark.parametrize("torn", [HALF, b"\0\0\0\0\n", b'{"half\n{"op', b'"x"}\n'])
def test_an_end_that_is_torn_is_cut_off(toy, place, begun, torn):
    with open(place, "ab") as file:
        file.write(torn)
    open_storage(place)
    assert Path(place).read_bytes() == begun
    toy.work(place, "s", 4, 0.0)
    assert toy.count(place, "s")["COMPLETE"] == 4


INSIDE = [HALF, HALF + HALF, HALF + b"\n", b"\0\0\0\n", b"\xff\xfe\n", b'x"}\r\n' + HALF]


@pytest.mark.parametrize(("at", "torn"), [(0, HALF), (0, HALF + b"\n"), *((9, torn) for torn in INSIDE)])
def test_a_line_torn_in_the_middle_costs_nothing_of_the_others(toy, place, begun, at, torn):
    before = [trial.values for trial in load_study(open_storage(place), "s").trials]
    tear(place, at, torn)
    after = load_study(open_storage(place), "s").trials
    assert [trial.values for trial in after] == before
    assert [json.loads(line) for line in Path(place).read_bytes().splitlines()] == [
        json.loads(line) for line in begun.splitlines()
    ]
    assert len(Path(place).read_bytes()) == len(begun) + len(torn), "nothing behind it has moved"
    assert repair_journal(Path(place)) == 0


@pytest.mark.parametrize("torn", [HALF, b"\0\0\0\n", b"\xff\n", b'"half"}\n'])
def test_a_worker_that_lives_goes_on_behind_half_a_line(toy, place, torn):
    study = open_study(open_storage(place), "s", toy.toy_goal(), {})
    for number in range(3):
        for step in (lambda: study.ask(), lambda number=number: study.tell(number, [number, number])):
            with open(place, "ab") as file:
                file.write(torn)
            step()
    assert [trial.values for trial in study.trials] == [[0, 0], [1, 1], [2, 2]]
    assert [trial.values for trial in load_study(open_storage(place), "s").trials] == [[0, 0], [1, 1], [2, 2]]
    assert is_whole(place)


def test_a_storage_that_is_open_reads_on_where_another_mended(toy, place):
    """Optuna's readers keep the places of lines, so none may move."""
    study = open_study(open_storage(place), "s", toy.toy_goal(), {})
    study.tell(study.ask(), [1, 2])
    with open(place, "ab") as file:
        file.write(HALF + b"\n" + HALF)
    other = load_study(open_storage(place), "s")
    other.tell(other.ask(), [3, 4])
    study.tell(study.ask(), [5, 6])
    assert [trial.values for trial in study.trials] == [[1, 2], [3, 4], [5, 6]]
    assert [trial.values for trial in other.trials] == [[1, 2], [3, 4], [5, 6]]


def dies_writing(place):
    """A worker that is killed while it holds the lock and has written half of a line."""
    study = load_study(open_storage(place), "s")
    study.ask()

    def fsync(number):
        end = os.lseek(number, 0, os.SEEK_END)
        os.ftruncate(number, end - 20)
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync
    study.ask()


def test_a_worker_killed_while_it_writes_costs_its_own_attempt(toy, place, monkeypatch):
    monkeypatch.setattr(journal, "LOCK_SECONDS", 3)
    alive = toy.start(place, "s", 12, 0.2)
    toy.wait_for(lambda: num_finished(toy.count(place, "s")) >= 2)
    dead = get_context("fork").Process(target=dies_writing, args=(place,))
    dead.start()
    assert toy.ends_of([dead, alive]) == [-signal.SIGKILL, 0]
    states = toy.count(place, "s")
    assert states["COMPLETE"] == 12
    assert states["FAIL"] == 1, "the one that the dead worker had asked for; the other was never there"
    assert is_whole(place)


@pytest.mark.parametrize("content", ["a,b\n1,2", "a,b\n1,2\n", "{}\n", "SQLite format 3"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path, content):
    (tmp_path / "mine").write_text(content)
    with pytest.raises(ConfigError, match="no journal"):
        open_storage(str(tmp_path / "mine"))
    assert (tmp_path / "mine").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["mine"], "no lock is left"


def test_the_database_of_something_else_is_left_alone(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
        other.execute("CREATE TABLE alembic_version (version_num TEXT)")
        other.execute("INSERT INTO alembic_version VALUES ('1')")
        other.commit()
        with pytest.raises(ConfigError, match="no storage of a search"):
            open_storage(f"sqlite:///{tmp_path}/mlflow.db")
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("alembic_version",)]


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("kind", ["database", "journal"])
def test_a_storage_that_is_lost_in_the_middle_is_one_line_and_the_study_goes_on(toy, tmp_path, kind):
    file = tmp_path / "folder" / "s"
    file.parent.mkdir()
    place = f"sqlite:///{file}" if kind == "database" else str(file)
    goal = toy.toy_goal()

    def search(evaluate):
        with reaching(place):
            study = open_study(open_storage(place), "s", goal, {})
            return Search(study, toy.toy_space(), goal, toy.LIMITS, "random", 0).run(evaluate, 4, None)

    def loses(overrides, tell):
        if len(load_study(open_storage(place), "s").trials) == 3:
            file.rename(tmp_path / "kept")
            file.mkdir()
            time.sleep(3 * toy.LIMITS.beat)  # signs of life are lost too
        return toy.toy(overrides)

    with pytest.raises(RunError) as caught:
        search(loses)
    message = str(caught.value)
    assert f'storage "{place}": lost' in message
    assert "go on with the same command" in message
    assert "\n" not in message

    file.rmdir()
    (tmp_path / "kept").rename(file)
    assert search(lambda overrides, tell: toy.toy(overrides))
    states = [trial.state.name for trial in load_study(open_storage(place), "s").trials]
    assert states.count("COMPLETE") == 4
    assert len(states) == 5, "what was lost is one attempt"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("mysql://u:secret@h/d", "driver is not installed"),
        ("postgres://u:secret@h/d", "no address of a database"),
        ("postgresql+psycopg://u:secret@h:port/d", "no address of a database"),
        ("postgresql+psycopg://u:secret@127.0.0.1:1/d", "no connection within 5 s"),
        ("sqlite:////nowhere/x.db", "no connection"),
        (".", "is a folder; expected"),
        ("/dev/null/x.journal", "cannot be used as a journal"),
    ],
)
def test_what_can_be_no_storage_is_one_line_at_once(where, said):
    began = time.monotonic()
    with pytest.raises(SrunError) as caught:
        open_storage(where)
    message = str(caught.value)
    assert said in message
    assert "journal file" in message, "what would do"
    assert "\n" not in message
    assert "secret" not in message
    assert time.monotonic() - began < 3


def test_a_server_that_does_not_answer_is_given_up_at_its_limit(monkeypatch):
    monkeypatch.setattr(storage, "CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(RunError, match=r"127\.0\.0\.1.*no connection within 2 s"):
            open_storage(f"postgresql+psycopg://u@127.0.0.1:{silent.getsockname()[1]}/d")
    assert 1.5 < time.monotonic() - began < 4


@pytest.mark.parametrize("field", [b'"trial_id"', b'"distribution"', b'"study_name"', b'"user_attr"'])
def test_a_whole_line_that_no_search_wrote_is_told_as_damage(place, begun, field):
    assert field in begun
    Path(place).write_bytes(begun.replace(field, field[:-2] + b'q"'))
    with pytest.raises(ConfigError, match=r"s\.journal: damaged, .*; restore a copy of it, or name another file"):
        open_storage(place)


def test_a_study_that_lost_what_it_is_on_is_told_as_damage(toy, place, begun):
    lines = [line for line in begun.splitlines(keepends=True) if b'"about"' not in line]
    Path(place).write_bytes(b"".join(lines))
    with pytest.raises(RunError, match='study "s": damaged'):
        read_study(load_study(open_storage(place), "s"))
    Path(place).write_bytes(begun.replace(b'"about":{"goal":"toy"}', b'"about":7'))
    with pytest.raises(ConfigError, match='study "s": damaged'):
        open_study(open_storage(place), "s", toy.toy_goal(), {})


def test_names_of_other_studies_are_shown_as_text(place, begun):
    Path(place).write_bytes(begun.replace(b'"study_name":"s"', b'"study_name":{"x":7}'))
    with pytest.raises(RunError, match=r"there is \{'x': 7\}"):
        load_study(open_storage(place), "s")
