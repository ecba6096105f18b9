"""Delivery of spools to MLflow: each event once, however often it is tried. The only module that imports mlflow.

What goes wrong with a store is a StoreError of one line, which names the store and what to do.
"""

import functools
import logging
import os
import re
import sqlite3
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from srun import __version__
from srun.errors import SrunError
from srun.files import locked
from srun.tracking.spool import Event, Spool

LOCK_TIMEOUT = 10
"""Seconds to wait for a database that another program writes to."""
HTTP_TIMEOUT = 30
"""Seconds to wait for an answer; who computes waits less, see ``runs.PATIENCE``."""
BATCH = 1000
"""Metrics that MLflow takes in one request."""
MENDS = {
    "error code 40[13]|UNAUTHENTICATED|PERMISSION_DENIED": "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD, to what it accepts",
    "error code 429|too many 429": "it has too many requests: wait",
    "error code 5|too many 5": "it is out of order: see its log",
    "Connection refused|Max retries|timed out|Name or service|Connection aborted": "start the server, or correct "
    "MLFLOW_TRACKING_URI",
    "database is locked": "another program holds it: end that one, or wait",
    "disk is full|No space left|File too large|disk I/O": "make room on its disk",
    "readonly|read-only|unable to open|Permission denied": "make the file and its folder writable",
    "malformed|not a database|disk image": "it is damaged: restore a copy, or move it away and a new one is made",
    "database schema|locate revision": "it is of another MLflow: install that one, `mlflow db upgrade` an older store, "
    "or move the file away",
}
"""What to do, by a pattern of what was said."""

log = logging.getLogger(__name__)


class StoreError(SrunError):
    """A store that cannot be used; names it, without passwords, and what to do."""


class StoppedError(Exception):
    """Nobody waits for the delivery any more."""


def tracking_uri(root: Path) -> str:
    """The store of MLFLOW_TRACKING_URI, or else the SQLite file of the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _own_store(root)


def store_name(root: Path) -> str:
    """What spools call the store they are for: the project's own wherever the project lies, others without password."""
    uri = tracking_uri(root)
    return "own" if uri == _own_store(root) else _without_password(uri)


def _own_store(root: Path) -> str:
    return f"sqlite:///{root.resolve() / 'mlflow.db'}"


def _without_password(text: str) -> str:
    """A store's address, or words about it, as they may be shown."""
    return re.sub(r"://[^/\s]*@", "://***@", text)


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Turn what MLflow, databases and odd answers raise into a StoreError of one line."""
    try:
        from alembic.util.exc import CommandError
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise StoreError(f"tracking: MLflow cannot be loaded; install srun anew ({error})") from error
    faults: tuple[type[Exception], ...] = (MlflowException, SQLAlchemyError, CommandError)
    faults += (ValueError, KeyError, TypeError, AttributeError)  # of an answer that is no JSON, or of another form
    faults += (sqlite3.Error, OSError, ImportError, SrunError)
    try:
        yield
    except StoreError:
        raise
    except faults as error:
        said = _without_password(str(error))
        mend = next((m for pattern, m in MENDS.items() if re.search(pattern, said)), "see that it can be reached")
        first = " ".join(said.split("\n", 1)[0].split())[:120]
        raise StoreError(f"tracking store {_without_password(uri)}: {mend} ({first})") from error


def prepare(root: Path) -> None:
    """Import MLflow and make the project's own store, in this thread and once: that is set-up, not waiting for a store.

    A thread that computes must not meet what another has imported in part. What fails here fails in ``Store`` too,
    which says so.
    """
    uri = tracking_uri(root)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with suppress(StoreError), reaching(uri):
        import mlflow  # noqa: F401  # imported here, so that no other thread meets it half imported

        if uri == _own_store(root):
            make_database(root)


class Store:
    """A store that was reached; MLflow's own choice of a store is set to it."""

    def __init__(self, root: Path) -> None:
        """Choose the store of a project and see that it answers; make the project's own. Raises StoreError."""
        self.root, self.uri = root, tracking_uri(root)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which is for results
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # a spool can wait, and so needs no insistence
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(HTTP_TIMEOUT))
        # advice to derive a model's signature from type hints or an example; ours is given in full
        warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
        with reaching(self.uri):
            import mlflow

            mlflow.set_tracking_uri(self.uri)
            if self.is_own:
                make_database(root)
            if re.match("sqlite|postgresql|mysql|mssql", self.uri):
                _try_database(self.uri)
            self.client = mlflow.MlflowClient(self.uri, self.uri)

    @property
    def is_own(self) -> bool:
        """Whether it is the project's own file, whose artifacts lie beside it."""
        return self.uri == _own_store(self.root)

    def experiment(self, name: str) -> str:
        """The id of an experiment, made if need be; of processes that need a new one the first makes it."""
        place = (self.root.resolve() / "mlartifacts").as_uri() if self.is_own else None
        with locked(self.root.resolve() / "mlflow.db", "making") if self.is_own else nullcontext():
            known = self.client.get_experiment_by_name(name)
            if known is not None and known.lifecycle_stage == "deleted":
                store = _without_password(self.uri)
                raise StoreError(
                    f'tracking store {store}: its experiment "{name}" is deleted; bring it back with '
                    f"`MLFLOW_TRACKING_URI={store} mlflow experiments restore -x {known.experiment_id}`"
                )
            return str(known.experiment_id if known else self.client.create_experiment(name, artifact_location=place))


def make_database(root: Path) -> None:
    """Make the project's own store where there is none: aside, by one process, and renamed when it is whole."""
    database = root.resolve() / "mlflow.db"
    if database.exists():
        return
    with locked(database, "making"):
        for dead in database.parent.glob(".mlflow.db.*.new*"):
            dead.unlink(missing_ok=True)
        if database.exists():
            return
        for orphan in database.parent.glob("mlflow.db-*"):  # of a file that was moved away: this one must not take it
            orphan.rename(f"{orphan}.old")
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        for chatty in ("mlflow.store.db.utils", "alembic.runtime.migration"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        new = database.parent / f".mlflow.db.{uuid.uuid4().hex[:8]}.new"
        try:
            with closing(sqlite3.connect(new)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")  # halves the time of a write
            uri = f"sqlite:///{new}"
            store = SqlAlchemyStore(uri, "./mlruns")  # as MLflow has it for a store of its own
            store.engine.dispose()
            SqlAlchemyStore._engine_map.pop(uri, None)
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            os.replace(new, database)
        finally:
            for part in database.parent.glob(f"{new.name}*"):
                part.unlink(missing_ok=True)


def _try_database(uri: str) -> None:
    """Connect once, for MLflow tries for minutes; a database in a file must also be free to be written."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, connect_args={"timeout": LOCK_TIMEOUT} if uri.startswith("sqlite") else {})
    try:
        with engine.connect() as connection:
            if uri.startswith("sqlite"):
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            connection.rollback()
    finally:
        engine.dispose()


class Delivery:
    """Brings the events of a spool to a store, in order. After a fault it goes on where it was.

    What a fault, or an earlier process, leaves in doubt is compared with what the store has: the run is known by a tag,
    a row of a curve by its step and value, a figure by its time.
    """

    def __init__(self, spool: Spool, in_doubt: bool) -> None:
        self.spool, self._doubt = spool, in_doubt
        mark = spool.read_mark() if in_doubt else {}
        self.run_id: str | None = mark.get("run_id")
        self._number = int(mark.get("number", 0))
        self._is_checked = self.run_id is None
        self._experiment = ""
        self._known: dict[str, Counter[tuple[Any, ...]]] = {}
        self._trials: dict[str, Any] | None = None

    @property
    def is_done(self) -> bool:
        """Whether the end of the run was delivered, and everything before it."""
        last = self.spool.pending(max(0, self._number - 1))
        return len(last) == 1 and self._number > 0 and last[0]["kind"] == "end"

    def advance(self, store: Store, is_stopped: Callable[[], bool]) -> None:
        """Deliver what there is. Raises StoreError; StoppedError, between two events, when ``is_stopped`` says so."""
        try:
            with reaching(store.uri):
                if self.run_id is not None and not self._is_checked and not _has_run(store, self.run_id):
                    self.run_id, self._number = None, 0  # another database than the one that was written to
                self._is_checked = True
                while events := self._next():
                    if is_stopped():
                        raise StoppedError
                    if self.run_id is None and events[0]["kind"] != "begin":
                        raise StoreError(f"{self.spool.folder}: its first event is missing; remove the folder")
                    self._deliver(store, events)
                    self._number += len(events)
                    if self.run_id is not None:
                        self.spool.mark(self.run_id, self._number)
        except StoreError:
            self._doubt, self._is_checked, self._trials = True, False, None
            self._known.clear()
            raise

    def _next(self) -> list[Event]:
        """The next event; of metrics as many as there are one after the other, up to a batch."""
        pending = self.spool.pending(self._number)
        batch, size = pending[:1], 0
        if batch and batch[0]["kind"] == "metrics":
            batch = []
            for event in pending:
                if event["kind"] != "metrics" or (batch and size + len(event["values"]) > BATCH):
                    break
                size += len(event["values"])
                batch.append(event)
        return batch

    def _deliver(self, store: Store, events: Sequence[Event]) -> None:
        kind, event = events[0]["kind"], events[0]
        if kind == "begin":
            self._begin(store, event)
        elif kind == "params":
            self._log_params(store, self._run(), event["values"], self._doubt)
        elif kind == "metrics":
            self._log_metrics(store, events)
        elif kind == "artifact":
            self._log_artifact(store, event)
        elif kind == "model":
            self._log_model(store, event)
        elif kind == "trial":
            self._log_trial(store, event)
        elif kind == "end":
            self._end(store, event)
        else:
            raise StoreError(f'{self.spool.folder}: "{kind}" is no event of this version; remove the folder')

    def _run(self) -> str:
        assert self.run_id is not None, "events follow the one that begins the run"
        return self.run_id

    def _begin(self, store: Store, event: Event) -> None:
        """Make the run, or find it by its tag and open it again."""
        from mlflow.tracking.context.registry import resolve_tags

        self._experiment = event["experiment_id"] or store.experiment(event["experiment"])
        tag, value = event["tag"]
        earlier = []
        if self._doubt or event["again"]:
            earlier = list(store.client.search_runs([self._experiment], f"tags.`{tag}` = '{value}'", max_results=1))
        if earlier:
            self.run_id = str(earlier[0].info.run_id)
            if earlier[0].info.status != "RUNNING" and (earlier[0].info.end_time or 0) <= event["time"]:
                store.client.update_run(self.run_id, status="RUNNING")
            self._doubt = True
        else:
            tags = {**event["tags"], tag: value}
            tags = tags if tag == "srun.study" else resolve_tags(tags)
            run = store.client.create_run(self._experiment, event["time"], tags=tags, run_name=event["name"])
            self.run_id = str(run.info.run_id)
        if event["dataset"] is not None and not (earlier and earlier[0].inputs.dataset_inputs):
            store.client.log_inputs(self.run_id, datasets=[_dataset(*event["dataset"])])

    def _end(self, store: Store, event: Event) -> None:
        """Close the run, unless it has gone on and ended later."""
        info = store.client.get_run(self._run()).info if self._doubt else None
        if info is None or info.status == "RUNNING" or (info.end_time or 0) <= event["time"]:
            store.client.set_terminated(self._run(), event["status"], event["time"])

    def _log_params(self, store: Store, run_id: str, values: Mapping[str, str], doubt: bool) -> None:
        from mlflow.entities import Param

        known = store.client.get_run(run_id).data.params if doubt else {}
        new = [Param(key, value) for key, value in values.items() if key not in known]
        if new:
            store.client.log_batch(run_id, params=new)

    def _log_metrics(self, store: Store, events: Sequence[Event]) -> None:
        new = [figure for event in events for figure in _figures(event)]
        if self._doubt:
            earlier = [event for event in self.spool.pending(0)[: self._number] if event["kind"] == "metrics"]
            before = Counter(_identity(*figure) for event in earlier for figure in _figures(event))
            new = self._unknown(store, self._run(), new, before)
        _log_figures(store, self._run(), new)

    def _unknown(
        self, store: Store, run_id: str, figures: Sequence["Figure"], before: Counter[tuple[Any, ...]]
    ) -> list["Figure"]:
        """The figures that a run does not have; ``before``: those of the spool that come before them."""
        new = []
        for figure in figures:
            key = figure[0]
            name = f"{run_id}/{key}"
            if name not in self._known:
                self._known[name] = Counter()
                for metric in store.client.get_metric_history(run_id, key):
                    for step in {metric.step, metric.step or None}:  # step 0 may be none or the first of a curve
                        self._known[name][_identity(key, metric.value, metric.timestamp, step)] += not metric.model_id
            before[_identity(*figure)] += 1
            if before[_identity(*figure)] > self._known[name][_identity(*figure)]:
                new.append(figure)
        return new

    def _log_artifact(self, store: Store, event: Event) -> Path | None:
        """Upload what was kept; what has changed since is told and left out."""
        path = self.spool.kept(event)
        if path is None:
            log.warning("%s: not what it was when it was tracked; not given to the tracker", event["place"])
        elif path.is_dir():
            store.client.log_artifacts(self._run(), str(path), event["where"])
        else:
            store.client.log_artifact(self._run(), str(path), event["where"])
        return path

    def _log_model(self, store: Store, event: Event) -> None:
        folder = self._log_artifact(store, event)
        if folder is None:
            return
        model_id = self._served(store) if self._doubt else None
        self._register(store, model_id or _log_served(self._run(), folder), event)

    def _served(self, store: Store) -> str | None:
        """The id of the model that an earlier try has logged whole; a part of one is removed."""
        run = store.client.get_run(self._run())
        logged = store.client.search_logged_models([run.info.experiment_id])
        whole = None
        for model in logged:
            if model.source_run_id == self.run_id and model.name == "served":
                if str(model.status) == "READY":
                    whole = str(model.model_id)
                else:
                    store.client.delete_logged_model(model.model_id)
        return whole

    def _register(self, store: Store, model_id: str, event: Event) -> None:
        """Make a version of the name; a name that stands for another data set or Original keeps its versions."""
        client, name, tags = store.client, event["version"], event["tags"]
        own = {key: tags[key] for key in ("srun.data", "srun.original")}
        known = client.search_registered_models(f"name='{name}'")
        if not known:
            client.create_registered_model(name, own)
        elif any(known[0].tags.get(key, value) != value for key, value in own.items()):
            there = ", ".join(str(known[0].tags.get(key)) for key in own)
            log.warning(
                "%s: not registered, for the name is that of %s; rename the data set or the Original", name, there
            )
            return
        made = client.search_model_versions(f"name='{name}' and run_id='{self.run_id}'") if self._doubt else []
        version = (
            made[0]
            if made
            else client.create_model_version(
                name,
                f"models:/{model_id}",
                run_id=self.run_id,
                tags=dict(tags),
                description=event["description"],
                model_id=model_id,
                await_creation_for=None,
            )
        )
        if not (self._doubt and self._is_overtaken(store, name, event["alias"])):
            client.set_registered_model_alias(name, event["alias"], version.version)

    def _is_overtaken(self, store: Store, name: str, alias: str) -> bool:
        """Whether an alias points to the model of a later run by now: this one is delivered late."""
        aliases = store.client.get_registered_model(name).aliases
        if alias not in aliases:
            return False
        run_id = store.client.get_model_version(name, aliases[alias]).run_id
        return bool(
            run_id != self.run_id
            and _has_run(store, run_id)
            and store.client.get_run(run_id).info.start_time > store.client.get_run(self._run()).info.start_time
        )

    def _log_trial(self, store: Store, event: Event) -> None:
        """Write a trial of a study as a run below it, unless it is there; its tags are as the last event says."""
        client, number = store.client, str(event["number"])
        if self._trials is None:
            below = client.search_runs(
                [self._study_experiment(store)], f"tags.`mlflow.parentRunId` = '{self.run_id}'", max_results=10_000
            )
            self._trials = {run.data.tags["srun.trial"]: run for run in below}
        run = self._trials.get(number)
        if run is None:
            tags = {"mlflow.parentRunId": self._run(), "srun.trial": number}
            run = client.create_run(self._study_experiment(store), event["time"], tags=tags, run_name=f"trial {number}")
            self._trials[number] = run
        run_id, known = str(run.info.run_id), run.data.tags
        if run.info.status == "RUNNING":
            in_doubt = self._doubt
            self._log_params(store, run_id, event["params"], in_doubt)
            figures = [figure for row in event["rows"] for figure in _figures(row)]
            _log_figures(store, run_id, self._unknown(store, run_id, figures, Counter()) if in_doubt else figures)
        for key, value in event["tags"].items():
            if known.get(key) != value:
                client.set_tag(run_id, key, value)
                known[key] = value
        if run.info.status == "RUNNING":
            client.set_terminated(run_id, event["status"], event["time"])
            run.info._status = event["status"]

    def _study_experiment(self, store: Store) -> str:
        self._experiment = self._experiment or str(store.client.get_run(self._run()).info.experiment_id)
        return self._experiment


Figure = tuple[str, float, int, int | None]
"""A metric: its key, its value, milliseconds since 1970, its step or None where it is no row of a curve."""


def _figures(event: Event) -> list[Figure]:
    return [(key, float(value), event["time"], event["step"]) for key, value in event["values"].items()]


def _identity(key: str, value: float, time: int, step: int | None) -> tuple[Any, ...]:
    """What tells whether the store has a metric: a run that goes on computes a row of its curve again, later."""
    return (key, value, time) if step is None else (key, value, "step", step)


def _log_figures(store: Store, run_id: str, figures: Sequence[Figure]) -> None:
    from mlflow.entities import Metric

    for start in range(0, len(figures), BATCH):
        metrics = [Metric(key, value, time, step or 0) for key, value, time, step in figures[start : start + BATCH]]
        store.client.log_batch(run_id, metrics=metrics)


def _has_run(store: Store, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(store.client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def _log_served(run_id: str, folder: Path) -> str:
    """Log a published folder as a model that MLflow can serve; returns the model's id."""
    import mlflow.pyfunc

    mlflow.start_run(run_id=run_id, log_system_metrics=False)  # of this thread: without one the experiment is another
    try:
        served = mlflow.pyfunc.log_model(
            name="served",
            python_model=str(Path(__file__).parents[1] / "service" / "mlflow_model.py"),
            artifacts={"model": str(folder)},
            signature=_signature(),
            pip_requirements=[f"srun-unlearning=={__version__}"],
        )
    finally:
        mlflow.end_run("RUNNING")  # its end is an event of its own
    return str(served.model_id)


def _signature() -> Any:
    """Histories in (lists of raw item ids, oldest first), ids and scores out; ``k`` may be given with a request."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    text, number = Array(DataType.string), Array(DataType.double)
    return ModelSignature(
        inputs=Schema([ColSpec(text, "history")]),
        outputs=Schema([ColSpec(text, "item_ids"), ColSpec(number, "scores"), ColSpec(text, "unknown")]),
        params=ParamSchema([ParamSpec("k", DataType.long, 10)]),
    )


def _dataset(name: str, fingerprint: str) -> Any:
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    source = CodeDatasetSource(tags={"srun.command": f"srun data fetch {name}"})
    dataset = MetaDataset(source=source, name=name, digest=fingerprint[:36])
    return DatasetInput(dataset._to_mlflow_entity(), tags=[InputTag("mlflow.data.context", "training")])


@functools.cache
def launched_by() -> tuple[str | None, str | None]:
    """The run and experiment that `mlflow run` opened for this process: ours are children, each a run of its own."""
    run_id = os.environ.pop("MLFLOW_RUN_ID", None)
    return run_id, os.environ.get("MLFLOW_EXPERIMENT_ID") if run_id else None
