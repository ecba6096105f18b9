"""Retained windows, at whose last position the cost of moving a row is measured.

Shapes: R windows, n maximum length, D hidden, E events.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from srun.data.dataset import Dataset, Mask, training_windows
from srun.models.base import SequenceModel
from srun.models.products import product
from srun.unlearning.closed_form.standing import last_states
from srun.unlearning.prepared import Known


def draw_windows(data: Dataset, events: Mask, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``count`` windows (R, n+1) of training ``events`` (E,), or all if they are fewer, and their last events (R,).

    Every event has a number by chance, and windows are taken by that of their last: so windows that two requests share
    are drawn by both.
    """
    windows = training_windows(data, events)
    device = generator.device
    chance = torch.rand(data.num_events, generator=generator, device=device)
    event = torch.from_numpy(windows.event).to(device)
    drawn = chance[event].argsort(stable=True)[:count]
    return torch.from_numpy(windows.items.astype("int64")).to(device)[drawn], event[drawn]


@torch.no_grad()
def look_at(model: SequenceModel, items: Tensor) -> Tensor:
    """(R, D + 1) states that predict the last of ``items`` (R, n+1), and their normalisers."""
    states, table = last_states(model, items), model.output_weight[1:].detach()
    normalisers = [product(part, table).logsumexp(1) for part in states.split(256)]
    return torch.cat([states, torch.cat([states.new_zeros(0), *normalisers])[:, None]], 1)


def filled(items: Tensor, event: Tensor, known: Known | None, ask: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Values (Q, ...) of rows ``items`` (Q, n+1) that end with ``event`` (Q,), and which (Q,) ``ask`` had to give.

    The others are ``known``.
    """
    if known is None:
        return ask(items), torch.ones(len(items), dtype=torch.bool, device=items.device)
    values, found = known.find(event, items)
    if not bool(found.all()):
        values[~found] = ask(items[~found])
    return values, ~found
