"""Adam that leaves alone the rows of a table that a step did not look up.

Shapes: V rows of a table, R rows with a gradient, D width.
"""

import math
from typing import Any

import torch
from torch import Tensor


class LazyAdam(torch.optim.Adam):
    """Adam (Kingma and Ba, 2015) that updates a table with a sparse gradient row by row; all else as torch does.

    A row without a gradient in a step keeps its weights and moments: they neither decay nor move on. Each row counts
    its own steps for the correction of the bias, so one seen in every step goes as under Adam, and a rare one as if
    the steps without it had not been. State of a table: ``exp_avg`` and ``exp_avg_sq`` (V, D), ``step`` (V,).
    """

    def step(self, closure: Any = None) -> Any:
        """One update; sparse gradients are gone after it."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None and table.grad.is_sparse:
                    self._step_rows(table, group)
                    table.grad = None
        return super().step(closure)

    @torch.no_grad()
    def _step_rows(self, table: Tensor, group: dict[str, Any]) -> None:
        assert table.grad is not None
        sparse = table.grad.coalesce()
        rows, gradient = sparse.indices()[0], sparse.values()  # (R,), (R, D)
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros(len(table), device=table.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        first, second = group["betas"]
        count = state["step"][rows] + 1
        mean = state["exp_avg"][rows].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"][rows].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        for name, value in (("step", count), ("exp_avg", mean), ("exp_avg_sq", square)):
            state[name][rows] = value
        root = (square / _weight(second, count)).sqrt_().add_(group["eps"])
        table.index_add_(0, rows, mean / _weight(first, count) / root, alpha=-group["lr"])


def _weight(beta: float, count: Tensor) -> Tensor:
    """(R, 1) sums of the weights in a mean that decays, 1 - beta ** count (R,), without float32's cancellation."""
    return -torch.expm1(count * math.log(beta))[:, None]
