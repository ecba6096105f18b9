"""Stage partition: a forget request -> what is forgotten, what is retained, what is asked afterwards."""

from pathlib import Path
from typing import Any

from srun.data.interactions import Dataset
from srun.data.partition import Request, partition
from srun.stages.common import stage_key
from srun.tracking import Tracker


def run(prepared: Path, out: Path, name: str, request: Request, tracker: Tracker) -> dict[str, Any]:
    """Write the partition of a named request and return its counts."""
    result = partition(Dataset.load(prepared), name, request)
    result.info["key"] = key(prepared, name, request)
    result.save(out)
    figures = {key: float(value) for key, value in result.info.items() if key.startswith("num_")}
    tracker.metrics(figures | {f"splits/{split}": float(size) for split, size in result.info["splits"].items()})
    return result.info


def key(prepared: Path, name: str, request: Request) -> str:
    """What a partition is made of; a request's file counts by its content."""
    file = vars(request).get("file")
    inputs = [prepared / "info.json", *([] if file is None else [Path(file)])]
    return stage_key("partition", inputs, name=name, request=vars(request))
