"""Tracked runs: what they tell goes to a spool, and a courier beside them brings it to the store.

A store never holds up the work: its answers are waited for at the end of a run, for seconds in all, and what it does
not have by then stays in the spool for the next tracked run, or for `srun sync`.
"""

import json
import logging
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from srun.config import flatten
from srun.errors import RunError
from srun.files import write_text
from srun.tracking import Tracker, Version
from srun.tracking.mlflow import Delivery, StoppedError, Store, StoreError, launched_by, prepare, store_name
from srun.tracking.spool import Event, Spool, left, read_events, spool_root, spools

PATIENCE = 10.0
"""Seconds that a run waits for a store in all."""
LATENCY = 1.0
"""Seconds that an event may wait for the next ones, which are delivered together."""
MAX_PAUSE = 60.0
"""Seconds between two tries of a run that goes on while its store is away."""
DELIVERED, GOES_ON = "delivered", "its run goes on"
LATER = "the next tracked run delivers it, and so does `srun sync`; --set runtime.tracking=false runs without a tracker"

log = logging.getLogger(__name__)


class Courier(threading.Thread):
    """Brings a run's events to the store while it goes on, and what earlier runs left; ends with the run."""

    def __init__(self, root: Path, spool: Spool) -> None:
        super().__init__(name="tracking", daemon=True)
        self._root, self._spool, self._delivery = root, spool, Delivery(spool, in_doubt=False)
        self._store: Store | None = None
        self._left = [folder for folder in spools(root) if folder != spool.folder]
        self._closing, self._called, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._tried = threading.Event()
        self.fault: StoreError | None = None
        """Why the store has not everything; None where it has, or nothing is known yet."""
        self.is_delivered = False
        """Whether it has everything, the end of the run too."""

    @property
    def run_id(self) -> str | None:
        """The store's id of the run, once it is known."""
        return self._delivery.run_id

    def await_run_id(self, seconds: float) -> None:
        """Wait until the run is made, or could not be."""
        self._tried.wait(seconds)

    def close(self, seconds: float) -> None:
        """Deliver what is left, for at most so many seconds; what is in the middle of it then stops by itself."""
        self._closing.set()
        self._called.set()
        try:
            self.join(seconds)
        finally:
            self._stopped.set()

    def run(self) -> None:
        pause = LATENCY
        while not self._stopped.is_set():
            is_last = self._closing.is_set()
            try:
                self._store = self._store or Store(self._root)
                self._delivery.advance(self._store, self._stopped.is_set)
                self.fault, pause = None, LATENCY
            except StoreError as fault:
                self.fault, pause = fault, min(2 * pause, MAX_PAUSE)
            except StoppedError:
                break
            self._tried.set()
            if is_last:
                break
            if self._left and self._store is not None and self.fault is None:
                self._deliver_left(self._store)
            else:
                self._called.wait(pause)
        if self._delivery.is_done:
            self._spool.remove()
            self.is_delivered = True
        self._spool.close()
        while self.is_delivered and self._left and self._store is not None and not self._stopped.is_set():
            self._deliver_left(self._store)

    def _deliver_left(self, store: Store) -> None:
        """Deliver what one earlier run left, if it is for this store."""
        folder = self._left.pop(0)
        try:
            deliver_left(store, folder, store_name(self._root), self._stopped.is_set)
        except StoreError as fault:
            log.warning("%s; %s stays", fault, folder)
        except StoppedError:
            log.debug("%s: no time left to deliver it", folder)


def deliver_left(store: Store, folder: Path, wanted: str | None, is_stopped: Callable[[], bool]) -> str:
    """Deliver a spool that nobody holds, if it is for the store called ``wanted``, None for any.

    Returns what became of it. Raises StoreError, and StoppedError as ``Delivery.advance``.
    """
    with left(folder) as spool:
        if spool is None:
            return GOES_ON if folder.exists() else DELIVERED
        events = spool.pending(0)
        if events and wanted not in (None, events[0]["store"]):
            return f"for another store, {events[0]['store']}"
        Delivery(spool, in_doubt=True).advance(store, is_stopped)
        spool.remove()
    return DELIVERED


def sync_spools(root: Path, is_for_any: bool) -> list[dict[str, str]]:
    """Deliver what runs of a project left in spools, those that were killed too; a row a spool says what became of it.

    ``is_for_any``: also what was meant for another store than the present one.
    """
    rows = []
    for folder in spools(root):
        events = read_events(folder)
        name = str(events[0]["name"]) if events else ""
        try:
            state = deliver_left(Store(root), folder, None if is_for_any else store_name(root), lambda: False)
        except StoreError as fault:
            state = str(fault)
        rows.append({"run": name, "events": str(len(events)), "spool": folder.name, "state": state})
    return rows


def is_kept(row: Mapping[str, str]) -> bool:
    """Whether a row of ``sync`` tells of a spool that it could not deliver."""
    return row["state"] not in (DELIVERED, GOES_ON)


class Tracking:
    """Makes a project's tracked runs; they share their patience with its store, and say once that it is away."""

    def __init__(self) -> None:
        self.patience = PATIENCE
        self._is_told = False
        self._studies: dict[str, StudyTracker] = {}

    @contextmanager
    def run(
        self,
        root: Path,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        dataset: tuple[str, str] | None,
        resume: Path | None = None,
        key: tuple[str, str] | None = None,
    ) -> Iterator[Tracker]:
        """A run, which ends as FINISHED, as KILLED when it is interrupted, or as FAILED when the block raises.

        The store is MLFLOW_TRACKING_URI, or ``mlflow.db`` and ``mlartifacts`` of the project. ``dataset`` is the name
        and the fingerprint of the data that the run reads, ``resume`` the folder it goes on from when it was killed.
        ``key``: a tag and its value by which the run is found again, so that telling it twice makes one.
        """
        begin = _begin(root, experiment, name, tags, dataset)
        begin |= {} if key is None else {"tag": list(key), "again": True}
        tracker = RunTracker(self, root, begin, resume)
        with tracker.open_until_end():
            yield tracker

    def study(self, root: Path, experiment: str, name: str, key: str, tags: Mapping[str, str]) -> "StudyTracker":
        """The run of a study, found again by ``key``; it is open until it is finished."""
        if key not in self._studies:
            begin = _begin(root, experiment, f"optimize: {name}", tags, None)
            begin |= {"tag": ["srun.study", key], "again": True}
            self._studies[key] = StudyTracker(self, root, begin, None)
            self._studies[key].open()
        return self._studies[key]

    @contextmanager
    def closing_studies(self) -> Iterator[None]:
        """Close the runs of studies that the block leaves unfinished, as ``run`` does."""
        try:
            yield
        except BaseException as error:  # however the block ends, its runs are closed with what ended it
            while self._studies:
                self._studies.popitem()[1].close(_status(error))
            raise

    def finished(self, study: "StudyTracker") -> None:
        """Forget a study that has ended: who looks at it again opens it again."""
        self._studies = {key: other for key, other in self._studies.items() if other is not study}

    def wait(self, waiting: Callable[[float], object]) -> None:
        """Wait for the store, by a call that is given the seconds it may take; vain seconds are missing later."""
        began = time.monotonic()
        try:
            waiting(max(0.0, self.patience))
        finally:
            self.patience -= time.monotonic() - began

    def settle(self, root: Path, courier: Courier, spool: Spool) -> None:
        """Take note of how the delivery of a run ended; the first that failed is told."""
        if courier.is_delivered:
            self.patience = PATIENCE
            return
        if self._is_told:
            return
        self._is_told = True
        why = courier.fault or f"tracking store {store_name(root)}: no answer within {PATIENCE:g} s"
        if spool.is_whole:
            log.warning("%s; what it should have is kept in %s, %s", why, spool_root(root), LATER)
        else:
            log.warning("%s; %s cannot be written either, so what it should have is lost", why, spool_root(root))


class RunTracker:
    """Writes a run's events to a spool, from where a courier delivers them."""

    def __init__(self, tracking: Tracking, root: Path, begin: Event, resume: Path | None) -> None:
        self._tracking, self._root, self._begin, self._resume = tracking, root, begin, resume
        self._spool = Spool.create(root)
        self._begin.setdefault("tag", ["srun.spool", self._spool.folder.name])
        self._courier: Courier | None = None
        self._early: list[Event] = []
        self._reported: Counter[tuple[str, int, float]] = Counter()

    @property
    def run_id(self) -> str | None:
        """The store's id of the run; None where the store is away."""
        if self._courier is None:
            return None
        if self._courier.run_id is None:
            self._tracking.wait(self._courier.await_run_id)
        return self._courier.run_id

    @contextmanager
    def open_until_end(self) -> Iterator[None]:
        """Open the run, and close it by how the block ends."""
        if self._resume is None or not _run_file(self._resume).is_file():
            self.open()
        try:
            yield
        except BaseException as error:  # however the block ends, its run is closed with what ended it
            self.close(_status(error))
            raise
        self.close("FINISHED")

    def open(self) -> None:
        """Begin: from here on the run is known, to the spool at least."""
        self._spool.append(self._begin, sync=True)
        for event in self._early:
            self._spool.append(event, sync=False)
        self._courier = Courier(self._root, self._spool)
        self._courier.start()

    def close(self, status: str) -> None:
        """End the run, and wait for its delivery as long as patience lasts."""
        self._append({"kind": "end", "status": status})
        if status == "FINISHED" and self._resume is not None:
            _run_file(self._resume).unlink(missing_ok=True)
        if self._courier is not None:
            try:
                self._tracking.wait(self._courier.close)
            finally:
                self._tracking.settle(self._root, self._courier, self._spool)

    def resumes(self, key: str) -> None:
        if self._resume is None:
            return
        file = _run_file(self._resume)
        if self._courier is None:
            earlier = _earlier(file, key)
            if earlier is not None:
                self._begin |= {"tag": ["srun.spool", earlier], "again": True}
            self.open()
        with suppress(RunError):  # a full disk: should this run be killed, the next is one of its own
            write_text(file, json.dumps({"key": key, "spool": self._begin["tag"][1]}) + "\n")

    def backfill(self, rows: Iterable[Mapping[str, float]]) -> None:
        if not self._begin["again"]:
            return
        reported = self._reported.copy()
        for row in rows:
            step = int(row["epoch"])
            figures = {key: value for key, value in row.items() if key not in ("epoch", "shard", "slice")}
            missing = {key: value for key, value in figures.items() if not reported[key, step, float(value)]}
            reported.subtract((key, step, float(value)) for key, value in figures.items() if key not in missing)
            self.metrics(missing, step)

    def params(self, values: Mapping[str, Any]) -> None:
        self._append({"kind": "params", "values": {key: str(value) for key, value in flatten(values).items()}})

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        row = _row(values, step)
        if row["values"]:
            self._append({"kind": "metrics", **row})
            if step is not None:
                self._reported.update((key, step, value) for key, value in row["values"].items())

    def artifact(self, path: Path, where: str) -> None:
        self._append({"kind": "artifact", "where": where, **self._spool.keep(path)}, sync=True)

    def model(self, folder: Path, version: Version) -> None:
        event = {"kind": "model", "where": "model", **self._spool.keep(folder), "version": version.name}
        event |= {"alias": version.alias, "tags": dict(version.tags), "description": version.description}
        self._append(event, sync=True)

    def _append(self, event: Event, sync: bool = False) -> None:
        event["time"] = event.get("time", _now())
        if self._courier is None and event["kind"] == "params":  # before it is known which run this is
            self._early.append(event)
            return
        if self._courier is None:
            self.open()
        self._spool.append(event, sync or event["kind"] == "end")


class StudyTracker(RunTracker):
    """The run of a study, and below it a run for each of its trials, written once."""

    def __init__(self, tracking: Tracking, root: Path, begin: Event, resume: Path | None) -> None:
        super().__init__(tracking, root, begin, resume)
        self._told: dict[int, Event] = {}

    def trial(
        self,
        number: int,
        status: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        curves: Sequence[Mapping[str, float]],
        tags: Mapping[str, str],
    ) -> None:
        """Record a finished trial, once; ``curves`` have a row an epoch. Tags are those that were told last."""
        rows = [({key: value for key, value in row.items() if key != "epoch"}, int(row["epoch"])) for row in curves]
        figures = {_metric_name(key): value for key, value in metrics.items()}
        event: Event = {"kind": "trial", "number": number, "status": status, "tags": dict(tags)}
        if self._told.get(number) == event:
            return
        self._told[number] = dict(event)
        event["params"] = {key: str(value) for key, value in flatten(params).items()}
        event["rows"] = [_row(values, step) for values, step in [*rows, (figures, None)]]
        self._append(event)

    def finish(self, params: Mapping[str, Any], metrics: Mapping[str, float], files: Sequence[Path]) -> None:
        """Record what is known of the study as a whole; its run counts as finished."""
        self.params(params)
        self.metrics(metrics)
        for file in files:
            self.artifact(file, "report")
        self._tracking.finished(self)
        self.close("FINISHED")


def _begin(root: Path, experiment: str, name: str, tags: Mapping[str, str], dataset: tuple[str, str] | None) -> Event:
    prepare(root)
    parent, experiment_id = launched_by()
    return {
        "kind": "begin",
        "store": store_name(root),
        "experiment": experiment,
        "experiment_id": experiment_id,
        "name": name,
        "tags": {**tags, **_git_tags(root)} | ({"mlflow.parentRunId": parent} if parent else {}),
        "dataset": dataset,
        "again": False,
        "time": _now(),
    }


def _row(values: Mapping[str, float], step: int | None) -> Event:
    """The finite figures of a step of a curve, or of the run."""
    finite = {key: float(value) for key, value in values.items() if abs(value) < float("inf")}
    return {"values": finite, "step": step, "time": _now()}


def _metric_name(key: str) -> str:
    """A name that MLflow takes; a constraint is a text such as ``validation/ndcg_10 >= 0.95 of original``."""
    return re.sub(r"[^\w/. -]", "", key)


def _status(error: BaseException) -> str:
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


def _now() -> int:
    return time.time_ns() // 1_000_000


def _run_file(resume: Path) -> Path:
    """Which run a resume folder belongs to."""
    return resume.with_name(f"{resume.name}.run.json")


def _earlier(file: Path, key: str) -> str | None:
    """The tag of the run that was killed, if it computed the same; None where it did not, or nobody can tell."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("key") != key or not isinstance(record.get("spool"), str):
        return None
    return str(record["spool"])


def _git_tags(root: Path) -> dict[str, str]:
    """The revision the code and parameters are at, and whether anything differs from it; nothing outside git."""
    tags: dict[str, str] = {}
    if shutil.which("git") is None:
        return tags
    for tag, command in {"git.revision": "rev-parse HEAD", "git.changes": "status --porcelain -uno"}.items():
        done = subprocess.run(["git", *command.split()], cwd=root, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            tags[tag] = done.stdout.strip() if tag == "git.revision" else str(bool(done.stdout.strip())).lower()
    return tags
