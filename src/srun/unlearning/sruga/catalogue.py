"""Losses of SRUGA over the whole catalogue, some rows at a time, with gradients taken on the way.

Shapes: T targets, V catalogue, D hidden. As plain operations these take most of SRUGA's time: each passes over scores
(T, V) a dozen times that no processor's cache holds.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from srun.models.base import SequenceModel
from srun.models.products import product
from srun.training.losses import CHUNK

TEMPERATURE = 0.3
"""Of the soft rank: lower is nearer to the rank, and leaves fewer items with a gradient."""


class Scratch:
    """Memory that one run's steps hand on: the slopes of one step are gone when the next begins.

    So large, it would come from the system page by page each time, which took a sixth of a step.
    """

    def __init__(self) -> None:
        self._free: Tensor | None = None

    def take(self, rows: int, table: Tensor) -> Tensor:
        """(at least ``rows``, V), not filled, for ``table`` (V, D); nobody else has it until it is put back."""
        memory, self._free = self._free, None
        if memory is None or len(memory) < rows or memory.shape[1:] != table.shape[:1]:
            return table.new_empty(rows, len(table))
        same_kind = memory.dtype == table.dtype and memory.device == table.device
        return memory if same_kind else table.new_empty(rows, len(table))

    def put_back(self, memory: Tensor) -> None:
        """Keep what ``take`` gave for the next step."""
        self._free = memory


def rank_logit(table: Tensor, state: Tensor, targets: Tensor, scratch: Scratch) -> Tensor:
    """(T,) = log((V - r) / r), where r is the soft rank 1/2 + sum over the table of sigmoid((s_v - s_target) / t).

    ``table`` (V, D) is what states (T, D) are compared with; row i - 1 is that of item i.
    Where a target (1..V) stands among all items, in a scale that is as wide for the best as for the worst. Its gradient
    reaches the item and those that compete with it; log p also moves with scores that no rank depends on.
    ``scratch``: the memory of the run that asks.
    """
    if not torch.is_grad_enabled():
        table = table.detach()  # a parameter asks for a gradient all the same
    better = _better(state, table, targets - 1, scratch)
    return (len(table) - better).log() - better.log()


def kl(model: SequenceModel, state: Tensor, original: SequenceModel, original_state: Tensor) -> Tensor:
    """L_KL (), the mean over T of sum over the catalogue of p_A * log(p_A / p) ([T] eq. 6).

    p is of ``model`` for ``state`` (T, D), p_A of ``original`` for ``original_state`` (T, D), which get no gradient.
    """
    tables = model.output_weight[1:], original.output_weight[1:].detach()
    return _kl(state, tables[0], original_state.detach(), tables[1])


class _Better(torch.autograd.Function):
    """Soft ranks (T,) of the rows ``places`` (T,) of ``table`` (V, D), for states (T, D)."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, table: Tensor, places: Tensor, scratch: Scratch) -> Tensor:
        better = state.new_empty(len(state))
        ctx.scratch = scratch
        ctx.memory = scratch.take(len(state), table) if any(ctx.needs_input_grad) else None
        slopes = None if ctx.memory is None else ctx.memory[: len(state)]
        for part in _parts(state, table):
            place = places[part, None]
            scores = product(state[part], table)
            above = scores.sub_(scores.gather(1, place)).div_(TEMPERATURE).sigmoid_()  # 1/2 for the target itself
            better[part] = above.sum(-1)
            if slopes is not None:
                slope = torch.addcmul(above, above, above, value=-1, out=slopes[part]).div_(TEMPERATURE)
                slope.scatter_(1, place, 0.0)
                slope.scatter_(1, place, -slope.sum(-1, keepdim=True))
        ctx.save_for_backward(state, table, *(() if slopes is None else (slopes,)))
        return better

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        state, table, slopes = ctx.saved_tensors
        by_state, by_table = ctx.needs_input_grad[:2]
        state_gradient = product(slopes, table.T) * weight[:, None] if by_state else None
        table_gradient = product((state * weight[:, None]).T, slopes.T).T if by_table else None
        ctx.scratch.put_back(ctx.memory)
        return state_gradient, table_gradient, None, None


_better: Callable[..., Tensor] = _Better.apply


class _KL(torch.autograd.Function):
    """Mean KL () of the softmaxes of two pairs of states (T, D) and table (V, D); only the first pair has gradients."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, table: Tensor, original_state: Tensor, original_table: Tensor) -> Tensor:
        wants_state, wants_table = ctx.needs_input_grad[:2]
        total = state.new_zeros(())
        by_state = torch.zeros_like(state) if wants_state else None
        by_table = table.new_zeros(table.shape[::-1]) if wants_table else None
        for part in _parts(state, table):
            scores, frozen = product(state[part], table), product(original_state[part], original_table)
            size, frozen_size = scores.logsumexp(-1, keepdim=True), frozen.logsumexp(-1, keepdim=True)
            scores.sub_(size)
            frozen.sub_(frozen_size)  # both are log p now
            p_original = frozen.exp()
            total += torch.linalg.vecdot(p_original, frozen.sub_(scores)).sum()
            change = scores.exp_().sub_(p_original)  # of the sum by the scores
            if by_state is not None:
                by_state[part] = product(change, table.T)
            if by_table is not None:
                by_table += product(state[part].T, change.T)  # (D, V): a narrow product is the faster
        ctx.by_state, ctx.by_table, ctx.number = by_state, by_table, max(len(state), 1)
        mean: Tensor = total / ctx.number
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        factor = weight / ctx.number
        return (
            None if ctx.by_state is None else ctx.by_state * factor,
            None if ctx.by_table is None else ctx.by_table.T * factor,
            None,
            None,
        )


_kl: Callable[..., Tensor] = _KL.apply


def _parts(state: Tensor, table: Tensor) -> Iterator[slice]:
    """Slices of the rows of ``state`` (T, D) of which the scores, twice, fit where they are computed fast."""
    size = max(CHUNK.get(state.device.type, CHUNK["other"]) // 2 // max(len(table), 1), 32)
    yield from (slice(start, start + size) for start in range(0, len(state), size))
