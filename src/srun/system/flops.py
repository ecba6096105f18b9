"""Floating-point operations: counted for what happens inside ``counting_flops``, which every stopwatch then reads.

Counted are products of matrices, convolutions and the solves of small systems, a multiplication and an addition each as
two. Sums, softmax and whatever runs outside torch are not seen. Counting makes small operations several times as slow,
so that nothing is timed while it goes on.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Shape = Sequence[int]
_counter: ContextVar[FlopCounterMode | None] = ContextVar("flop counter", default=None)


@contextmanager
def counting_flops() -> Iterator[FlopCounterMode]:
    """Count the operations of this thread; the counter's ``get_total_flops`` has all of them."""
    with FlopCounterMode(display=False, custom_mapping=_formulas()) as counter:
        token = _counter.set(counter)
        try:
            yield counter
        finally:
            _counter.reset(token)


def flops_so_far() -> int:
    """Operations since ``counting_flops`` began; 0 outside of it."""
    counter = _counter.get()
    return 0 if counter is None else counter.get_total_flops()


def _formulas() -> dict[Any, Callable[..., int]]:
    """What torch's counter does not know of its own operations: those that ``models.products`` and the solves use."""
    formulas: dict[Any, Callable[..., int]] = {
        torch.ops.aten.linalg_cholesky_ex: _cholesky,
        torch.ops.aten.cholesky_solve: _cholesky_solve,
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # a build without oneDNN has no such products
        formulas[torch.ops.mkldnn._linear_pointwise] = _onednn_product
    return formulas


def _onednn_product(one: Shape, other: Shape, *_: Any, **__: Any) -> int:
    """Of (..., K) with (N, K)."""
    return 2 * prod(one) * other[0]


def _cholesky(matrices: Shape, *_: Any, **__: Any) -> int:
    """Of (..., D, D)."""
    return prod(matrices[:-2]) * matrices[-1] ** 3 // 3


def _cholesky_solve(right: Shape, *_: Any, **__: Any) -> int:
    """Of (..., D, M), by one triangle and then the other."""
    return 2 * prod(right) * right[-2]
