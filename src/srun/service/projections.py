"""What follows from the ledger elsewhere: versions of the log in DVC, runs and the alias `serving` in MLflow.

Neither ever stops the work: what cannot be written is told, and comes with the next promotion.
"""

import logging
import shlex
import subprocess
import sys
from pathlib import Path

from srun.errors import CheckpointError
from srun.files import read_json
from srun.flow.params import Params
from srun.flow.project import EXPERIMENT
from srun.models.published import INFO_FILE
from srun.service.book import Batch, Book, Version, shown_time
from srun.service.settings import ServiceRoot
from srun.tracking import Version as Registered
from srun.tracking.runs import Tracking

ALIAS = "serving"
MAX_RUNS = 50
"""Requests of a batch that have a run of their own; of a larger one the batch has one for all."""
DVC_SECONDS = 120

log = logging.getLogger("srun.service")


def add_to_dvc(root: ServiceRoot, params: Params) -> str:
    """Give the log's present version to DVC; returns the command that commits it to Git, "" where there is none.

    srun never commits by itself.
    """
    if not params.service.dvc:
        return ""
    folder = root.folder
    in_git = any((place / ".git").exists() for place in (folder, *folder.parents))
    if not (folder / ".dvc").is_dir() and not _dvc(folder, "init", "--quiet", "--subdir" if in_git else "--no-scm"):
        return ""
    place = root.raw.relative_to(folder)
    if not _dvc(folder, "add", "--quiet", str(place)) or not in_git:
        return ""
    files = [str(place.with_name(f"{place.name}.dvc")), str(place.with_name(".gitignore")), ".dvc", ".dvcignore"]
    words = ["git", "-C", str(folder), "add", *files]
    return f"{shlex.join(words)} && {shlex.join(['git', '-C', str(folder), 'commit', '-m', 'New version of the log'])}"


def _dvc(folder: Path, *words: str) -> bool:
    """Run DVC in a folder; whether it did what it was told."""
    command = [sys.executable, "-m", "dvc", *words]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=DVC_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        log.warning("dvc %s: no end within %d s; the next promotion tries again", words[0], DVC_SECONDS)
        return False
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        log.warning("dvc %s: %s; the next promotion tries again", words[0], lines[0] if lines else "failed")
    return done.returncode == 0


def tell_tracker(root: ServiceRoot, params: Params, book: Book, batch: Batch) -> None:
    """A run for each request of a batch, found again by its id, and the version that it led to under `serving`."""
    if not params.runtime.tracking:
        return
    version = next(version for version in book.versions.values() if version.batch == batch.id)
    tracking, gate = Tracking(), batch.gates.get(version.method)
    tags = {"stage": "requests", "srun.batch": batch.id, "srun.version": str(version.number)}
    names = list(batch.requests) if 0 < len(batch.requests) <= MAX_RUNS else [batch.id]
    for index, name in enumerate(names):
        key = ("srun.request", f"{root.settings.service}/{name}")
        with tracking.run(root.folder, EXPERIMENT, f"request: {name}", tags, None, key=key) as tracker:
            tracker.params({"method": version.method, "verdict": version.verdict, "requests": len(batch.requests)})
            if gate is not None:
                tracker.metrics({f"gate/{figure}": float(value) for figure, value in gate["figures"].items()})
            if index == len(names) - 1:
                tracker.model(root.folder / version.model, _registered(root, book, batch, version))


def _registered(root: ServiceRoot, book: Book, batch: Batch, version: Version) -> Registered:
    """What the version is registered as: tags and words that answer which one to serve, and why."""
    settings = root.settings
    info = read_json(root.folder / version.model / INFO_FILE, CheckpointError, "restore it from a copy")
    tags = {
        "srun.data": settings.data,
        "srun.original": settings.original,
        "srun.sha256": version.sha256,
        "srun.covers": str(len(version.covers)),
        "srun.method": version.method,
        "srun.verdict": version.verdict,
        "srun.parent": str(version.parent),
        "srun.version": str(version.number),
        "srun.data_digest": version.data,
        "srun.code": str(info["version"]),
    }
    gate = batch.gates.get(version.method)
    why = "" if gate is None else f" The gate said: {gate['reason']}."
    words = (
        f"Version {version.number} of the service of {settings.data}, promoted {shown_time(version.promoted)}: serve"
        f" this one while it is under the alias {ALIAS}. It covers {len(version.covers)} requests, was made by"
        f" {version.method} from version {version.parent}; verdict: {version.verdict}.{why}"
    )
    return Registered(f"srun-{settings.data}-{settings.original}", ALIAS, tags, words)
