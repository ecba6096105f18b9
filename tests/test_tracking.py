"""Stores that cannot be used: one line that names the store and the mend, at once and before anything is computed."""

import os
import shutil
import sqlite3
import time

import mlflow
import pytest

from srun import tracking
from srun.errors import RunError
from srun.tracking import StudyTracker, Version, reach, tracked_run

VERSION = Version("srun-a-b-c", "original", {"srun.data": "a", "srun.original": "b-c"}, "An Original.")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with a store of its own; MLflow's choice of a store is undone afterwards."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking, "LOCK_TIMEOUT", 0.2)
    yield tmp_path
    forget_choice()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A database that a run was written to."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with opened(root) as tracker:
            tracker.params({"a": 1})
        forget_choice()
    change(root, "PRAGMA wal_checkpoint(TRUNCATE)")
    return root / "mlflow.db"


@pytest.fixture
def used(root, store):
    """The same, after a run; this process has not opened its database yet."""
    shutil.copy(store, root)
    return root


def forget_choice():
    mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def opened(root, experiment="srun"):
    return tracked_run(root, experiment, "a run", {}, None)


def refused(root, *words):
    """The error of a run that must not begin."""
    with pytest.raises(RunError) as told, opened(root):
        pytest.fail("the run began")
    message = str(told.value)
    assert message.isprintable(), message
    assert len(message) <= 500, message
    assert not [word for word in words if word not in message], message
    return message


def change(root, command):
    with sqlite3.connect(root / "mlflow.db") as connection:
        connection.execute(command)
    connection.close()


def test_a_deleted_experiment_names_the_command_that_restores_it(used):
    reach(used)
    experiment = mlflow.get_experiment_by_name("srun").experiment_id
    mlflow.MlflowClient().delete_experiment(experiment)
    refused(used, str(used / "mlflow.db"), "deleted", f"mlflow experiments restore -x {experiment}")
    with pytest.raises(RunError, match="deleted; bring it back"):
        StudyTracker(used, "srun", "study", "key", {})
    mlflow.MlflowClient().restore_experiment(experiment)
    with opened(used) as tracker:
        tracker.metrics({"a": 1.0})


def test_a_server_that_is_not_there_is_known_in_seconds(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    began = time.monotonic()
    message = refused(root, "127.0.0.1:9", "start the server", "runtime.tracking=false")
    assert time.monotonic() - began < 10
    assert "secret" not in message
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ, "later requests are repeated as ever"


def test_a_database_server_that_is_not_there_is_known_in_seconds(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://someone:secret@127.0.0.1:9/x")
    began = time.monotonic()
    assert "secret" not in refused(root, "127.0.0.1:9/x")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("uri", ["nonsense://x", "http://[", "sqlite:////nowhere/at/all.db", "file:./mlruns"])
def test_an_address_that_is_none_is_one_line(root, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(root)
    refused(root, uri)


@pytest.mark.parametrize("data", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_database_says_so(root, data):
    (root / "mlflow.db").write_bytes(data)
    refused(root, str(root / "mlflow.db"), "it is damaged: restore a copy, or move it away")


def test_a_database_damaged_in_its_middle_says_so(used):
    data = bytearray((used / "mlflow.db").read_bytes())
    data[4096 : len(data)] = b"\xa5" * (len(data) - 4096)
    (used / "mlflow.db").write_bytes(data)
    refused(used, "it is damaged")


def test_a_folder_in_the_place_of_the_database_says_so(root):
    (root / "mlflow.db").mkdir()
    refused(root, str(root / "mlflow.db"), "make the file and its folder writable")


def test_a_database_that_another_program_holds_says_so(used):
    holder = sqlite3.connect(used / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    refused(used, "another program holds it")
    holder.close()


def test_a_database_that_can_only_be_read_says_so(used, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{used}/mlflow.db?mode=ro&uri=true")
    refused(used, "make the file and its folder writable")


@pytest.mark.parametrize("revision", ["fffffffffffd", "451aebb31d03"])
def test_a_database_of_another_mlflow_says_so(used, revision):
    change(used, f"UPDATE alembic_version SET version_num = '{revision}'")
    refused(used, "it is of another MLflow", "mlflow db upgrade")


def test_what_fails_later_is_one_line_too_and_hides_no_other_error(used):
    def lose(table, then):
        with opened(used) as tracker:
            change(used, f"DROP TABLE {table}")
            then(tracker)

    with pytest.raises(RunError, match=r"^tracking store .*mlflow\.db: "):
        lose("params", lambda tracker: tracker.params({"b": 1}))
    with pytest.raises(ZeroDivisionError):
        lose("runs", lambda tracker: 1 / 0)


def test_a_run_that_fails_ends_as_failed(used):
    with pytest.raises(ZeroDivisionError), opened(used) as tracker:
        raise ZeroDivisionError
    assert mlflow.get_run(tracker.run_id).info.status == "FAILED"


def test_a_name_that_two_data_sets_could_have_keeps_to_the_first(used, caplog):
    class Served:
        model_uri, model_id = "models:/m-0", None

    with opened(used) as tracker:
        client = mlflow.MlflowClient()
        client.create_registered_model(VERSION.name, {"srun.data": "a-b", "srun.original": "c"})
        tracker._register(Served, VERSION)
    assert "srun-a-b-c: not registered, for the name is that of a-b, c" in caplog.text
    assert not client.search_model_versions(f"name='{VERSION.name}'")


def test_without_git_a_run_has_no_revision(root, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with opened(root) as tracker:
        pass
    assert "git.revision" not in mlflow.get_run(tracker.run_id).data.tags


def test_a_store_that_answers_is_told_by_silence(used):
    reach(used)
