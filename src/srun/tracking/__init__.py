"""Experiment tracking: what a stage tells a tracker, whichever that is. Below: a spool on disk, and MLflow.

Nothing that identifies a user, or tells who forgot what, goes to a tracker: counts, metrics and models only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


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

    @property
    def run_id(self) -> str | None:
        """The store's own id of the run; None where it is not known yet."""

    def resumes(self, key: str) -> None:
        """Say what is computed, before its first figure: a run of this key that was killed goes on as the same run."""

    def backfill(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Record the rows of a whole curve, each with its ``epoch``, that a run which goes on does not have yet."""

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

    def resumes(self, key: str) -> None:
        pass

    def backfill(self, rows: Iterable[Mapping[str, float]]) -> None:
        pass

    def params(self, values: Mapping[str, Any]) -> None:
        pass

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        pass

    def artifact(self, path: Path, where: str) -> None:
        pass

    def model(self, folder: Path, version: Version) -> None:
        pass
