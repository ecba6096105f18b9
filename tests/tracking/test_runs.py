"""A tracker that is away, slow, full or broken never ends a run; what it misses is delivered later, each event once."""

import json
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest

from srun.files import write_folder
from srun.tracking import Version, runs, spool
from srun.tracking import mlflow as delivery
from srun.tracking.runs import Tracking, sync_spools

VERSION = Version("srun-a-b-c", "original", {"srun.data": "a", "srun.original": "b-c"}, "An Original.")
EPOCHS = 6


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waits are short, and MLflow's choice of a store and its timeouts are undone afterwards."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(delivery, "LOCK_TIMEOUT", 0.2)
    monkeypatch.setattr(runs, "LATENCY", 0.02)
    yield
    forget_choice()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A database that a run was written to."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with opened(root, patience=60) as tracker:
            tracker.params({"a": 1})
        forget_choice()
    assert not spool.spools(root)
    change(root, "PRAGMA wal_checkpoint(TRUNCATE)")
    return root / "mlflow.db"


@pytest.fixture
def root(tmp_path, store):
    """A project with a store of its own, which this process has not opened yet."""
    shutil.copy(store, tmp_path)
    return tmp_path


def forget_choice():
    mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def opened(root, experiment="srun", name="a run", patience=None, resume=None):
    tracking = Tracking()
    if patience is not None:
        tracking.patience = patience
    return tracking.run(root, experiment, name, {"stage": "train"}, ("data", "f" * 40), resume)


def train(root, name="trained", patience=2, between=lambda epoch: None):
    """A run as training is one: parameters, a curve, figures and files; how long its end had to wait."""
    with write_folder(root / "model") as new:
        (new / "weights").write_text(f"weights of {name}")
    (root / "note.txt").write_text(f"of {name}")
    with opened(root, name=name, patience=patience) as tracker:
        tracker.params({"a": {"b": 1}})
        for epoch in range(1, EPOCHS + 1):
            between(epoch)
            tracker.metrics({"loss": 1 / epoch, "nan": float("nan")}, step=epoch)
        tracker.metrics({"cost/seconds": 2.5})
        tracker.artifact(root / "note.txt", "report")
        tracker.artifact(root / "model", "model")
        began = time.monotonic()
    return time.monotonic() - began


def check_once(uri, root, name="trained"):
    """The store has the run of this name once, whole and as it was told."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("srun").experiment_id
    [run] = client.search_runs([experiment], f"attributes.run_name = '{name}'")
    run_id = run.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.params == {"a.b": "1"}
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "loss")] == [
        (epoch, 1 / epoch) for epoch in range(1, EPOCHS + 1)
    ]
    assert [m.value for m in client.get_metric_history(run_id, "cost/seconds")] == [2.5]
    assert len(run.inputs.dataset_inputs) == 1
    assert set(run.data.metrics) == {"loss", "cost/seconds"}
    for place, text in (("report/note.txt", f"of {name}"), ("model/weights", f"weights of {name}")):
        assert Path(client.download_artifacts(run_id, place)).read_text() == text
    assert not spool.spools(root), "what is delivered is removed"


def check_later(root, caplog, *words):
    """One line said why, what is kept and how it is delivered; it is, and once."""
    [line] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert not [word for word in (*words, str(root / "runs" / "spool"), "srun sync") if word not in line], line
    assert spool.spools(root)


def own(root):
    return f"sqlite:///{root}/mlflow.db"


def change(root, command):
    with sqlite3.connect(root / "mlflow.db") as connection:
        connection.execute(command)
    connection.close()


def delivered(root):
    assert {row["state"] for row in sync_spools(root, is_for_any=False)} == {"delivered"}


def sync_until_delivered(root):
    states = []
    for _ in range(200):
        states.append([row["state"] for row in sync_spools(root, is_for_any=False)])
        if all(state == "delivered" for state in states[-1]):
            return
        time.sleep(0.2)  # a courier of this process may be in the middle of something
    pytest.fail(f"not delivered in 200 tries: {states[-3:]}")


def test_an_ordinary_run_is_there_when_it_ends(root, caplog):
    train(root, patience=60)
    check_once(own(root), root)
    run = mlflow.search_runs(search_all_experiments=True, filter_string="tags.stage = 'train'", output_format="list")[0]
    assert {"stage", "mlflow.user", "mlflow.source.name", "mlflow.runName", "srun.spool"} <= set(run.data.tags)
    assert not caplog.records


def test_a_spool_is_private_and_names_no_password(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    train(root, patience=1)
    [folder] = spool.spools(root)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / spool.EVENTS).stat().st_mode) == 0o600
    assert b"secret" not in (folder / spool.EVENTS).read_bytes()


def test_what_is_meant_for_another_store_stays_unless_it_is_asked_for(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    train(root, patience=1)
    forget_choice()
    [row] = sync_spools(root, is_for_any=False)
    assert row["state"] == "for another store, http://***@127.0.0.1:9"
    [row] = sync_spools(root, is_for_any=True)
    assert row["state"] == "delivered"
    check_once(own(root), root)


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:9", "postgresql://u:secret@127.0.0.1:9/x", "nonsense://x", "http://["]
)
def test_a_store_that_is_not_there_costs_no_run(root, monkeypatch, caplog, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(root)
    assert train(root) < 2.5
    check_later(root, caplog, "tracking store", uri.rpartition("@")[2])
    assert "secret" not in caplog.text


@pytest.mark.parametrize("data", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_database_says_so_and_what_it_misses_is_kept(tmp_path, caplog, data):
    (tmp_path / "mlflow.db").write_bytes(data)
    train(tmp_path)
    check_later(tmp_path, caplog, "it is damaged: restore a copy, or move it away and a new one is made")
    (tmp_path / "mlflow.db").rename(tmp_path / "damaged.db")
    (tmp_path / "mlflow.db-wal").write_bytes(b"of the damaged one")
    delivered(tmp_path)
    check_once(own(tmp_path), tmp_path)


def test_a_database_damaged_in_its_middle_says_so(root, caplog):
    data = bytearray((root / "mlflow.db").read_bytes())
    data[4096 : len(data)] = b"\xa5" * (len(data) - 4096)
    (root / "mlflow.db").write_bytes(data)
    train(root)
    check_later(root, caplog, "it is damaged")


def test_a_database_that_another_program_holds_gets_it_later(root, caplog):
    holder = sqlite3.connect(root / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    train(root)
    check_later(root, caplog, "another program holds it")
    holder.close()
    delivered(root)
    check_once(own(root), root)


def test_a_database_that_can_only_be_read_gets_it_later(root, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{root}/mlflow.db?mode=ro&uri=true")
    train(root)
    check_later(root, caplog, "make the file and its folder writable")
    forget_choice()
    assert [row["state"] for row in sync_spools(root, is_for_any=True)] == ["delivered"]
    check_once(own(root), root)


@pytest.mark.parametrize("revision", ["fffffffffffd", "451aebb31d03"])
def test_a_database_of_another_mlflow_says_so(root, caplog, revision):
    change(root, f"UPDATE alembic_version SET version_num = '{revision}'")
    train(root)
    check_later(root, caplog, "it is of another MLflow", "mlflow db upgrade")


def test_a_full_database_gets_it_later(root, caplog):
    """Its files cannot grow, by the kernel's own answer; those of the spool are smaller."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, before[1]))
    try:
        train(root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    check_later(root, caplog, "make room on its disk")
    delivered(root)
    check_once(own(root), root)


def test_a_spool_that_cannot_be_written_costs_nothing_while_the_store_answers(root, caplog, monkeypatch):
    def full(*words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool.os, "pwrite", full)
    monkeypatch.setattr(spool, "_link_or_copy", full)
    train(root, patience=60)
    check_once(own(root), root)
    assert not caplog.records


def test_a_spool_on_a_disk_with_room_again_holds_everything(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    real, full = os.pwrite, [True]

    def pwrite(handle, data, offset):
        return real(handle, data[: len(data) // 2], offset) if full[0] else real(handle, data, offset)

    monkeypatch.setattr(spool.os, "pwrite", pwrite)
    train(root, between=lambda epoch: full.__setitem__(0, epoch < 4))
    [folder] = spool.spools(root)
    kinds = [event["kind"] for event in spool.read_events(folder)]
    assert kinds == ["begin", "params", *["metrics"] * (EPOCHS + 1), "artifact", "artifact", "end"]


def test_neither_store_nor_spool_is_told(root, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (root / "runs").write_text("a file in the place of the folder")
    train(root)
    [line] = [record.message for record in caplog.records]
    assert "so what it should have is lost" in line


def test_a_deleted_experiment_names_the_command_that_restores_it(root, caplog):
    client = mlflow.MlflowClient(own(root))
    experiment = client.get_experiment_by_name("srun").experiment_id
    client.delete_experiment(experiment)
    train(root)
    check_later(root, caplog, "deleted", f"mlflow experiments restore -x {experiment}")
    client.restore_experiment(experiment)
    delivered(root)
    check_once(own(root), root)


def test_the_next_run_delivers_what_the_last_could_not(root, monkeypatch):
    monkeypatch.setattr(delivery, "store_name", lambda root: "own")
    monkeypatch.setattr(runs, "store_name", lambda root: "own")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    train(root, name="first", patience=1)
    forget_choice()
    train(root, name="second", patience=60)
    check_once(own(root), root, "first")
    check_once(own(root), root, "second")


@pytest.mark.parametrize("limit", [0, 1 << 20], ids=["linked", "copied"])
def test_a_file_that_was_replaced_before_its_delivery_arrives_as_it_was(root, monkeypatch, limit):
    monkeypatch.setattr(spool, "LINKED_BYTES", limit)
    holder = sqlite3.connect(root / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    train(root, patience=1)
    with write_folder(root / "model") as new:
        (new / "weights").write_text("of another run")
    holder.close()
    delivered(root)
    check_once(own(root), root)


def test_a_file_that_was_changed_before_its_delivery_is_left_out_and_told(root, caplog, monkeypatch):
    monkeypatch.setattr(spool, "LINKED_BYTES", 0)
    holder = sqlite3.connect(root / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    train(root, patience=1)
    with open(root / "model" / "weights", "a") as file:  # nothing of ours writes into a file that is there
        file.write(" and more")
    holder.close()
    caplog.clear()
    delivered(root)
    [line] = [record.message for record in caplog.records]
    assert "not what it was when it was tracked" in line


def test_runs_of_one_process_wait_ten_seconds_in_all_and_tell_once(root, caplog):
    holder = sqlite3.connect(root / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    tracking = Tracking()
    tracking.patience = 1.0
    delivery.LOCK_TIMEOUT = 5
    began = time.monotonic()
    for number in range(4):
        with tracking.run(root, "srun", f"run {number}", {}, None) as tracker:
            tracker.metrics({"a": 1.0})
            assert tracker.run_id is None
    assert time.monotonic() - began < 3
    assert len(caplog.records) == 1
    holder.close()


def test_a_run_that_fails_ends_as_failed_and_an_interrupted_one_as_killed(root):
    for error, status in ((ZeroDivisionError, "FAILED"), (KeyboardInterrupt, "KILLED")):
        with pytest.raises(error), opened(root, patience=60) as tracker:
            raise error
        assert mlflow.get_run(tracker.run_id).info.status == status


def test_a_name_that_two_data_sets_could_have_keeps_to_the_first(root, caplog):
    client = mlflow.MlflowClient(own(root))
    client.create_registered_model(VERSION.name, {"srun.data": "a-b", "srun.original": "c"})
    event = {"version": VERSION.name, "alias": VERSION.alias, "tags": VERSION.tags, "description": ""}
    delivery.Delivery(spool.Spool.create(root), in_doubt=False)._register(delivery.Store(root), "m-0", event)
    assert "srun-a-b-c: not registered, for the name is that of a-b, c" in caplog.text
    assert not client.search_model_versions(f"name='{VERSION.name}'")


def test_without_git_a_run_has_no_revision(root, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with opened(root, patience=60) as tracker:
        pass
    assert "git.revision" not in mlflow.get_run(tracker.run_id).data.tags


FAILING = {
    "500": "it is out of order",
    "429": "it has too many requests",
    "401": "set MLFLOW_TRACKING_TOKEN",
    "hangs": "no answer",
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", FAILING)
@pytest.mark.parametrize("when", ["from the start", "in the middle", "at the end"])
def test_a_server_that_fails_gets_everything_later(proxy, tmp_path, caplog, mode, when):
    def fail(epoch):
        if epoch == {"from the start": 1, "in the middle": 4, "at the end": EPOCHS}[when]:
            time.sleep(1.0 if epoch > 1 else 0)
            proxy.mode = mode

    name = f"{mode} {when}"
    assert train(tmp_path, name=name, between=fail) < 3
    check_later(tmp_path, caplog, FAILING[mode])
    proxy.mode = "works"
    time.sleep(1)  # the courier that was in the middle of a request lets go
    delivered(tmp_path)
    check_once(proxy.uri, tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_answers_that_get_lost_after_the_deed_bring_nothing_twice(proxy, tmp_path, seed):
    """The server does what it is asked, and often nobody hears of it."""
    proxy.rng.seed(seed)
    proxy.share_lost = 0.4
    with write_folder(tmp_path / "model") as new:
        (new / "weights").write_text("w")
    train(tmp_path, name=f"lost {seed}", patience=0.5, between=lambda epoch: time.sleep(0.3))
    sync_until_delivered(tmp_path)
    proxy.share_lost = 0
    check_once(proxy.uri, tmp_path, f"lost {seed}")


@pytest.mark.slow
def test_a_model_whose_registration_was_not_heard_of_is_registered_once(proxy, tmp_path):
    with write_folder(tmp_path / "model") as new:
        (new / "weights").write_text("w")
    proxy.share_lost = 0.1  # of some twenty requests
    with opened(tmp_path, patience=0.1) as tracker:
        tracker.model(tmp_path / "model", VERSION)
    sync_until_delivered(tmp_path)
    proxy.share_lost = 0
    client = mlflow.MlflowClient(proxy.uri)
    [version] = client.search_model_versions(f"name='{VERSION.name}'")
    assert client.get_model_version_by_alias(VERSION.name, VERSION.alias).version == version.version
    run = client.get_run(version.run_id)
    logged = client.search_logged_models([run.info.experiment_id])
    assert [str(model.status) for model in logged if model.source_run_id == version.run_id] == ["READY"]


@pytest.mark.slow
def test_a_slow_server_holds_up_no_run(proxy, tmp_path, caplog):
    proxy.delay = 1.5
    assert train(tmp_path, name="slow", patience=2) < 3
    check_later(tmp_path, caplog, "no answer")
    proxy.delay = 0
    time.sleep(2)
    delivered(tmp_path)
    check_once(proxy.uri, tmp_path, "slow")


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_gets_everything(tmp_path, monkeypatch, caplog, new_server):
    with new_server(tmp_path / "server") as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)

        def kill(epoch):
            if epoch == 3:
                time.sleep(2)  # some of it has arrived
                server.kill()

        assert train(tmp_path, name="in", between=kill) < 3
        check_later(tmp_path, caplog, "start the server")
        train(tmp_path, name="before")
        server.start()
        train(tmp_path, name="after", patience=60)
        for name in ("in", "before", "after"):
            check_once(server.uri, tmp_path, name)


KILLED = """
import os, signal, sys, time
from pathlib import Path
from srun.tracking.runs import Tracking
root, first, last, kill_at = Path(sys.argv[1]), *map(int, sys.argv[2:])
with Tracking().run(root, "srun", "trained", {}, None, root / "runs/resume/x") as tracker:
    tracker.params({"a": {"b": 1}})
    tracker.resumes("the same")
    rows = [{"epoch": e, "loss": 1 / e} for e in range(1, last + 1)]
    for row in rows[first - 1:]:
        tracker.metrics({"loss": row["loss"]}, step=row["epoch"])
        time.sleep(0.05)
        if row["epoch"] == kill_at:
            time.sleep(float(os.environ.get("BEFORE", "0")))
            os.kill(os.getpid(), signal.SIGKILL)
    tracker.backfill(rows)
"""


def killed(root, first, last, kill_at, before="0"):
    (root / "runs" / "resume").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", KILLED, str(root), str(first), str(last), str(kill_at)]
    done = subprocess.run(command, env={**os.environ, "BEFORE": before}, capture_output=True, text=True, check=False)
    assert done.returncode == (-signal.SIGKILL if kill_at else 0), done.stderr


def the_run(root):
    client = mlflow.MlflowClient(own(root))
    [run] = client.search_runs([client.get_experiment_by_name("srun").experiment_id], "attributes.run_name = 'trained'")
    return run, [m.step for m in client.get_metric_history(run.info.run_id, "loss")]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "is_synced"), [("0", False), ("3", True)])
def test_a_killed_run_goes_on_as_the_same_run_with_its_whole_curve(root, before, is_synced):
    killed(root, 1, 12, 5, before)
    if is_synced:
        delivered(root)
        assert the_run(root)[0].info.status == "KILLED"
        assert the_run(root)[1] == [1, 2, 3, 4, 5]
    killed(root, 4, 12, 8, before)  # from a saved state, and again
    killed(root, 7, 12, 0)
    delivered(root) if spool.spools(root) else None
    run, steps = the_run(root)
    assert run.info.status == "FINISHED"
    assert sorted(steps) == list(range(1, 13)), "every epoch once"
    assert not (root / "runs/resume/x.run.json").exists()


@pytest.mark.slow
def test_a_curve_whose_spool_is_lost_is_filled_from_the_history(root):
    killed(root, 1, 12, 5)
    shutil.rmtree(root / "runs" / "spool")
    killed(root, 5, 12, 0)
    run, steps = the_run(root)
    assert (run.info.status, sorted(steps)) == ("FINISHED", list(range(1, 13)))


@pytest.mark.slow
def test_a_killed_run_that_nobody_takes_up_is_closed_by_the_next(root):
    killed(root, 1, 12, 5, "3")
    assert the_run(root)[0].info.status == "RUNNING"
    with opened(root, name="another", patience=60):
        pass
    run, steps = the_run(root)
    assert (run.info.status, steps) == ("KILLED", [1, 2, 3, 4, 5])


def test_a_run_of_something_else_does_not_go_on_as_the_killed_one(root):
    resume = root / "runs" / "resume" / "x"
    resume.parent.mkdir(parents=True)
    (resume.parent / "x.run.json").write_text(json.dumps({"key": "other", "spool": "gone"}))
    with opened(root, patience=60, resume=resume) as tracker:
        tracker.params({"a": 1})
        tracker.resumes("mine")
        assert json.loads((resume.parent / "x.run.json").read_text())["key"] == "mine"
    tags = mlflow.get_run(tracker.run_id).data.tags
    assert tags["srun.spool"] != "gone"
    assert not (resume.parent / "x.run.json").exists()


def test_the_last_line_that_a_kill_left_half_written_is_dropped(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    train(root, patience=0.5)
    forget_choice()
    [folder] = spool.spools(root)
    with open(folder / spool.EVENTS, "a") as file:
        file.write('{"kind": "metr')
    assert [row["state"] for row in sync_spools(root, is_for_any=True)] == ["delivered"]
    check_once(own(root), root)


MADE = "import sys; from pathlib import Path; from srun.tracking.mlflow import prepare; print(1, flush=True); "
MADE += "prepare(Path(sys.argv[1]))"


@pytest.mark.slow
def test_a_database_whose_maker_is_killed_is_made_by_the_next(tmp_path, monkeypatch):
    import random

    rng, kills = random.Random(0), 0
    for _ in range(10):
        maker = subprocess.Popen([sys.executable, "-c", MADE, str(tmp_path)], stdout=subprocess.PIPE)
        maker.stdout.readline()
        while maker.poll() is None and not list(tmp_path.glob(".mlflow.db.*")):
            time.sleep(0.01)
        time.sleep(rng.random() * 1.5)
        maker.kill()
        kills += maker.wait() == -signal.SIGKILL
        maker.stdout.close()
        (tmp_path / "mlflow.db").unlink(missing_ok=True)
    assert kills >= 5, "the makers were too fast to be killed"
    train(tmp_path, patience=60)
    check_once(own(tmp_path), tmp_path)
    assert not list(tmp_path.glob(".mlflow.db*")), "leftovers of the killed ones are gone"


@pytest.mark.slow
def test_a_run_that_goes_on_and_publishes_a_model_ends_as_finished(root):
    with write_folder(root / "model") as new:
        (new / "weights").write_text("w")
    resume = root / "runs" / "resume" / "x"
    resume.parent.mkdir(parents=True)
    trackers = []

    def interrupted():
        with opened(root, patience=60, resume=resume) as tracker:
            trackers.append(tracker)
            tracker.resumes("mine")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with opened(root, patience=60, resume=resume) as again:
        again.resumes("mine")
        again.model(root / "model", VERSION)
    assert again.run_id == trackers[0].run_id
    assert mlflow.get_run(again.run_id).info.status == "FINISHED"
