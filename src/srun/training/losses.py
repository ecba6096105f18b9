"""Training losses as free functions: one value per target, nothing reduced, no padding among the targets.

Shapes: T targets, D hidden, N negatives, V catalogue.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from srun.models.base import SequenceModel
from srun.models.products import product

CHUNK = {
    "cpu": 3 * 2**19,
    "other": 2**26,
}  # scores kept at a time: what fits a processor's cache; a quarter GiB elsewhere
FEW, MANY = 128, 256  # targets at a time on a CPU: fewer than so many become so many, see _chunk_size


def bce(model: SequenceModel, state: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """Binary cross-entropy (T,) of ``targets`` (T,) against ``negatives`` (T, N): [T] eq. 1, summed over the labels."""
    return gbce(model, state, targets, negatives, 1.0)


def gbce(model: SequenceModel, state: Tensor, targets: Tensor, negatives: Tensor, beta: float) -> Tensor:
    """Generalised binary cross-entropy (T,): bce with the likelihood sigmoid(score)**beta of ``targets`` (T,).

    Petrov and Macdonald, 2023 (gSASRec), but summed over the labels like bce, not averaged.
    """
    scores = model.item_scores(state, torch.cat([targets[:, None], negatives], 1))  # (T, 1+N)
    return beta * softplus(-scores[:, 0]) + softplus(scores[:, 1:]).sum(-1)


def gbce_beta(num_negatives: int, num_candidates: int, t: float) -> float:
    """The power of gbce, alpha * (t * (1 - 1/alpha) + 1/alpha), alpha the share of the other items that is drawn.

    ``t`` in [0, 1]: 0 gives 1 (bce), 1 gives alpha. More negatives than other items count as all of them.
    """
    alpha = min(num_negatives / max(num_candidates - 1, 1), 1.0)
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha)


def ce(model: SequenceModel, state: Tensor, targets: Tensor, catalogue: Tensor | None) -> Tensor:
    """Full softmax cross-entropy (T,) over the items 1..V, or over those of ``catalogue`` (V+1,) only.

    The catalogue is scored for some targets at a time, so that memory does not grow with T x V.
    """
    if catalogue is None:
        items: slice | Tensor = slice(1, model.num_items + 1)
        places = targets - 1
    else:
        items = catalogue[1:].nonzero()[:, 0] + 1
        places = torch.searchsorted(items, targets)
    table = model.output_table
    if not torch.is_grad_enabled():
        table = table.detach()  # a parameter asks for a gradient all the same
    return _catalogue_ce(state, table, places, items)


def sampled_ce(states: Tensor, table: Tensor, targets: Tensor, negatives: Tensor, num_items: int) -> Tensor:
    """Sampled softmax cross-entropy (T,) of ``targets`` (T,) against ``negatives`` (N,) shared by all, with log q.

    ``negatives`` are drawn evenly from ``num_items`` items; one that is the target of a row does not count there.
    ``table`` (rows, D): both count its rows. Bengio and Senecal, 2003; Jean et al., 2015, section 3.
    """
    log_q = math.log(num_items / max(len(negatives), 1))
    others = states @ table[negatives].T + log_q
    others = others.masked_fill(negatives[None] == targets[:, None], float("-inf"))
    own = (states * table[targets]).sum(1, keepdim=True)
    return -torch.cat([own, others], 1).log_softmax(1)[:, 0]


def catalogue_scores(model: SequenceModel, state: Tensor, catalogue: Tensor | None) -> Tensor:
    """Scores (T, V+1) with -inf for padding and for items outside ``catalogue``."""
    scores = model.scores(state)
    outside = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
    outside[0] = True
    if catalogue is not None:
        outside |= ~catalogue
    return scores.masked_fill(outside, float("-inf"))


class _CatalogueCE(torch.autograd.Function):
    """Cross-entropy (T,) of ``places`` (T,) among the rows ``items`` of ``table``, for states (T, D).

    The scores of a chunk of targets are gone when the next is scored, so gradients are taken on the way, for losses
    that all count the same: means and sums. If they turn out not to, the chunks are scored once more.
    """

    @staticmethod
    def forward(ctx: Any, state: Tensor, table: Tensor, places: Tensor, items: slice | Tensor) -> Tensor:
        kind = state.device.type
        ctx.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else table.dtype
        ctx.items = items
        ctx.save_for_backward(state, table, places)
        weight = torch.ones_like(places, dtype=table.dtype) if any(ctx.needs_input_grad) else None
        loss, ctx.by_state, ctx.by_rows = _ce_chunks(state, table[items], places, weight, ctx.dtype)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor, Tensor, None, None]:
        state, table, places = ctx.saved_tensors
        by_table = torch.zeros_like(table)
        if not len(places):
            return torch.zeros_like(state), by_table, None, None
        by_state, by_rows, factor = ctx.by_state, ctx.by_rows, weight[0]
        if not bool((weight == factor).all()):
            _, by_state, by_rows = _ce_chunks(state, table[ctx.items], places, weight, ctx.dtype)
            factor = torch.ones_like(factor)
        by_table[ctx.items] = by_rows * factor
        return (by_state * factor).to(state.dtype), by_table, None, None


_catalogue_ce: Callable[..., Tensor] = _CatalogueCE.apply


def _ce_chunks(
    state: Tensor, rows: Tensor, places: Tensor, weight: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses (T,) and, for their sum with ``weight`` (T,), the gradients by ``state`` (T, D) and ``rows`` (V, D).

    Products are taken in ``dtype``, everything else in that of ``rows``. Without ``weight`` the gradients are empty.
    """
    size = _chunk_size(len(rows), state.device.type)
    state, low_rows = state.to(rows.dtype), rows.to(dtype)
    losses, by_state = [state.new_zeros(0)], [state.new_zeros(0, state.shape[1])]
    by_rows = torch.zeros_like(rows[:0])
    for start in range(0, len(places), size):
        part, place = state[start : start + size], places[start : start + size, None]
        scores = product(part.to(dtype), low_rows).to(rows.dtype)  # (t, V)
        p = torch.softmax(scores, -1, out=scores)  # in their place: half the memory, so that a cache holds more
        losses.append(_surprise(p, part.to(dtype), low_rows, place))
        if weight is not None:
            share = weight[start : start + size, None]
            own, low_p = part * share, p.to(dtype)
            by_state.append((product(low_p, low_rows.T).to(rows.dtype) - rows[place[:, 0]]) * share)
            sums = product(own.T.to(dtype), low_p.T).to(rows.dtype)  # (D, V): a narrow product is the faster
            by_rows = by_rows.add_(sums) if start else sums
    if weight is None or not len(places):
        return torch.cat(losses), torch.cat(by_state), by_rows
    by_rows = by_rows.T.contiguous().index_add_(0, places, state * weight[:, None], alpha=-1)
    return torch.cat(losses), torch.cat(by_state), by_rows


def _chunk_size(num_items: int, kind: str) -> int:
    """Targets that are scored at a time on a device of this ``kind``.

    Each chunk adds its gradients of all items, (V, D), to those before. With a large catalogue few targets share that,
    and it takes a growing part of the time; so a chunk may then have four times the scores.
    """
    size = CHUNK.get(kind, CHUNK["other"]) // num_items
    if kind == "cpu" and size < FEW:
        size = min(4 * CHUNK["cpu"] // num_items, MANY)
    return max(size, 32)


def _surprise(p: Tensor, state: Tensor, rows: Tensor, place: Tensor) -> Tensor:
    """-log of the entries ``place`` (t, 1) of ``p`` (t, V), the softmax of ``state`` (t, D) times ``rows`` (V, D)."""
    own = p.gather(1, place)[:, 0]
    if bool((own > torch.finfo(p.dtype).tiny).all()):
        return own.log().neg_()
    # by way of the likeliest item, whose probability is never too small for a logarithm
    scores = product(state, rows).to(p.dtype)
    return scores.amax(1) - p.amax(1).log() - scores.gather(1, place)[:, 0]
