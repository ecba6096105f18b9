"""What must hold of a published folder before its model is used; every fault is one line with file and field.

Shapes: V catalogue, M masked pairs, S models, D hidden, U users.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from srun.config import flatten
from srun.errors import CheckpointError
from srun.models.base import SequenceModel

MEND = "make it again (`srun train`, `srun unlearn`) or restore a whole copy"
STRICT = ConfigDict(strict=True, extra="forbid")


class ModelEntry(BaseModel):
    """Name, settings and sizes of a model; its own class checks the settings."""

    model_config = STRICT
    name: str
    settings: dict[str, Any]
    num_items: Annotated[int, Field(ge=1)]
    max_length: Annotated[int, Field(ge=1)]


class AggregationEntry(BaseModel):
    """How the scores of several models become one."""

    model_config = STRICT
    kind: Literal["probabilities", "similarity"]
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class EditEntry(BaseModel):
    """An edited neuron."""

    model_config = STRICT
    layer: int
    unit: int
    scale: float


class ErasureEntry(BaseModel):
    """Items drawn anew and directions projected out."""

    model_config = STRICT
    items: list[int]
    seed: int
    directions: list[list[float]]


class Info(BaseModel):
    """model.json of any published model; what else a method says of itself stands beside it."""

    model_config = ConfigDict(strict=True, extra="allow")
    models: Annotated[list[ModelEntry], Field(min_length=1)]
    version: str
    aggregation: AggregationEntry | None = None
    edits: list[EditEntry] = []
    erasure: ErasureEntry = ErasureEntry(items=[], seed=0, directions=[])


class StageInfo(Info):
    """What both stages that publish write."""

    fingerprint: str
    prepare: dict[str, Any]
    train: dict[str, Any]
    cost: dict[str, float]
    threads: int | None
    device: str


class TrainInfo(StageInfo):
    """model.json of an Original."""

    seed: int
    shards: Annotated[int, Field(ge=1)]
    sharding: dict[str, Any] | None = None
    best_epoch: list[int]


class UnlearnInfo(StageInfo):
    """model.json of a request carried out."""

    cell: dict[str, Any]
    settings: dict[str, Any]
    unlearning_seed: int
    request: dict[str, Any]
    original_sha256: str


STAGES: dict[str | None, type[Info]] = {None: Info, "train": TrainInfo, "unlearn": UnlearnInfo}


def check_info(file: Path, info: Mapping[str, Any], stage: str | None) -> None:
    """Check the fields of model.json, those of its stage too; ``stage`` is the one that must have written it, if any.

    Raises CheckpointError naming the field.
    """
    own = info.get("stage")
    if (own is not None and not isinstance(own, str)) or own not in STAGES or (stage is not None and own != stage):
        expected = stage or ", ".join(name for name in STAGES if name)
        raise CheckpointError(f"{file}: stage: expected {expected}, found {_shown(own)}; {MEND}")
    try:
        STAGES[own].model_validate(info)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where, message = ".".join(map(str, fault["loc"])), fault["msg"]
        shown = "" if fault["type"] == "missing" else f", found {_shown(fault['input'])}"
        raise CheckpointError(f"{file}: {_cut(where)}: {message[0].lower()}{message[1:]}{shown}; {MEND}") from error


def check_same_scorer(file: Path, info: Mapping[str, Any], written: str | None) -> None:
    """Check that model.json describes the scorer that the weights were ``written`` for; CheckpointError if not."""
    own = {key: info[key] for key in ("models", "aggregation") if info.get(key) is not None}
    if json.dumps(own, sort_keys=True) == written:
        return
    try:
        theirs = json.loads(written or "")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: the weights beside it do not say what they are of; {MEND}") from error
    ours, others = _flat(own), _flat(theirs)
    keys = [key for key in {**others, **ours} if key not in ours or key not in others]
    keys += [key for key in ours if key in others and json.dumps(ours[key]) != json.dumps(others[key])]
    key = keys[0] if keys else "models"
    ours_shown = f"{_shown(ours[key])}" if key in ours else "nothing"
    wanted = f"{_shown(others[key])}" if key in others else "nothing"
    raise CheckpointError(f"{file}: {_cut(key)}: {ours_shown}, but the weights are of a model with {wanted}; {MEND}")


def check_weights(file: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], prefix: str = "") -> None:
    """Check that ``tensors`` are just those that a model has, of their shapes and types, and finite.

    Raises CheckpointError naming the tensor.
    """
    for name in sorted(expected.keys() ^ tensors.keys()):
        problem = "missing" if name in expected else "unexpected"
        raise CheckpointError(f"{file}: tensor {_cut(prefix + name)} is {problem}; {MEND}")
    for name, tensor in tensors.items():
        check_tensor(file, prefix + name, tensor, tuple(expected[name].shape), expected[name].dtype)


def check_tensor(file: Path, name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Check shape, type and that every value is a number; CheckpointError naming the tensor if not."""
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        actual, wanted = _kind(tuple(tensor.shape), tensor.dtype), _kind(shape, dtype)
        raise CheckpointError(f"{file}: tensor {_cut(name)}: expected {wanted}, found {actual}; {MEND}")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise CheckpointError(f"{file}: tensor {_cut(name)} holds NaN or infinite values; {MEND}")


def check_rules(
    file: Path, rules: Mapping[str, Tensor], models: Sequence[SequenceModel], aggregation: Mapping[str, Any] | None
) -> None:
    """Check ``catalogue``, ``masked`` and ``centroids`` against the models; CheckpointError naming what is wrong."""
    num_items = models[0].num_items
    for index, model in enumerate(models[1:], 1):
        if (model.num_items, model.max_length) != (num_items, models[0].max_length):
            raise CheckpointError(f"{file}: model {index} has other items or another length than model 0; {MEND}")
    if "catalogue" in rules:
        check_tensor(file, "catalogue", rules["catalogue"], (num_items + 1,), torch.bool)
    if "masked" in rules:
        masked = rules["masked"]
        check_tensor(file, "masked", masked, (len(masked) if masked.dim() else 0, 2), torch.int64)
        user, item = masked[:, 0], masked[:, 1]
        if bool(((user < -1) | (item < 1) | (item > num_items)).any()):
            raise CheckpointError(
                f"{file}: tensor masked: expected users from -1 and items from 1 to {num_items}; {MEND}"
            )
    wanted = aggregation is not None and aggregation["kind"] == "similarity"
    if wanted != ("centroids" in rules):
        raise CheckpointError(f"{file}: tensor centroids is {'missing' if wanted else 'unexpected'}; {MEND}")
    if wanted:
        table = models[0].embedding.weight
        check_tensor(file, "centroids", rules["centroids"], (len(models), table.shape[1]), table.dtype)


def check_parts(file: Path, parts: Mapping[str, Tensor], models: Sequence[SequenceModel], num_users: int) -> None:
    """Check what an Original keeps for later requests: shard and slice of each user, and states before slices.

    Raises CheckpointError naming the tensor.
    """
    if not parts:
        return
    for name in ("shard_of_user", "slice_of_user"):
        if name not in parts:
            raise CheckpointError(f"{file}: tensor {name} is missing; {MEND}")
        check_tensor(file, name, parts[name], (num_users,), torch.int64)
    shards, slices = parts["shard_of_user"], parts["slice_of_user"]
    if sorted(set(shards.tolist())) != list(range(len(models))):
        raise CheckpointError(f"{file}: tensor shard_of_user: expected every one of {len(models)} shards; {MEND}")
    if int(slices.min()) < 0:
        raise CheckpointError(f"{file}: tensor slice_of_user: expected numbers from 0; {MEND}")
    expected = {
        f"state/{shard}/{before}/{name}": tensor
        for shard, model in enumerate(models)
        for before in range(1, int(slices.max()) + 1)
        for name, tensor in model.state_dict().items()
    }
    states = {name: tensor for name, tensor in parts.items() if name not in ("shard_of_user", "slice_of_user")}
    check_weights(file, states, expected)


def _flat(scorer: Any) -> dict[str, Any]:
    """Dotted keys of a scorer's description."""
    if not isinstance(scorer, dict) or not isinstance(scorer.get("models"), list):
        return {}
    models = {str(index): model for index, model in enumerate(scorer["models"])}
    return flatten({**scorer, "models": models})


def _kind(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"


def _shown(value: Any) -> str:
    return _cut(ascii(value))


def _cut(text: str, length: int = 60) -> str:
    plain = ascii(text)[1:-1] if not text.isascii() or not text.isprintable() else text
    return plain if len(plain) <= length else f"{plain[:length]}..."
