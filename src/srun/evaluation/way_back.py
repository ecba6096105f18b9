"""How far a model is from Original, and what stands between them (2505.22310): weights that never left say nothing new.

Shapes: B batch, L length, T targets.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from srun.data.dataset import training_windows
from srun.models.base import SequenceModel
from srun.models.scorer import clone_model, untied_copy
from srun.requests.partition import Partition
from srun.rng import numpy_stream, stream
from srun.training.losses import ce

MAX_WINDOWS = 2048
"""Retained windows, drawn, on which the loss is taken."""
STEPS = 10
"""Equal steps of the straight line; the loss is taken between them."""
BATCH = 512


def alike(models: Sequence[SequenceModel]) -> list[SequenceModel]:
    """The models with equally many tables: where one has an output table, copies of the others that have one too."""
    if all(model.output is None for model in models):
        return list(models)
    return [untied_copy(model) if model.output is None else model for model in models]


def distance(model: SequenceModel, original: SequenceModel) -> float:
    """L2 distance of all weights of two models that are ``alike``."""
    other = original.state_dict()
    squares = [((value - other[name]).double() ** 2).sum() for name, value in model.state_dict().items()]
    return float(torch.stack(squares).sum().sqrt())


@torch.no_grad()
def retained_loss(model: SequenceModel, windows: Tensor, seed: int) -> float:
    """Mean softmax loss in nats over what the model's own training predicts of windows (B, n+1), without dropout."""
    model.eval()
    generator = stream(seed, "barrier", windows.device)
    total, number = 0.0, 0
    for part in windows.split(BATCH):
        inputs, targets = model.training_pairs(part, generator)
        states = model.hidden(inputs)[targets != 0]  # (T, D)
        total += float(ce(model, states, targets[targets != 0], None).double().sum())
        number += len(states)
    return total / number


def retained_windows(request: Partition, seed: int, device: torch.device) -> Tensor:
    """(B, n+1) retained windows, all or as many as are looked at, drawn."""
    items = training_windows(request.data, request.retain).items
    rows = np.sort(numpy_stream(seed, "barrier").permutation(len(items))[:MAX_WINDOWS])
    return torch.from_numpy(items[rows].astype(np.int64)).to(device)


def barrier(model: SequenceModel, original: SequenceModel, windows: Tensor, seed: int) -> float:
    """Largest rise of the loss, in nats, above the straight line between the losses of two models that are ``alike``.

    Along weights (1 - a) Original + a model, at a = 0, .1, ..., 1: at least 0. Models in one basin have none.
    """
    ends, between = (original.state_dict(), model.state_dict()), clone_model(model)
    losses = []
    for share in np.linspace(0, 1, STEPS + 1).tolist():
        between.load_state_dict({name: torch.lerp(value, ends[1][name], share) for name, value in ends[0].items()})
        losses.append(retained_loss(between, windows, seed))
    line = np.linspace(losses[0], losses[-1], STEPS + 1)
    return float(np.max(np.array(losses) - line))
