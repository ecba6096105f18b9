"""Stage prepare: raw data -> dense ids, roles, held-out targets."""

from pathlib import Path
from typing import Any

from srun.data.dataset import Dataset, PrepareConfig, prepare
from srun.data.raw import read_raw
from srun.tracking import Tracker


def run(raw: Path, out: Path, settings: PrepareConfig, tracker: Tracker) -> dict[str, Any]:
    """Write the prepared data set and return its counts."""
    data: Dataset = prepare(read_raw(raw), settings)
    data.save(out)
    after = {f"after/{key}": value for key, value in data.info["after"].items()}
    groups = {f"{group}/{key}": value for group in ("roles", "set_aside") for key, value in data.info[group].items()}
    tracker.metrics({**after, **groups})
    return data.info
