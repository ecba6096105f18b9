"""Rows of forgotten items, solved for the scores that put their events at their levels.

Row i moves by (strength A_i + sum_f h_f h_f^T)^-1 sum_f d_f h_f over its forgotten events f, with states h_f and
d_f the score that is wanted less the one it has. A_i = E[(p_i (1 - p_i))^1/2 h h^T], of unit size, + ridge E[h h^T] +
damping, over retained states h: what moving the row costs in KL to what the model says now, in second order, tempered.
Shapes: F forgotten events, R retained states, M rows that move, D hidden, V catalogue.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from srun.config import config
from srun.models.base import SequenceModel
from srun.models.products import product
from srun.unlearning.closed_form.retained import look_at
from srun.unlearning.closed_form.standing import last_states, sampled_items, score_at, standing

BLOCK = 2**24  # numbers of A at a time
FEW = 32  # rows, up to which A takes less time row by row


@config
class RowsConfig:
    """How far the rows of forgotten items may go to reach the level."""

    strength: Annotated[float, Field(gt=0)]
    """What it costs to move a row, beside missing the level: larger keeps more of what the row says of others."""
    ridge: Annotated[float, Field(ge=0)]
    """Weight of all retained states in that cost, beside those where the item was likely."""
    damping: Annotated[float, Field(gt=0)]
    """Weight of the plain length of the move; more where the rows are inputs too."""
    rounds: Annotated[int, Field(ge=1)]
    """Times that states and ranks are measured and the rows solved; the first aims at each event's own level, the
    others at all levels together."""
    retained_states: Annotated[int, Field(ge=1)]
    """Retained windows, drawn once, at whose last position the cost is measured."""


@torch.no_grad()
def move_rows(
    model: SequenceModel,
    items: Tensor,
    wanted: Tensor,
    retained: Tensor,
    settings: RowsConfig,
    generator: torch.Generator,
    at_hand: Tensor | None = None,
) -> None:
    """Move the rows of the forgotten items in the table that states are compared with, in place.

    ``items`` (F, n+1) and ``wanted`` (F,) as in ``Level``; ``retained`` (R, n+1) windows, of which
    ``at_hand`` is what ``look_at`` says, or None to ask it. The first round aims at each
    event's level. As moving costs, the events then stand between where they stood and there; the further rounds aim at
    the same levels in the order that the events now have, so that all of them together stand as they should. Of a tied
    model the rows are inputs too, so that states are computed anew in each round.
    """
    table = model.output_weight[1:].detach()  # a view: (V, D)
    seen = look_at(model, retained) if at_hand is None else at_hand
    states, likely = seen[:, :-1].contiguous(), seen[:, -1]
    moving, place = items[:, -1].unique(return_inverse=True)
    cost = _shared_cost(states, settings)
    sample = sampled_items(len(table), generator)
    forgotten = last_states(model, items)
    parts = torch.arange(len(moving), device=moving.device).split(max(BLOCK // table.shape[1] ** 2, 1))
    costs = [_own_cost(states, table, moving[rows] - 1, likely) + cost for rows in parts]  # (M, D, D) each
    for number in range(settings.rounds):
        if number:
            forgotten = last_states(model, items) if model.output is None else forgotten
            wanted = in_order(standing(forgotten, table, items[:, -1])[0], wanted)
        change = score_at(forgotten, table, wanted, sample) - (forgotten * table[items[:, -1] - 1]).sum(1)
        for rows, metric in zip(parts, costs, strict=True):
            events = ((place >= rows[0]) & (place <= rows[-1])).nonzero()[:, 0]
            index, h = place[events] - rows[0], forgotten[events]
            normal = (settings.strength * metric).index_add_(0, index, h[:, :, None] * h[:, None, :])
            pull = torch.zeros_like(normal[:, 0]).index_add_(0, index, h * change[events, None])
            move = torch.cholesky_solve(pull[:, :, None], torch.linalg.cholesky(normal))[:, :, 0]
            model.output_table.data[moving[rows]] += move


def in_order(z: Tensor, wanted: Tensor) -> Tensor:
    """(F,) the same values as ``wanted`` (F,), in the order of ``z`` (F,)."""
    found = torch.empty_like(wanted)
    found[z.argsort(stable=True)] = wanted.sort().values
    return found


def rows_look(model: SequenceModel, items: Tensor, retained: Tensor, settings: RowsConfig) -> tuple[int, int]:
    """Real input positions that ``move_rows`` passes forward, and states for which it scores the whole catalogue."""
    of_items, of_retained = (int((part[:, :-1] != 0).sum()) for part in (items, retained))
    passes = settings.rounds if model.output is None else 1
    return of_retained + passes * of_items, len(retained) + settings.rounds * len(items)


def _shared_cost(states: Tensor, settings: RowsConfig) -> Tensor:
    """(D, D) the part of A that all rows share, over its size: ridge E[h h^T] and the damping, times the size."""
    second = states.T @ states / len(states)
    size = second.diagonal().mean()
    eye = torch.eye(len(second), device=second.device)
    # a model whose states are all 0 has nothing to move: the damping alone keeps A invertible
    return settings.ridge * second + settings.damping * size.clamp(min=1e-12) * eye


def _own_cost(states: Tensor, table: Tensor, rows: Tensor, normalisers: Tensor) -> Tensor:
    """(M, D, D) E[(p_i (1 - p_i))^1/2 h h^T] of each row, as large on its diagonal as E[h h^T]."""
    p = (product(table[rows], states) - normalisers).exp_().clamp_(max=1)  # (M, R)
    weights = (p * (1 - p)).sqrt_()
    if len(rows) <= FEW:
        cost = torch.stack([(states * weight[:, None]).T @ states for weight in weights])
    else:
        cost = _weighted_squares(states, weights)
    size = cost.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
    return cost * ((states**2).mean() / size)[:, None, None]


def _weighted_squares(states: Tensor, weights: Tensor) -> Tensor:
    """(M, D, D) sums of h h^T over ``states`` (R, D), each row by its ``weights`` (M, R): half of it, then mirrored."""
    width = states.shape[1]
    low, high = torch.tril_indices(width, width, device=states.device)
    half = states.new_zeros(len(weights), len(low))
    for part, weight in zip(states.split(256), weights.split(256, 1), strict=True):
        half += product(weight.contiguous(), (part[:, low] * part[:, high]).T.contiguous())
    full = states.new_zeros(len(weights), width, width)
    full[:, low, high] = half
    full[:, high, low] = half
    return full
