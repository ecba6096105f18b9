"""A core or edge request, drawn by the expected memory of training events, as a file that `srun partition` reads."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from srun.data.dataset import Dataset, Mask
from srun.errors import ConfigError
from srun.files import write_text
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset, load_original, require_crossfit, weights_sha256
from srun.requests.draws import MAX_SHARE, Extreme, draw_extreme
from srun.system.devices import RuntimeConfig, start
from srun.unlearning.closed_form.expected import ExpectedMemory, expected_memory
from srun.unlearning.closed_form.levels import LevelFrom

log = logging.getLogger("srun.data")


def run(
    layout: Layout,
    name: str,
    file: Path,
    extreme: Extreme,
    number: int,
    seed: int,
    level_from: LevelFrom,
    with_times: bool,
    runtime: RuntimeConfig,
) -> dict[str, Any]:
    """Write the request to ``file`` and how it was drawn beside it, as JSON that holds no id; returns the latter.

    ``name``: an Original of another seed than those whose forgetting is to be measured. Raises ConfigError where a file
    is there already or the Original has shards, CheckpointError where its table of cross-fitted models is needed and
    not there.
    """
    record_file = file.with_suffix(".json")
    for path in (file, record_file):
        if path.exists():
            raise ConfigError(f"{path}: is there already, and no draw replaces it; remove it, or give another --file")
    device, data = start(runtime), load_dataset(layout)
    original = load_original(layout, name, data, device)
    if len(original.scorer.models) > 1:
        raise ConfigError(f'original "{name}": has shards, and memory is measured of one model; name one with shards 1')
    table = require_crossfit(layout, name, data) if level_from == "crossfit" else None
    log.info("expected memory of the training events of %s, under %s", data.info["name"], name)
    memory = expected_memory(original.model.eval(), data, table, seed, device)
    drawn = draw_extreme(data, memory.expected, number, extreme)
    record = {
        "data": {"name": data.info["name"], "fingerprint": data.fingerprint, "prepare": data.info["config"]},
        "original": {"name": name, "sha256": weights_sha256(layout.original(name).model)},
        "draw": {"expected": extreme, "events": number, "seed": seed, "level_from": level_from, "max_share": MAX_SHARE},
        "found": _figures(data, memory, drawn),
    }
    write_text(file, _rows(data, drawn, with_times).to_csv(index=False, lineterminator="\n"))
    write_text(record_file, json.dumps(record, indent=1, sort_keys=True) + "\n")
    return {"written": [str(file), str(record_file)], **record}


def _figures(data: Dataset, memory: ExpectedMemory, drawn: Mask) -> dict[str, float]:
    """What is expected of the drawn events, beside all events."""
    return {
        "num_users": len(np.unique(data.user[drawn])),
        "expected_memory": round(float(memory.expected[drawn].mean()), 4),
        "expected_memory_of_all": round(float(np.nanmean(memory.expected)), 4),
        "correlation_with_lift": round(memory.correlation, 4),
    }


def _rows(data: Dataset, drawn: Mask, with_times: bool) -> pd.DataFrame:
    """A row for each drawn event, by raw ids; times only where the log has them."""
    columns = {
        "user_id": data.users["user_id"].to_numpy()[data.user[drawn]],
        "item_id": data.items["item_id"].to_numpy()[data.item[drawn] - 1],
    }
    return pd.DataFrame(columns | ({"timestamp": data.time[drawn]} if with_times else {}))
