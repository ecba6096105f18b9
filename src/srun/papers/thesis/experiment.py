"""What runs for the SRUGA thesis: the Originals and cells that its preset is run with."""

import json
from collections.abc import Sequence
from typing import Any

METHODS = ("original", "sruga", "retrain", "sisa")  # the cheapest first
SHARDS = 5


def assignments(name: str, models: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """The data set, Originals and cells of the parameters, as overrides of the preset."""
    originals: dict[str, Any] = {}
    cells: dict[str, Any] = {}
    for model in models:
        for seed in seeds:
            originals[f"{model}-{seed}"] = {"model": model, "seed": seed, "shards": 1}
            originals[f"{model}-sisa-{seed}"] = {"model": model, "seed": seed, "shards": SHARDS}
            for method in METHODS:
                start = f"{model}-sisa-{seed}" if method == "sisa" else f"{model}-{seed}"
                cell = {"request": "interactions", "original": start, "method": method, "seed": seed}
                cells[f"{model}-{method}-{seed}"] = cell
    return [f"data.name={name}", f"originals={json.dumps(originals)}", f"cells={json.dumps(cells)}"]
