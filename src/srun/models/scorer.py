"""What is ranked and what is published: one or more models, with what must never be recommended.

Shapes: B batch, L length, V catalogue. A published folder holds ``weights.safetensors``, ``model.json`` and the
checksums of its files: no pickle.
"""

import csv
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from srun import __version__
from srun.config import build
from srun.errors import CheckpointError, ConfigError
from srun.files import read_json, seal, verify_folder, write_folder
from srun.models import MODELS
from srun.models.base import SequenceModel
from srun.models.checks import MEND, check_info, check_rules, check_same_scorer, check_tensor, check_weights
from srun.tables import read_table, write_table

WEIGHTS_FILE = "weights.safetensors"
INFO_FILE = "model.json"
HISTORY_FILE = "history.csv"
ITEMS_FILE = "items.csv"
PARTS_FILE = "parts.safetensors"
SCORER = "scorer"  # key of the weights' metadata: what they are the weights of, as model.json has it


@dataclass
class Aggregation:
    """How the scores of several models become one, where it is not their mean.

    ``probabilities``: the mean of their softmax over the catalogue, as its logarithm. ``similarity``: a mean of scores
    with weights softmax(cosine / ``temperature``), of the history's mean item embedding to each model's row of
    ``centroids`` (S, D), both in that model's own space.
    """

    kind: str
    temperature: float
    centroids: Tensor | None = None

    def weights(self, models: Sequence[SequenceModel], histories: Tensor) -> Tensor:
        """(B, S) the share of every model after ``histories`` (B, L); equal shares for an empty history."""
        assert self.centroids is not None
        real = (histories != 0).unsqueeze(2)  # (B, L, 1)
        cosines = [
            torch.cosine_similarity(
                (model.embedding(histories) * real).sum(1) / real.sum(1).clamp(min=1), centroid[None]
            )
            for model, centroid in zip(models, self.centroids, strict=True)
        ]
        return torch.softmax(torch.stack(cosines, 1) / self.temperature, 1)


class Scorer:
    """Histories in, scores out: the mean over ``models``, or what ``aggregation`` makes of them; -inf for what
    ``catalogue`` and ``masked`` forbid.

    ``catalogue`` (V+1,) bool: items that were trained; the others have no learned score and get -inf.
    ``masked`` (M, 2): pairs of user and item that are never shown; user -1 means everybody.
    """

    def __init__(
        self,
        models: Sequence[SequenceModel],
        catalogue: Tensor | None = None,
        masked: Tensor | None = None,
        aggregation: Aggregation | None = None,
    ) -> None:
        self.models, self.catalogue, self.aggregation = list(models), catalogue, aggregation
        self.masked = None if masked is None else masked[masked[:, 0].argsort(stable=True)]
        for model in self.models:
            model.eval()

    @property
    def model(self) -> SequenceModel:
        """The only model; raises CheckpointError for an ensemble, which has no single one."""
        if len(self.models) != 1:
            raise CheckpointError(f"expected one model, found an ensemble of {len(self.models)}")
        return self.models[0]

    @property
    def num_items(self) -> int:
        return self.models[0].num_items

    @property
    def max_length(self) -> int:
        return self.models[0].max_length

    @property
    def names_users(self) -> bool:
        """Whether it says of single users what they must not be shown: then it tells who forgot what."""
        return self.masked is not None and bool((self.masked[:, 0] != -1).any())

    @property
    def device(self) -> torch.device:
        return self.models[0].embedding.weight.device

    def untrained_raw(self) -> "Scorer":
        """The same without the rule that untrained items get -inf."""
        return Scorer(self.models, None, self.masked, self.aggregation)

    def to(self, device: torch.device | str) -> "Scorer":
        """Move everything to a device."""
        for model in self.models:
            model.to(device)
        self.catalogue = None if self.catalogue is None else self.catalogue.to(device)
        self.masked = None if self.masked is None else self.masked.to(device)
        if self.aggregation is not None and self.aggregation.centroids is not None:
            self.aggregation.centroids = self.aggregation.centroids.to(device)
        return self

    @torch.inference_mode()
    def scores(self, histories: Tensor, users: Tensor) -> Tensor:
        """Scores (B, V+1) of all items after ``histories`` (B, L), for ``users`` (B,); column 0 means nothing."""
        scores = self._aggregated(histories)
        if self.catalogue is not None:
            scores[:, ~self.catalogue] = float("-inf")
        if self.masked is not None:
            everybody = self.masked[self.masked[:, 0] == -1, 1]
            scores[:, everybody] = float("-inf")
            row, position = _matches(self.masked[:, 0].contiguous(), users)
            scores[row, self.masked[position, 1]] = float("-inf")
        return scores

    def _aggregated(self, histories: Tensor) -> Tensor:
        """Scores (B, V+1) of the models as one, before anything is forbidden."""
        if self.aggregation is None or len(self.models) == 1:
            return self._sum(histories, None)
        if self.aggregation.kind == "similarity":
            return self._sum(histories, self.aggregation.weights(self.models, histories))
        first, *others = self.models
        total = self._log_probabilities(first.scores(_last_state(first, histories)))
        for model in others:
            total = torch.logaddexp(total, self._log_probabilities(model.scores(_last_state(model, histories))))
        return total - math.log(len(self.models))

    def _sum(self, histories: Tensor, weights: Tensor | None) -> Tensor:
        """The sum of scores weighted by ``weights`` (B, S), or their mean."""
        first, *others = self.models
        scores = first.scores(_last_state(first, histories))
        if weights is not None:
            scores *= weights[:, :1]
        for index, model in enumerate(others, 1):
            part = model.scores(_last_state(model, histories))
            scores += part if weights is None else part * weights[:, index : index + 1]
        return scores / len(self.models) if others and weights is None else scores

    def _log_probabilities(self, scores: Tensor) -> Tensor:
        scores[:, 0] = float("-inf")
        if self.catalogue is not None:  # what was not trained takes no share
            scores[:, ~self.catalogue] = float("-inf")
        return scores.log_softmax(1)


def _last_state(model: SequenceModel, histories: Tensor) -> Tensor:
    state = model.last_state(model.prediction_inputs(histories))
    if not torch.isfinite(state).all():
        raise CheckpointError("the model gives states that are not numbers: training diverged; lower its learning rate")
    return state


def _matches(sorted_users: Tensor, users: Tensor) -> tuple[Tensor, Tensor]:
    """(row, position) of every entry of ``sorted_users`` that equals users[row]."""
    first = torch.searchsorted(sorted_users, users)
    size = torch.searchsorted(sorted_users, users, right=True) - first
    row = torch.repeat_interleave(torch.arange(len(users), device=users.device), size)
    within = torch.arange(len(row), device=users.device) - torch.repeat_interleave(size.cumsum(0) - size, size)
    return row, first[row] + within


def clone_model(model: SequenceModel) -> SequenceModel:
    """A copy with its own weights; nothing done to it reaches the one it came from."""
    copy = new_model(model_description(model))
    copy.load_state_dict(model.state_dict())
    return copy.to(model.embedding.weight.device)


def untied_copy(model: SequenceModel) -> SequenceModel:
    """A copy that gives the same scores by an output embedding of its own, equal to the input embedding so far."""
    description = model_description(model)
    description["settings"]["tie_embeddings"] = False
    copy = new_model(description)
    copy.load_state_dict({**model.state_dict(), "output.weight": model.output_weight.detach()})
    return copy.to(model.embedding.weight.device)


def model_description(model: SequenceModel) -> dict[str, Any]:
    """Name, settings and sizes: what ``new_model`` needs."""
    name = next(name for name in MODELS if MODELS[name] is type(model))
    return {
        "name": name,
        "settings": dict(vars(model.settings)),
        "num_items": model.num_items,
        "max_length": model.max_length,
    }


def new_model(description: dict[str, Any]) -> SequenceModel:
    """An untrained model of a description; its weights are not set yet."""
    kind = MODELS[description["name"]]
    settings = build(kind.Config, description["settings"], f"model.{description['name']}")
    return kind(settings, description["num_items"], description["max_length"])


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
