"""Edits of a category beyond its neurons: directions taken out of the states, and items made untrained again.

Shapes: V catalogue, D hidden, K directions, Q queries. Everything is recorded as plain values and can be undone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from srun.errors import CheckpointError, ConfigError
from srun.models.base import SequenceModel
from srun.rng import stream
from srun.unlearning.attribution import neurons
from srun.unlearning.attribution.neurons import Edit, describe_edits, read_edits


@dataclass(frozen=True)
class Erasure:
    """What is done to a model, in this order: neurons scaled, items reset, directions projected out one by one."""

    edits: tuple[Edit, ...] = ()
    items: tuple[int, ...] = ()
    """Their embeddings are drawn again, as those of a model that never saw them."""
    seed: int = 0
    """Of that draw."""
    directions: tuple[tuple[float, ...], ...] = ()  # (K, D)

    def describe(self) -> dict[str, Any]:
        """As plain values, for model.json."""
        directions = [list(direction) for direction in self.directions]
        return {
            "edits": describe_edits(self.edits),
            "erasure": {"items": list(self.items), "seed": self.seed, "directions": directions},
        }

    @classmethod
    def read(cls, info: dict[str, Any]) -> "Erasure":
        """What ``describe`` wrote into a published model's info; nothing for a model without."""
        more = info.get("erasure", {"items": [], "seed": 0, "directions": []})
        directions = tuple(tuple(direction) for direction in more["directions"])
        return cls(tuple(read_edits(info)), tuple(more["items"]), int(more["seed"]), directions)


def apply(model: SequenceModel, erasure: Erasure) -> dict[str, Tensor]:
    """Carry out an erasure in place; returns the weights as they were. Raises ConfigError for what cannot be done."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    neurons.apply(model, erasure.edits)
    reset_items(model, erasure.items, erasure.seed)
    for direction in erasure.directions:
        project_out(model, torch.tensor(direction))
    return before


@contextmanager
def erased(model: SequenceModel, erasure: Erasure) -> Iterator[SequenceModel]:
    """The model with an erasure, as it was again afterwards, errors or not."""
    before = apply(model, erasure)
    try:
        yield model
    finally:
        model.load_state_dict(before)


def restore(model: SequenceModel, original: SequenceModel, erasure: Erasure) -> None:
    """Undo the erasure of a published model, in place, with the weights of the Original it was made from.

    Raises CheckpointError when ``original`` with the erasure is not ``model``: after a fine-tune there is no undoing
    but to take Original itself.
    """
    with erased(original, erasure):
        mine, theirs = model.state_dict(), original.state_dict()
        if mine.keys() != theirs.keys() or not all(torch.equal(mine[name], theirs[name]) for name in mine):
            raise CheckpointError("this erasure of that Original does not give this model, so it cannot be undone")
    model.load_state_dict(original.state_dict())


@torch.no_grad()
def reset_items(model: SequenceModel, items: Sequence[int], seed: int) -> None:
    """Draw the embeddings of ``items`` anew, input and output alike, as ``SequenceModel.initialise`` does.

    What the model knows of an item by itself is then gone. Raises ConfigError for an item outside 1..V.
    """
    if not items:
        return
    if min(items) < 1 or max(items) > model.num_items:
        raise ConfigError(f"no item {max(items, key=abs)}: items are 1..{model.num_items}")
    rows = torch.tensor(items)
    for name, table in (("input", model.embedding), ("output", model.output)):
        if table is None:
            continue
        num_rows, hidden = table.weight.shape
        fresh = torch.empty(len(rows), hidden)
        nn.init.normal_(fresh, std=(2.0 / (num_rows + hidden)) ** 0.5, generator=stream(seed, f"reset-{name}"))
        table.weight[rows.to(table.weight.device)] = fresh.to(table.weight)


@torch.no_grad()
def project_out(model: SequenceModel, direction: Tensor) -> None:
    """Project ``direction`` (D,), of any length but 0, out of everything that ``state_writers`` add to a state."""
    length = direction.norm()
    if not length > 0:
        raise ConfigError("a direction of length 0 cannot be projected out")
    for module in model.state_writers:
        unit = (direction / length).to(module.weight)
        if isinstance(module, nn.Embedding):
            module.weight.sub_((module.weight @ unit)[:, None] * unit)
            continue
        module.weight.sub_(unit[:, None] * (unit @ module.weight))
        if module.bias is not None:
            module.bias.sub_(unit * (unit @ module.bias))


def mean_difference(states: Tensor, inside: Tensor) -> Tensor:
    """Unit vector (D,) from the mean of states (Q, D) outside to the mean of those ``inside`` (Q,).

    Once it is projected out, the means are the same and no linear function of the states tells the two apart better
    than a constant, in the sample (Belrose et al., 2023, theorem 3.1). 0 when the means agree already; NaN when there
    are no states of one kind.
    """
    difference: Tensor = states[inside].mean(0) - states[~inside].mean(0)
    length = difference.norm().clamp_min(torch.finfo(states.dtype).tiny)
    return difference.div(length)
