"""A table fitted to the states of a model on retained data: what its states say, whatever its own rows say.

Shapes: T positions with a target, D hidden, V catalogue.
"""

import torch
from torch import Tensor

from srun.data.dataset import training_windows
from srun.models.base import SequenceModel
from srun.models.scorer import clone_model, untied_copy
from srun.requests.partition import Partition
from srun.rng import stream

RIDGE = 0.01  # share of the mean squared state
BATCH = 1024
SOME = 512  # states by which scores are made as wide as the model's own


def scored_by(model: SequenceModel, table: Tensor) -> SequenceModel:
    """A copy, without dropout, of which the states are compared with ``table`` (V, D); the input table stays."""
    copy = untied_copy(model) if model.output is None else clone_model(model)
    copy.output_table.data[1 : model.num_items + 1] = table
    return copy.eval()


@torch.no_grad()
def retained_states(model: SequenceModel, request: Partition, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """States (T, D) and targets (T,) at all positions of retained windows that the model's own training predicts."""
    windows = torch.from_numpy(training_windows(request.data, request.retain).items.astype("int64")).to(device)
    generator = stream(seed, "recovery", device)
    states, predicted = [], []
    length = (windows != 0).sum(1)
    for rows in length.argsort(stable=True).split(BATCH):  # alike in length: so little is padded
        inputs, targets = model.training_pairs(windows[rows, -max(int(length[rows].max()), 2) :], generator)
        states.append(model.hidden(inputs)[targets != 0])
        predicted.append(targets[targets != 0])
    return torch.cat(states), torch.cat(predicted)


def ridge_table(states: Tensor, targets: Tensor, num_items: int) -> Tensor:
    """(V, D) W = (H'H + .01 mean diag I)^-1 H'Y, row i over n_i^.5; float64 inside.

    Y has a one where the target of a position is the item, and n_i is how often it is one.
    """
    state = states.double()
    gram = state.T @ state
    size = gram.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    sums = torch.zeros(num_items + 1, state.shape[1], dtype=torch.float64, device=states.device)
    sums = sums.index_add_(0, targets, state)[1:]
    ridge = RIDGE * size * torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    table: Tensor = torch.linalg.solve(gram + ridge, sums.T)
    count = torch.bincount(targets, minlength=num_items + 1)[1:].clamp(min=1)
    return (table.T / count[:, None].sqrt()).float()


@torch.no_grad()
def fitted_table(model: SequenceModel, request: Partition, seed: int, device: torch.device) -> tuple[Tensor, int]:
    """(V, D) the ridge table of ``model``, its scores as wide as the model's own, and the positions passed forward."""
    states, targets = retained_states(model, request, seed, device)
    table = ridge_table(states, targets, model.num_items)
    drawn = states[torch.linspace(0, len(states) - 1, min(len(states), SOME), device=states.device).long()]
    own, fitted = ((drawn @ rows.T).std(1).mean() for rows in (model.output_weight[1 : model.num_items + 1], table))
    return table * (own / fitted.clamp(min=torch.finfo(fitted.dtype).tiny)), len(states)
