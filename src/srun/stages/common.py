"""What the model stages share: loading, resume keys, curves to the tracker and the terminal, run files."""

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from srun.data.interactions import Dataset
from srun.devices import machine
from srun.errors import CheckpointError
from srun.files import write_text
from srun.models.scorer import Scorer, load_published
from srun.progress import EpochBar
from srun.stages.layout import CellPaths, Layout
from srun.tracking import Tracker
from srun.training.checkpoint import ResumeFolder
from srun.training.fit import Cost


def load_dataset(layout: Layout) -> Dataset:
    """The prepared data set of a project."""
    return Dataset.load(layout.prepared)


def load_original(layout: Layout, name: str, data: Dataset, device: torch.device) -> tuple[Scorer, dict[str, Any]]:
    """A trained Original and its info; raises CheckpointError if it was trained on other data than the prepared set."""
    source = layout.original(name).model
    scorer, info = load_published(source, device)
    if info["fingerprint"] != data.fingerprint or info["prepare"] != data.info["config"]:
        raise CheckpointError(f"{source}: trained on other data than the prepared set; run `srun train` again")
    return scorer, info


def weights_sha256(folder: Path) -> str:
    """The fingerprint of a published model."""
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def resume_folder(paths: CellPaths, what: dict[str, Any]) -> ResumeFolder:
    """Where a run goes on after a kill; ``what`` is everything its result depends on."""
    key = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
    return ResumeFolder(paths.resume, key)


def write_run(paths: CellPaths, cost: Cost, tracker: Tracker) -> None:
    """Write what differs from run to run beside the results, which do not."""
    record = {"cost": cost.measured(), "machine": machine(), "mlflow_run_id": tracker.run_id}
    write_text(paths.run, json.dumps(record, indent=1, sort_keys=True) + "\n")
    tracker.metrics({f"cost/{name}": value for name, value in {**cost.exact(), **cost.measured()}.items()})


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
