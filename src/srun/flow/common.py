"""What the stages share: keys of what is done, loading, curves to the tracker and the terminal, run files."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from srun import __version__
from srun.data.dataset import Dataset
from srun.errors import CheckpointError, RunError
from srun.files import read_json, sha256, write_text
from srun.flow.layout import CellPaths, Layout
from srun.models.checks import check_parts
from srun.models.scorer import PARTS_FILE, WEIGHTS_FILE, load_parts, load_published
from srun.progress import Budget, EpochBar
from srun.system.devices import machine
from srun.system.meter import Cost
from srun.tracking import Tracker, Version
from srun.training.checkpoint import ResumeFolder
from srun.unlearning.base import Original

log = logging.getLogger("srun")


def load_dataset(layout: Layout) -> Dataset:
    """The prepared data set of a project."""
    return Dataset.load(layout.prepared)


def load_original(layout: Layout, name: str, data: Dataset, device: torch.device) -> Original:
    """A trained Original; raises CheckpointError if it was trained on other data than the prepared set."""
    source = layout.original(name).model
    scorer, info = load_published(source, device, "train")
    if info["fingerprint"] != data.fingerprint or info["prepare"] != data.info["config"]:
        raise CheckpointError(f"{source}: trained on other data than the prepared set; run `srun train` again")
    parts = load_parts(source)
    check_parts(source / PARTS_FILE, parts, scorer.models, data.num_users)
    return Original(scorer, info, parts)


def weights_sha256(folder: Path) -> str:
    """The fingerprint of a published model."""
    return sha256(folder / WEIGHTS_FILE)


def digest(what: Mapping[str, Any]) -> str:
    """The sha256 of plain values."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def stage_key(stage: str, inputs: Iterable[Path], **parameters: Any) -> str:
    """What an output is made of: the stage, the version, its parameters, and the bytes of its input files.

    The output's JSON file has it as ``key``. An input that is not there counts as absent, and no output has that key.
    Threads and device, which move the last bits only, are not part of it.
    """
    read = [sha256(path) if path.is_file() else None for path in inputs]
    return digest({"stage": stage, "version": __version__, "inputs": read, **parameters})


def has_key(file: Path, key: str) -> bool:
    """Whether an output's JSON file says that it was made of just that; one that cannot be read was not."""
    if not file.is_file():
        return False
    try:
        return bool(read_json(file, RunError, "it is made again").get("key") == key)
    except RunError as error:
        log.warning("%s", error)
        return False


def resume_folder(paths: CellPaths, what: dict[str, Any]) -> ResumeFolder:
    """Where a run goes on after a kill; ``what`` is everything its result depends on."""
    return ResumeFolder(paths.resume, digest(what))


def registered(data: Dataset, original: str, method: str, request: str | None, seed: int, alias: str) -> Version:
    """What a published model is registered as: names carry the data set, so that no alias crosses from one to another.

    ``request`` is None for an Original, which was trained before any. An alias takes no dots.
    """
    name = data.info["name"]
    what = f'trained on all of data set "{name}", before any request'
    if request is not None:
        what = f'which forgot the request "{request}" of data set "{name}" by {method}'
    tags = {
        "srun.data": name,
        "srun.fingerprint": data.fingerprint,
        "srun.original": original,
        "srun.method": method,
        "srun.request": request or "none: trained before any",
        "srun.seed": str(seed),
    }
    words = f'Original "{original}", {what}; seed {seed}.'
    return Version(f"srun-{name}-{original}", alias.replace(".", "--"), tags, words)


def write_run(paths: CellPaths, cost: Cost, tracker: Tracker) -> None:
    """Write what differs from run to run beside the results, which do not."""
    record = {"cost": cost.measured(), "machine": machine(), "mlflow_run_id": tracker.run_id}
    write_text(paths.run, json.dumps(record, indent=1, sort_keys=True) + "\n")
    tracker.metrics({f"cost/{name}": value for name, value in {**cost.exact(), **cost.measured()}.items()})


@dataclass(frozen=True)
class Step:
    """A part of a longer work, which leaves an output behind."""

    name: str
    needs: tuple[str, ...]
    """Names of earlier steps; when one of them is done again, so is this one."""
    is_done: Callable[[], bool]
    """Whether its output is there and made of what is there now."""
    run: Callable[[], object]


def take_steps(steps: Sequence[Step], budget: Budget | None) -> dict[str, list[str]]:
    """Take the steps that are not done, in order, until the budget is spent; returns ``done`` now and ``left``."""
    done: list[str] = []
    for step in steps:
        if step.is_done():
            log.info("%s: up to date", step.name)
            continue
        if budget is not None and budget.spent:
            left = _open(steps)
            log.warning(
                "the budget of %g minutes is spent; %d steps are left, from %s on; the same command goes on with them",
                *(budget.minutes, len(left), left[0]),
            )
            return {"done": done, "left": left}
        step.run()
        done.append(step.name)
    return {"done": done, "left": []}


def _open(steps: Sequence[Step]) -> list[str]:
    """What is not done, and what has to be done again for that."""
    left: list[str] = []
    for step in steps:
        if any(name in left for name in step.needs) or not step.is_done():
            left.append(step.name)
    return left


class Reporter:
    """Sends every epoch to the tracker and to the progress bar."""

    def __init__(self, title: str, shown: str, progress: bool, tracker: Tracker) -> None:
        self._bar = EpochBar(title, shown, progress)
        self._tracker = tracker

    def __enter__(self) -> "Reporter":
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def on_epoch(self, row: dict[str, float], epoch: int, cap: int) -> None:
        self._bar.update(row, epoch, cap)
        self._tracker.metrics({name: value for name, value in row.items() if name != "epoch"}, step=epoch)
