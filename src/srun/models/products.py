"""Large products of float32 matrices, by the faster of the two libraries that torch brings.

Shapes: M, N rows, K columns. MKL, which torch asks, runs at half of what recent AMD processors can do: on one core of
Zen 5 95 GFLOP/s, oneDNN 200. A product of a new shape costs oneDNN about 0.5 ms more, so that small ones are MKL's.
"""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

LARGE = 2**22  # multiplications, from which a product is worth it


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
    large = one.shape[0] * one.shape[1] * other.shape[0] >= LARGE
    if large and one.is_cpu and one.dtype == other.dtype == torch.float32 and onednn_pays():
        found: Tensor = torch.ops.mkldnn._linear_pointwise(one, other, None, "none", [], "")
        return found
    return one @ other.T
