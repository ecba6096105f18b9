"""Matrix products of large float32 matrices, by the faster of the two libraries that torch brings.

Shapes: M, N rows, K columns. MKL, which torch asks, runs at half of what recent AMD processors can do: on one core of
Zen 5 95 GFLOP/s, oneDNN 200. A product of a new shape costs oneDNN about 0.5 ms more, so that small ones are MKL's and
the rows of a layer, of which almost every batch has another number, are filled up to one of few numbers.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor
from torch.autograd.function import once_differentiable

LARGE = 2**22  # multiplications, from which a product is worth it
LARGE_LAYER = 2**24  # the same of a layer: its rows are copied to fill them up
SIZES = 16  # numbers of rows between a power of two and the next to which rows are filled up


@cache
def onednn_pays() -> bool:
    """Whether this is an AMD processor with AVX-512: elsewhere MKL uses the whole width, or there is no oneDNN."""
    facts = Path("/proc/cpuinfo")
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and facts.exists()
        and "AuthenticAMD" in facts.read_text()
    )


def product(one: Tensor, other: Tensor) -> Tensor:
    """(M, N) products of the rows of ``one`` (M, K) with those of ``other`` (N, K); it has no gradient."""
    if _is_onednn(one, other, LARGE):
        return _onednn(one, other, None)
    return one @ other.T


class Linear(nn.Linear):
    """torch's linear layer, computed by ``linear``."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x`` (..., K) times ``weight`` (N, K) plus ``bias`` (N,): (..., N), with first gradients, not second ones."""
    if is_batchedtensor(x) or torch.is_autocast_enabled(x.device.type) or not _is_onednn(x, weight, LARGE_LAYER):
        return nn.functional.linear(x, weight, bias)
    return _linear(x.flatten(0, -2), weight, bias).view(*x.shape[:-1], len(weight))


class _Linear(torch.autograd.Function):
    """``rows`` (M, K) times ``weight`` (N, K) plus ``bias`` (N,), and both gradients, of rows that are filled up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        filled = _filled(rows)
        ctx.save_for_backward(filled, weight)
        return _onednn(filled, weight, bias)[: len(rows)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        by_rows, by_weight, by_bias = ctx.needs_input_grad
        filled = _filled(gradient)
        return (
            _onednn(filled, weight.T, None)[: len(gradient)] if by_rows else None,
            _outer(filled, rows) if by_weight else None,
            gradient.sum(0) if by_bias else None,
        )


_linear: Callable[..., Tensor] = _Linear.apply


def _is_onednn(x: Tensor, other: Tensor, large: int) -> bool:
    """Whether oneDNN takes the products of the rows of ``x`` (..., K) with those of ``other`` (N, K)."""
    size = x.numel() * other.shape[0]
    return size >= large and x.is_cpu and x.dtype == other.dtype == torch.float32 and onednn_pays()


def _onednn(one: Tensor, other: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(one, other, bias, "none", [], "")
    return out


def _outer(one: Tensor, other: Tensor) -> Tensor:
    """(N, K): columns of ``one`` (M, N) times those of ``other`` (M, K); oneDNN wants the narrower first."""
    if one.shape[1] <= other.shape[1]:
        return _onednn(one.T, other.T, None)
    return _onednn(other.T, one.T, None).T


def _filled(rows: Tensor) -> Tensor:
    """``rows`` (M, K) and as many rows of zeros as lead to the next of ``SIZES`` numbers."""
    step = max((1 << (len(rows) - 1).bit_length()) // 2 // SIZES, 1)
    size = -(-len(rows) // step) * step
    if size == len(rows):
        return rows.contiguous()
    filled = rows.new_empty(size, rows.shape[1])
    filled[: len(rows)] = rows
    filled[len(rows) :] = 0
    return filled
