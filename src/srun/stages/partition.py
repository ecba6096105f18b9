"""Stage partition: a forget request -> what is forgotten, what is retained, what is asked afterwards."""

import json
from pathlib import Path
from typing import Any

from srun.data.interactions import Dataset
from srun.data.partition import Request, partition
from srun.tracking import Tracker


def run(prepared: Path, out: Path, name: str, request: Request, tracker: Tracker) -> dict[str, Any]:
    """Write the partition of a named request and return its counts."""
    result = partition(Dataset.load(prepared), name, request)
    result.save(out)
    figures = {key: float(value) for key, value in result.info.items() if key.startswith("num_")}
    tracker.metrics(figures | {f"splits/{split}": float(size) for split, size in result.info["splits"].items()})
    return result.info


def is_current(prepared: Path, folder: Path, request: Request) -> bool:
    """Whether a folder holds the partition of the prepared data by this very request."""
    if not (folder / "info.json").is_file() or not (prepared / "info.json").is_file():
        return False
    info, data = (json.loads((where / "info.json").read_text()) for where in (folder, prepared))
    same_data = info["fingerprint"] == data["fingerprint"] and info["prepare"] == data["config"]
    return bool(same_data and info["request"] == json.loads(json.dumps(vars(request))))
