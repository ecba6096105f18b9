"""What is published: a scorer in a folder of ``weights.safetensors``, ``model.json`` and the checksums of its files.

No pickle. V: catalogue.
"""

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from srun import __version__
from srun.errors import CheckpointError, ConfigError
from srun.files import read_json, seal, verify_folder, write_folder
from srun.models.base import SequenceModel
from srun.models.checks import MEND, check_info, check_rules, check_same_scorer, check_tensor, check_weights
from srun.models.scorer import Aggregation, Scorer, model_description, new_model
from srun.tables import read_table, write_table

WEIGHTS_FILE = "weights.safetensors"
INFO_FILE = "model.json"
HISTORY_FILE = "history.csv"
ITEMS_FILE = "items.csv"
PARTS_FILE = "parts.safetensors"
SCORER = "scorer"  # key of the weights' metadata: what they are the weights of, as model.json has it


def publish(
    folder: Path,
    scorer: Scorer,
    info: dict[str, Any],
    history: list[dict[str, float]],
    items: pd.DataFrame | None = None,
    parts: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a scorer with ``info`` (config, seeds, data fingerprint, edits) and its curves, whole or not at all.

    ``parts`` are tensors that are kept for later requests only (see ``load_parts``).
    ``items`` (item_id, title; V rows) leads from the model's item numbers to raw ids; serving needs it.
    """
    tensors = {
        f"{index}/{name}": tensor.contiguous()
        for index, model in enumerate(scorer.models)
        for name, tensor in model.state_dict().items()
    }
    for name in ("catalogue", "masked"):
        if (tensor := getattr(scorer, name)) is not None:
            tensors[name] = tensor.contiguous()
    own: dict[str, Any] = {"models": [model_description(model) for model in scorer.models]}
    if scorer.aggregation is not None:
        own["aggregation"] = {"kind": scorer.aggregation.kind, "temperature": scorer.aggregation.temperature}
        if scorer.aggregation.centroids is not None:
            tensors["centroids"] = scorer.aggregation.centroids.contiguous()
    description = {**info, "version": __version__, **own}
    with write_folder(folder, sealed=True) as new:
        save_file(tensors, new / WEIGHTS_FILE, {SCORER: json.dumps(own, sort_keys=True)})
        if parts:
            save_file({name: tensor.contiguous() for name, tensor in parts.items()}, new / PARTS_FILE)
        (new / INFO_FILE).write_text(json.dumps(description, indent=1, sort_keys=True) + "\n")
        _write_history(new / HISTORY_FILE, history)
        if items is not None:
            write_table(new / ITEMS_FILE, items[["item_id", "title"]])


def load_published(
    folder: Path, device: torch.device | str = "cpu", stage: Literal["train", "unlearn"] | None = None
) -> tuple[Scorer, dict[str, Any]]:
    """Read what ``publish`` wrote: the scorer and its info, which ``stage`` must have written if it is given.

    Raises CheckpointError naming what is missing, damaged, added or does not fit.
    """
    for name in (INFO_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: no model here ({name} is missing)")
    verify_folder(folder, CheckpointError, MEND)
    info = read_json(folder / INFO_FILE, CheckpointError, MEND)
    check_info(folder / INFO_FILE, info, stage)
    tensors, written = _read_weights(folder / WEIGHTS_FILE, device)
    check_same_scorer(folder / INFO_FILE, info, written)
    try:
        models = [new_model(description).to(device) for description in info["models"]]
    except ConfigError as error:
        raise CheckpointError(f"{folder / INFO_FILE}: {str(error)[:200]}; {MEND}") from error
    rules: dict[str, Tensor] = {
        name: tensors.pop(name) for name in ("catalogue", "masked", "centroids") if name in tensors
    }
    _load_weights(folder / WEIGHTS_FILE, models, tensors)
    how = info.get("aggregation")
    check_rules(folder / WEIGHTS_FILE, rules, models, how)
    if (folder / ITEMS_FILE).is_file():
        load_items(folder, models[0].num_items)
    aggregation = None if how is None else Aggregation(**how, centroids=rules.get("centroids"))
    return Scorer(models, rules.get("catalogue"), rules.get("masked"), aggregation), info


def load_items(folder: Path, num_items: int) -> pd.DataFrame:
    """The item table (item_id, title; V rows) of a published model; raises CheckpointError if it has not one a item."""
    file = folder / ITEMS_FILE
    items = read_table(file, ["item_id", "title"], CheckpointError, MEND)
    if len(items) != num_items:
        raise CheckpointError(f"{file}: the model has {num_items} items and its item table {len(items)}; {MEND}")
    twice = items["item_id"].duplicated()
    if twice.any():
        raise CheckpointError(f"{file}: item number {int(twice.argmax()) + 1} has an id that stands above; {MEND}")
    return items


def load_parts(folder: Path) -> dict[str, Tensor]:
    """What a published model keeps for later requests: shards, slices and their saved states; empty without any.

    Raises CheckpointError when the folder is not as it was written.
    """
    verify_folder(folder, CheckpointError, MEND)
    file = folder / PARTS_FILE
    if not file.is_file():
        return {}
    try:
        parts = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read; {MEND}") from error
    for name, tensor in parts.items():
        check_tensor(file, name, tensor, tuple(tensor.shape), tensor.dtype)
    return parts


def load_history(folder: Path) -> list[dict[str, float]]:
    """The curves of a published model: one row an epoch, without the figures that were not taken at it.

    Raises CheckpointError when they are none.
    """
    file = folder / HISTORY_FILE
    try:
        header, *lines = csv.reader(file.read_text(encoding="utf-8").split("\n"), strict=True)
        rows = [zip(header, line, strict=True) for line in lines if line]
        return [{name: float(value) for name, value in row if value} for row in rows]
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror or error}); {MEND}") from error
    except (ValueError, csv.Error) as error:
        raise CheckpointError(f"{file}: not a table of curves; {MEND}") from error


@contextmanager
def without_parts(folder: Path) -> Iterator[Path]:
    """A published folder without what only later requests need, such as the shard of every user; for serving."""
    if not (folder / PARTS_FILE).is_file():
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / folder.name
        shutil.copytree(folder, copy)
        (copy / PARTS_FILE).unlink()
        seal(copy)
        yield copy


def _read_weights(file: Path, device: torch.device | str) -> tuple[dict[str, Tensor], str | None]:
    """The tensors by name, and what they are the weights of."""
    try:
        with safe_open(file, framework="pt", device=str(device)) as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
            return tensors, (opened.metadata() or {}).get(SCORER)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read as safetensors; {MEND}") from error


def _load_weights(file: Path, models: Sequence[SequenceModel], tensors: dict[str, Tensor]) -> None:
    """Give every model its tensors; raises CheckpointError unless they fit, and none is left."""
    for index, model in enumerate(models):
        prefix = f"{index}/"
        mine = {name for name in tensors if name.startswith(prefix)}
        weights = {name.removeprefix(prefix): tensors.pop(name) for name in mine}
        check_weights(file, weights, model.state_dict(), prefix)
        model.load_state_dict(weights)
    check_weights(file, tensors, {})


def _write_history(path: Path, history: list[dict[str, float]]) -> None:
    columns = list(dict.fromkeys(key for row in history for key in row))
    lines = [",".join(columns)] + [",".join(_cell(row.get(column)) for column in columns) for row in history]
    path.write_text("\n".join(lines) + "\n")


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}"
