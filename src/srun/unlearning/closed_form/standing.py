"""Where events stand under a model, and the scores at which they would stand elsewhere; most of it without gradients.

Shapes: N events, n maximum length, D hidden, V catalogue, S sampled items. An event is a row (n+1) of items: its
history, padded at the front, and last the item that is asked for.
"""

import torch
from torch import Tensor

from srun.data.sequences import Queries
from srun.models.base import SequenceModel
from srun.models.products import product

ROWS = {"cpu": 64, "other": 2048}
"""Rows of scores at a time: on a CPU few, so that they stay in its cache."""
STATES = 1024  # events passed forward at a time
TOP = 64  # ranks for which the score is looked up exactly
SAMPLE = 1024  # items that stand for the catalogue beyond


def questions(queries: Queries, max_length: int) -> Tensor:
    """(N, n+1) histories, and last the item that is asked for."""
    histories = torch.from_numpy(queries.histories(max_length).astype("int64"))
    return torch.cat([histories, torch.from_numpy(queries.target.astype("int64"))[:, None]], 1)


def states_by_length(model: SequenceModel, items: Tensor, size: int) -> Tensor:
    """(N, D) the states that predict the last of ``items`` (N, n+1), ``size`` alike in length at a time.

    So little is padded. Gradients pass.
    """
    lengths = (items[:, :-1] != 0).sum(1)
    states = model.output_weight.new_zeros(len(items), model.settings.hidden)
    for part in lengths.argsort(stable=True).split(size):
        width = max(int(lengths[part].max()), 1)
        states[part] = model.last_state(model.prediction_inputs(items[part, :-1][:, -width:]))
    return states


@torch.no_grad()
def last_states(model: SequenceModel, items: Tensor) -> Tensor:
    """(N, D) the same without gradients."""
    return states_by_length(model, items, STATES)


@torch.no_grad()
def standing(states: Tensor, table: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) z_rank among all items (see ``metrics.memory``) and (N,) score of ``targets`` (N,), items 1..V.

    ``states`` (N, D), ``table`` (V, D) without padding. Ties count half. The items of the history stay candidates.
    """
    num_items, size = len(table), ROWS.get(states.device.type, ROWS["other"])
    above, own = states.new_empty(len(states)), states.new_empty(len(states))
    memory = states.new_empty(min(size, max(len(states), 1)), num_items)
    for start in range(0, len(states), size):
        part = slice(start, start + size)
        scores = product(states[part], table)
        score = scores.gather(1, targets[part, None] - 1)
        found = memory[: len(scores)]
        higher = torch.gt(scores, score, out=found).sum(1)
        above[part] = (higher + torch.ge(scores, score, out=found).sum(1) - 1) / 2
        own[part] = score[:, 0]
    return ((num_items - above - 0.5) / (above + 0.5)).log(), own


@torch.no_grad()
def score_at(states: Tensor, table: Tensor, z: Tensor, sample: Tensor) -> Tensor:
    """(N,) the score at which an item would have z_rank ``z`` (N,) after ``states`` (N, D).

    Exact among the first ``TOP``; beyond, by the order of the items ``sample`` (S,), rows of ``table`` (V, D).
    """
    num_items = len(table)
    above = num_items / (1 + z.double().exp()) - 0.5  # items that stand above it
    above = above.clamp(0, num_items - 1).to(states)
    top, found = min(TOP, num_items), torch.empty_like(above)
    exact = above < top - 1
    for part in (~exact).nonzero()[:, 0].split(512):
        ordered = product(states[part], table[sample]).sort(1, descending=True).values
        place = (above[part] / num_items * len(sample) - 0.5).clamp(0, len(sample) - 1.001)
        low, share = place.long()[:, None], place - place.floor()
        found[part] = ordered.gather(1, low)[:, 0] * (1 - share) + ordered.gather(1, low + 1)[:, 0] * share
    for part in exact.nonzero()[:, 0].split(128):
        best = product(states[part], table).topk(top, 1).values
        place = above[part].round().long()[:, None]
        found[part] = (best.gather(1, place) + best.gather(1, (place - 1).clamp(min=0)))[:, 0] / 2
    return found


def sampled_items(num_items: int, generator: torch.Generator) -> Tensor:
    """(S,) items, counted from 0, that stand for the catalogue in ``score_at``; all of a small one."""
    return torch.randperm(num_items, generator=generator, device=generator.device)[:SAMPLE]
