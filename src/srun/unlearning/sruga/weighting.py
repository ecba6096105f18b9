"""How the terms of a step become one gradient: hand-set weights, learned ones, or gradient surgery.

Shapes: K terms, P parameters. w_i are the hand-set (and annealed) weights, L_i the mean losses, g_i = w_i grad L_i.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor, nn

from srun.rng import Streams
from srun.training.checkpoint import load_optimiser, optimiser_tensors, pack, unpack

Kind = Literal["fixed", "uncertainty", "pcgrad", "mgda"]
Terms = dict[str, tuple[float, Tensor]]
"""Name -> (weight, mean loss) of the active terms."""
NAMES = ("ascent", "kl", "finetune")


class Weighting:
    """``fixed``: the gradient of sum_i w_i L_i ([T] eq. 8)."""

    separate = False
    """Whether each term has a backward pass of its own."""

    def backward(self, terms: Terms, parameters: Sequence[nn.Parameter]) -> None:
        """Leave the gradient of a step in the parameters; those that no term depends on keep None."""
        losses = [weight * loss for weight, loss in terms.values()]
        torch.stack(losses).sum().backward()

    def figures(self) -> dict[str, float]:
        """What it has learned, for the curves."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """What must survive a kill."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what ``tensors`` returned."""


class Uncertainty(Weighting):
    """Kendall, Gal and Cipolla (2018), eq. 10: sum_i w_i exp(-s_i) L_i + s_i / 2 with learned s_i = log sigma_i^2.

    s starts at 0, where it is ``fixed``, and has an Adam of its own, since SRUGA's steps are too few and small for it.
    It draws w_i L_i exp(-s_i) towards 1/2 for every term. Losses must not be negative: the weight of one that has no
    lower bound, such as L_GA, would grow without end.
    """

    def __init__(self, rate: float, device: torch.device) -> None:
        self.log_variance = torch.zeros(len(NAMES), device=device, requires_grad=True)
        self.optimiser = torch.optim.Adam([self.log_variance], lr=rate)

    def backward(self, terms: Terms, parameters: Sequence[nn.Parameter]) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        losses = []
        for name, (weight, loss) in terms.items():
            s = self.log_variance[NAMES.index(name)]
            losses.append(weight * torch.exp(-s) * loss + s / 2)
        torch.stack(losses).sum().backward()
        self.optimiser.step()

    def figures(self) -> dict[str, float]:
        return {f"unlearn/{name}_factor": float(f) for name, f in zip(NAMES, self._factors(), strict=True)}

    def _factors(self) -> list[float]:
        return torch.exp(-self.log_variance.detach()).tolist()

    def tensors(self) -> dict[str, Tensor]:
        state = {"log_variance": self.log_variance.detach().clone()}
        return state | pack("optimiser", optimiser_tensors(self.optimiser))

    def restore(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self.log_variance.copy_(tensors["log_variance"])
        load_optimiser(self.optimiser, unpack("optimiser", tensors))


class PCGrad(Weighting):
    """Yu et al. (2020), Algorithm 1: what conflicts with another term is taken out of a term's gradient."""

    separate = True

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def backward(self, terms: Terms, parameters: Sequence[nn.Parameter]) -> None:
        gradients = _gradients(terms, parameters)
        device = self.generator.device
        orders = [torch.randperm(len(gradients), generator=self.generator, device=device).tolist() for _ in gradients]
        _put(pcgrad(gradients, orders), parameters)


class MGDA(Weighting):
    """Sener and Koltun (2018), eq. 3: the shortest convex combination of the terms' gradients."""

    separate = True

    def backward(self, terms: Terms, parameters: Sequence[nn.Parameter]) -> None:
        gradients = _gradients(terms, parameters)
        shares = min_norm(gradients @ gradients.T).to(gradients)
        _put(shares @ gradients, parameters)


def pcgrad(gradients: Tensor, orders: Iterable[Sequence[int]]) -> Tensor:
    """Sum (P,) of the gradients (K, P), each projected: g_i <- g_i - (g_i . g_j) / |g_j|^2 g_j where g_i . g_j < 0.

    The g_j are the original gradients, taken in the i-th of ``orders``; without conflicts it is the plain sum.
    """
    total = torch.zeros_like(gradients[0])
    for row, order in enumerate(orders):
        own = gradients[row].clone()
        for other in order:
            conflict = own @ gradients[other] if other != row else own.new_zeros(())
            if conflict < 0:
                own -= conflict / (gradients[other] @ gradients[other]) * gradients[other]
        total += own
    return total


def min_norm(gram: Tensor) -> Tensor:
    """Shares (K,) >= 0 that sum to 1 and make |sum_i a_i g_i|^2 = a' G a least; ``gram`` (K, K) is G = g g'.

    Exact, where Sener and Koltun iterate (Frank-Wolfe): of every set of terms the stationary point, if its shares are
    not negative; the shortest of these is the minimum. There are 2^K - 1 sets, and K is at most 3. Float64 inside.
    """
    gram = gram.detach().double().cpu()
    size = len(gram)
    scale = gram.diagonal().max().clamp_min(torch.finfo(torch.float64).tiny)
    best, best_value = torch.eye(size, dtype=torch.float64)[0], torch.inf
    for count in range(1, size + 1):
        for rows in map(list, combinations(range(size), count)):
            # G a = lambda 1, 1' a = 1; least squares, for gradients that depend on each other
            system = torch.ones(count + 1, count + 1, dtype=torch.float64)
            system[:count, :count], system[-1, -1] = gram[rows][:, rows] / scale, 0.0
            right = torch.tensor([0.0] * count + [1.0], dtype=torch.float64)
            shares = torch.linalg.lstsq(system, right, driver="gelsd").solution[:-1]
            if (shares >= -1e-9).all() and abs(float(shares.sum()) - 1) < 1e-6:
                full = torch.zeros(size, dtype=torch.float64)
                full[rows] = shares.clamp_min(0)
                value = float(full @ gram @ full)
                if value < best_value:
                    best, best_value = full / full.sum(), value
    return best


def make_weighting(kind: Kind, rate: float, streams: Streams) -> Weighting:
    """The weighting that the settings name."""
    if kind == "uncertainty":
        return Uncertainty(rate, streams.device)
    if kind == "pcgrad":
        return PCGrad(streams["pcgrad"])
    return MGDA() if kind == "mgda" else Weighting()


def _gradients(terms: Terms, parameters: Sequence[nn.Parameter]) -> Tensor:
    """(K, P) the gradients of the weighted terms; 0 where a term does not depend on a parameter."""
    rows = []
    for weight, loss in terms.values():
        gradients = torch.autograd.grad(weight * loss, parameters, retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


def _put(gradient: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, part in zip(parameters, gradient.split(sizes), strict=True):
        parameter.grad = part.view_as(parameter).clone()
