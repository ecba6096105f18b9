"""Experiment tracking: a protocol, a tracker that does nothing, and MLflow. The only module that imports mlflow.

Nothing that identifies a user, or tells who forgot what, goes to a tracker: counts, metrics and models only.
What goes wrong with a store ends in one line, a RunError, that names the store and what to do.
"""

import functools
import logging
import os
import re
import shutil
import sqlite3
import subprocess
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from srun import __version__
from srun.config import flatten
from srun.errors import RunError
from srun.files import locked

LOCK_TIMEOUT = 10  # seconds to wait for a database that another program writes to
MENDS = {
    "Connection refused|Max retries|timed out|Name or service": "start the server, or correct MLFLOW_TRACKING_URI",
    "database is locked": "another program holds it: end that one, or wait, then run again",
    "readonly|read-only|unable to open|Permission denied": "make the file and its folder writable",
    "malformed|not a database|disk image": "it is damaged: restore a copy, or move it away and a new one is made",
    "database schema|locate revision": "it is of another MLflow: install that one, `mlflow db upgrade` an older store, "
    "or move the file away",
}
"""What to do, by a pattern of what was said."""
WITHOUT = "; --set runtime.tracking=false runs without a tracker"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """What a published folder is registered as: a version of ``name`` that ``alias`` points to from then on."""

    name: str
    alias: str
    tags: Mapping[str, str]
    """``srun.data`` and ``srun.original``, which are also the name's, and what else tells versions apart."""
    description: str


class Tracker(Protocol):
    """Where a run's parameters, curves and files go."""

    run_id: str | None

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters; nested mappings become dotted keys."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record finite figures, at a step of a curve or once."""

    def artifact(self, path: Path, where: str) -> None:
        """Keep a file, or a folder's files, under the name ``where``."""

    def model(self, folder: Path, version: Version) -> None:
        """Keep a published folder, and register it."""


class NullTracker:
    """Forgets everything it is told."""

    run_id: str | None = None

    def params(self, values: Mapping[str, Any]) -> None:
        pass

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        pass

    def artifact(self, path: Path, where: str) -> None:
        pass

    def model(self, folder: Path, version: Version) -> None:
        pass


@contextmanager
def _reaching(uri: str | None = None) -> Iterator[None]:
    """Turn what MLflow and databases raise into a RunError of one line; ``uri``: the store, unless one is set."""
    import mlflow
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, CommandError, sqlite3.Error, OSError, ImportError, ValueError) as error:
        said = _without_password(str(error))  # ValueError: an address that is none, an answer that is no JSON
        mend = next((mend for pattern, mend in MENDS.items() if re.search(pattern, said)), "see that it can be reached")
        first = " ".join(said.split("\n", 1)[0].split())[:160]
        store = _without_password(uri or mlflow.get_tracking_uri())
        raise RunError(f"tracking store {store}: {mend}{WITHOUT} ({first})") from error


class MlflowTracker:
    """Writes to one MLflow run; each call is one request to the store."""

    def __init__(self, run_id: str) -> None:
        import mlflow

        self.run_id: str | None = run_id
        self._client = mlflow.MlflowClient()

    @_reaching()
    def params(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = flatten(values)
        self._client.log_batch(self.run_id, params=[Param(key, str(value)) for key, value in flat.items()])

    @_reaching()
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        finite = [Metric(key, float(v), now, step or 0) for key, v in values.items() if abs(v) < float("inf")]
        if finite:
            self._client.log_batch(self.run_id, metrics=finite)

    @_reaching()
    def artifact(self, path: Path, where: str) -> None:
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), where)
        else:
            self._client.log_artifact(self.run_id, str(path), where)

    @_reaching()
    def model(self, folder: Path, version: Version) -> None:
        import mlflow

        self.artifact(folder, "model")
        with warnings.catch_warnings():
            # advice to derive the signature from type hints or an example; this one is given in full
            warnings.simplefilter("ignore", UserWarning)
            served = mlflow.pyfunc.log_model(
                name="served",
                python_model=str(Path(__file__).parent / "service" / "mlflow_model.py"),
                artifacts={"model": str(folder)},
                signature=_signature(),
                pip_requirements=[f"srun-unlearning=={__version__}"],
            )
        self._register(served, version)

    def _register(self, served: Any, version: Version) -> None:
        """Make a version of the name; a name that stands for another data set or Original keeps its versions."""
        own = {key: version.tags[key] for key in ("srun.data", "srun.original")}
        known = self._client.search_registered_models(f"name='{version.name}'")
        if not known:
            self._client.create_registered_model(version.name, own)
        elif any(known[0].tags.get(key, value) != value for key, value in own.items()):
            there = ", ".join(str(known[0].tags.get(key)) for key in own)
            log.warning(
                "%s: not registered, for the name is that of %s; rename the data set or the Original",
                *(version.name, there),
            )
            return
        made = self._client.create_model_version(
            version.name,
            served.model_uri,
            run_id=self.run_id,
            tags=dict(version.tags),
            description=version.description,
            model_id=served.model_id,
        )
        self._client.set_registered_model_alias(version.name, version.alias, made.version)


@contextmanager
def tracked_run(
    root: Path, experiment: str, name: str, tags: Mapping[str, str], dataset: tuple[str, str] | None
) -> Iterator[Tracker]:
    """Open an MLflow run; it ends as FINISHED, or as FAILED when the block raises.

    The store is MLFLOW_TRACKING_URI, or ``mlflow.db`` and ``mlartifacts`` under ``root``. ``dataset`` is the name
    and the fingerprint of the data the run reads.
    """
    reach(root)
    import mlflow

    with _reaching():
        parent, experiment_id = _launched_by()
        experiment_id = experiment_id or _experiment_id(root, experiment)
        all_tags = {**tags, **_git_tags(root)} | ({"mlflow.parentRunId": parent} if parent else {})
        run = mlflow.start_run(experiment_id=experiment_id, run_name=name, tags=all_tags, log_system_metrics=False)
    try:
        if dataset is not None:
            with _reaching():
                _log_dataset(*dataset)
        yield MlflowTracker(run.info.run_id)
    except BaseException:
        try:
            with _reaching():
                mlflow.end_run("FAILED")
        except RunError as error:  # what ended the run says more
            log.warning("%s", error)
        raise
    with _reaching():
        mlflow.end_run()


def reach(root: Path) -> None:
    """Choose the store that ``tracking_uri`` names and see that it answers and can be written; RunError if not.

    It is tried once, and not for minutes as later calls are: nothing is lost yet.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    for chatty in ("mlflow.store.db.utils", "alembic.runtime.migration"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with _reaching(os.environ.get("MLFLOW_TRACKING_URI") or _own_store(root)):
        uri = tracking_uri(root)
        mlflow.set_tracking_uri(uri)
        with locked(root.resolve() / "mlflow.db", "making") if uri == _own_store(root) else nullcontext():
            if re.match("sqlite|postgresql|mysql|mssql", uri):
                _try_database(uri)
            with _once():
                mlflow.MlflowClient().search_registered_models(max_results=1)


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


@contextmanager
def _once() -> Iterator[None]:
    """Requests over http are not repeated, and wait for seconds only."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _without_password(text: str) -> str:
    """A store's address, or words about it, as they may be shown."""
    return re.sub(r"://[^/\s]*@", "://***@", text)


class StudyTracker:
    """A parent run for a study, found again by ``key``, and a nested run for each of its trials, written once."""

    @_reaching()
    def __init__(self, root: Path, experiment: str, name: str, key: str, tags: Mapping[str, str]) -> None:
        reach(root)
        import mlflow

        self._client = mlflow.MlflowClient()
        self._experiment = _experiment_id(root, experiment)
        found = self._search(f"tags.`srun.study` = '{key}'")
        if found:
            self.run_id = str(found[0].info.run_id)
        else:
            all_tags = {**tags, "srun.study": key, **_git_tags(root)}
            run = self._client.create_run(self._experiment, run_name=f"optimize: {name}", tags=all_tags)
            self.run_id = str(run.info.run_id)
        self._trials = {
            run.data.tags["srun.trial"]: str(run.info.run_id)
            for run in self._search(f"tags.`mlflow.parentRunId` = '{self.run_id}'")
        }

    @_reaching()
    def trial(
        self,
        number: int,
        status: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        curves: Sequence[Mapping[str, float]],
        tags: Mapping[str, str],
    ) -> None:
        """Write a finished trial, unless it is there; ``curves`` have a row an epoch. Tags are always written."""
        if str(number) not in self._trials:
            all_tags = {"mlflow.parentRunId": self.run_id, "srun.trial": str(number)}
            run = self._client.create_run(self._experiment, run_name=f"trial {number}", tags=all_tags)
            nested = MlflowTracker(run.info.run_id)
            nested.params(params)
            for row in curves:
                nested.metrics({key: value for key, value in row.items() if key != "epoch"}, step=int(row["epoch"]))
            nested.metrics({_metric_name(key): value for key, value in metrics.items()})
            self._trials[str(number)] = str(run.info.run_id)
            self._client.set_terminated(run.info.run_id, status)
            run_tags = dict(tags)
        else:
            known = self._client.get_run(self._trials[str(number)]).data.tags
            run_tags = {key: value for key, value in tags.items() if known.get(key) != value}
        for key, value in run_tags.items():
            self._client.set_tag(self._trials[str(number)], key, value)

    @_reaching()
    def finish(self, params: Mapping[str, Any], metrics: Mapping[str, float], files: Sequence[Path]) -> None:
        """Write what is known of the study as a whole; its run counts as finished."""
        whole = MlflowTracker(self.run_id)
        whole.params(params)
        whole.metrics(metrics)
        for file in files:
            whole.artifact(file, "report")
        self._client.set_terminated(self.run_id)

    def _search(self, what: str) -> list[Any]:
        return list(self._client.search_runs([self._experiment], what, max_results=10_000))


def _metric_name(key: str) -> str:
    """A name that MLflow takes; a constraint is a text such as ``validation/ndcg_10 >= 0.95 of original``."""
    return re.sub(r"[^\w/. -]", "", key)


@functools.cache
def _launched_by() -> tuple[str | None, str | None]:
    """The run and experiment that `mlflow run` opened for this process: ours are children, each a run of its own."""
    run_id = os.environ.pop("MLFLOW_RUN_ID", None)
    return run_id, os.environ.get("MLFLOW_EXPERIMENT_ID") if run_id else None


def tracking_uri(root: Path) -> str:
    """The store's address: MLFLOW_TRACKING_URI, or a SQLite file under ``root``, which is made if it is missing."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri
    database = root.resolve() / "mlflow.db"
    if not database.exists():
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # halves the time of a write
    return _own_store(root)


def _own_store(root: Path) -> str:
    return f"sqlite:///{root.resolve() / 'mlflow.db'}"


def _experiment_id(root: Path, name: str) -> str:
    """The experiment of a name, made if need be; a store of our own is made by one process while others wait."""
    import mlflow

    own_store = mlflow.get_tracking_uri() == _own_store(root)  # MLflow writes its choice to the environment
    place = (root.resolve() / "mlartifacts").as_uri() if own_store else None
    with locked(root.resolve() / "mlflow.db", "making") if own_store else nullcontext():
        found = mlflow.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            store = _without_password(mlflow.get_tracking_uri())
            raise RunError(
                f'tracking store {store}: its experiment "{name}" is deleted; bring it back with '
                f"`MLFLOW_TRACKING_URI={store} mlflow experiments restore -x {found.experiment_id}`{WITHOUT}"
            )
        return str(found.experiment_id if found else mlflow.create_experiment(name, artifact_location=place))


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


def _log_dataset(name: str, fingerprint: str) -> None:
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    source = CodeDatasetSource(tags={"srun.command": f"srun data fetch {name}"})
    mlflow.log_input(MetaDataset(source=source, name=name, digest=fingerprint[:36]), context="training")
