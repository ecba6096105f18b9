"""Integrated gradients of feed-forward neurons at the position that predicts ([A] eq. 4 and 5): numerics only.

Shapes: Q sequences, B batch, L length, D hidden, U neurons of a layer, V catalogue, S steps, M variants of a layer's
neurons (points of a path), R = B * M rows. w is the value of a neuron, P the softmax probability of the true next item
over the catalogue, layers are counted from 0 at the bottom.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from srun.errors import RunError
from srun.models.base import FeedForwardBlock, SequenceModel, attention_block
from srun.models.products import product

Rule = Literal["left", "right", "midpoint", "gauss_legendre"]
Path = Literal["joint", "single"]
Function = Callable[[Tensor], Tensor]
"""Variants (B, M, U) -> values (B, M), where a value depends on its own variant only."""

FLOATS = 2**22  # of the largest tensor, which bounds the memory: a few times 16 MiB
MAX_VARIANTS = 64  # at once, of one sequence: attention between variants is masked, but not free


def quadrature(rule: Rule, steps: int) -> tuple[Tensor, Tensor]:
    """Nodes (S,) in [0, 1] and weights (S,), which sum to 1, in double precision.

    ``left``, ``right`` and ``midpoint`` are Riemann sums, exact for polynomials of degree 0, 0 and 1; S points of
    ``gauss_legendre`` are exact to degree 2S - 1. Raises ValueError for fewer steps than one.
    """
    if steps < 1:
        raise ValueError(f"steps {steps}: an integral needs one at least")
    if rule == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    shift = {"left": 0.0, "right": 1.0, "midpoint": 0.5}[rule]
    return (torch.arange(steps, dtype=torch.float64) + shift) / steps, torch.full(
        (steps,), 1 / steps, dtype=torch.float64
    )


def joint_path(function: Function, values: Tensor, rule: Rule, steps: int) -> tuple[Tensor, Tensor]:
    """Attributions (B, U) of ``values`` (B, U), all scaled together from 0, and the completeness residual (B,).

    The residual is the sum of the attributions - (P(w) - P(0)): the error of the quadrature, summed over the units.
    """
    nodes, weights = (part.to(values) for part in quadrature(rule, steps))
    total = torch.zeros_like(values)
    for part in torch.arange(steps, device=values.device).split(MAX_VARIANTS):
        points = nodes[part, None] * values[:, None]  # (B, M, U)
        total += (weights[part, None] * _gradient(function, points)).sum(1)
    attributions = values * total
    with torch.no_grad():
        ends = function(torch.stack([values, torch.zeros_like(values)], 1))
    return attributions, attributions.sum(1) - (ends[:, 0] - ends[:, 1])


def single_path(function: Function, values: Tensor, rule: Rule, steps: int) -> tuple[Tensor, Tensor]:
    """Attributions (B, U) of ``values`` (B, U), each scaled from 0 while the others keep their values ([A] eq. 5).

    The sum over the units need not be P(w) - P(0). What does hold is completeness by unit: the attribution of a unit
    is P(w) - P(w without it). The residual (B,) is the largest departure from that, which a forward pass by unit tells.
    """
    nodes, weights = (part.to(values) for part in quadrature(rule, steps))
    num_units = values.shape[1]
    total, without = torch.zeros_like(values), torch.empty_like(values)
    for pair in torch.arange(num_units * steps, device=values.device).split(MAX_VARIANTS):
        unit, step = pair // steps, pair % steps
        points = _one_unit(values, unit, nodes[step])
        gradient = _gradient(function, points)[:, torch.arange(len(pair), device=values.device), unit]  # (B, M)
        total.index_add_(1, unit, weights[step] * gradient)
    attributions = values * total
    with torch.no_grad():
        whole = function(values[:, None])
        for unit in torch.arange(num_units, device=values.device).split(MAX_VARIANTS):
            without[:, unit] = function(_one_unit(values, unit, torch.zeros_like(unit, dtype=values.dtype)))
    return attributions, (attributions - (whole - without)).abs().amax(1)


PATHS = {"joint": joint_path, "single": single_path}


def _one_unit(values: Tensor, unit: Tensor, factor: Tensor) -> Tensor:
    """Variants (B, M, U): in variant m the unit ``unit[m]`` is multiplied by ``factor[m]``."""
    points = values[:, None].repeat(1, len(unit), 1)
    points[:, torch.arange(len(unit), device=unit.device), unit] *= factor
    return points


def _gradient(function: Function, points: Tensor) -> Tensor:
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        [gradient] = torch.autograd.grad(function(points).sum(), points)
    return gradient


class TargetProbability(torch.autograd.Function):
    """P (R,) of ``targets`` (R,) for states (R, D): softmax over the items 1..V.

    The gradient is taken on the way, P * (E[target] - sum of p * E), so that no tensor of R x V is kept for it.
    """

    @staticmethod
    def forward(ctx: Any, state: Tensor, model: SequenceModel, targets: Tensor) -> Tensor:
        scores = model.scores(state)  # (R, V+1)
        scores[:, 0] = float("-inf")
        scores -= scores.amax(1, keepdim=True)
        scores.exp_()
        total = scores.sum(1)
        probability = scores.gather(1, targets[:, None])[:, 0] / total
        if ctx.needs_input_grad[0]:
            weight = model.output_weight
            mean = product(scores, weight.T) / total[:, None]
            ctx.save_for_backward(probability[:, None] * (weight[targets] - mean))
        return probability

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        [direction] = ctx.saved_tensors
        return gradients[0][:, None] * direction, None, None


target_probability: Callable[..., Tensor] = TargetProbability.apply


class Above:
    """The network above the neurons of a layer, for a batch of inputs: what lies below is computed once and kept.

    Only the position that predicts varies. In a causal model nothing else sees it; in another, blocks between the layer
    and the last are computed whole for every variant, and of the last block only the position that predicts.
    """

    def __init__(self, model: SequenceModel, inputs: Tensor, targets: Tensor) -> None:
        self.model, self.inputs, self.targets = model, inputs, targets
        self.blocks = require_neurons(model)
        with torch.no_grad(), _recorded(self.blocks) as calls:
            model.hidden(inputs)
            self.states = [x for x, *_ in calls]  # what enters each block, (B, L, D)
            self.attended = [
                block.attend(x[:, -1:], x, blocked[..., -1:, :])
                for block, (x, blocked, *_) in zip(self.blocks, calls, strict=True)
            ]
            self.neurons = [
                block.neurons(attended)[:, 0] for block, attended in zip(self.blocks, self.attended, strict=True)
            ]  # (B, U) by layer

    def probability(self, layer: int) -> Function:
        """P (B, M) as a function of the neurons (B, M, U) of a layer."""

        def function(neurons: Tensor) -> Tensor:
            x = self.blocks[layer].output(self.attended[layer], neurons)  # (B, M, D)
            if self.model.causal or layer >= len(self.blocks) - 2:
                for above in range(layer + 1, len(self.blocks)):
                    x = self._variants(above, x)
            else:
                x = self._whole(layer + 1, x)
            state = self.model.final(x).flatten(0, 1)  # (R, D)
            targets = self.targets.repeat_interleave(neurons.shape[1])
            return target_probability(state, self.model, targets).view(neurons.shape[:2])

        return function

    def _variants(self, layer: int, x: Tensor) -> Tensor:
        """One block for variants (B, M, D) of the last position: they see the other positions, and of each other none.

        They stand side by side as further positions, so that keys and values of the others serve all of them.
        """
        number = x.shape[1]
        memory = torch.cat([self.states[layer][:, :-1], x], 1)
        inputs = torch.cat([self.inputs[:, :-1], self.inputs[:, -1:].expand(-1, number)], 1)
        apart = torch.full((number, number), float("-inf"), device=x.device).fill_diagonal_(0)
        apart = torch.cat([apart.new_zeros(number, memory.shape[1] - number), apart], 1)
        block = self.blocks[layer]
        attended = block.attend(x, memory, attention_block(inputs, causal=False)[..., -number:, :] + apart)
        return block.output(attended, block.neurons(attended))

    def _whole(self, layer: int, x: Tensor) -> Tensor:
        """All blocks from ``layer`` on, for variants (B, M, D), with every position of every variant."""
        batch, number, hidden = x.shape
        others = self.states[layer][:, None, :-1].expand(-1, number, -1, -1)
        full = torch.cat([others, x[:, :, None]], 2).flatten(0, 1)  # (R, L, D)
        blocked = attention_block(self.inputs.repeat_interleave(number, 0), causal=False)
        for block in self.blocks[layer:-1]:
            full = block(full, blocked)
        top = self.blocks[-1]
        attended = top.attend(full[:, -1:], full, blocked[..., -1:, :])
        return top.output(attended, top.neurons(attended)).view(batch, number, hidden)


def require_neurons(model: SequenceModel) -> list[FeedForwardBlock]:
    """The blocks with neurons, lowest first; raises RunError for a recommender without."""
    blocks = list(model.neuron_blocks)
    if not blocks:
        raise RunError(
            f"{type(model).__name__} has no feed-forward neurons, so there is nothing to attribute; "
            "start from a SASRec or BERT4Rec Original"
        )
    return blocks


@contextmanager
def _recorded(blocks: list[FeedForwardBlock]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """What the blocks are called with, in order."""
    calls: list[tuple[Tensor, Tensor]] = []
    hooks = [block.register_forward_pre_hook(lambda _, inputs: calls.append(inputs)) for block in blocks]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def neuron_values(model: SequenceModel, histories: Tensor, batch_size: int = 512) -> Tensor:
    """Activations (Q, layers, U) at the position that predicts after ``histories`` (Q, n), on the CPU."""
    parts = []
    for part in histories.split(batch_size):
        inputs = model.prediction_inputs(part)
        above = Above(model, inputs, torch.zeros(len(part), dtype=torch.long, device=part.device))
        parts.append(torch.stack(above.neurons, 1).cpu())
    return torch.cat(parts)


@dataclass(frozen=True)
class Attributions:
    """Attributions of all neurons for Q sequences, on the CPU."""

    values: Tensor  # (Q, layers, U)
    residual: Tensor  # (Q, layers) see ``joint_path`` and ``single_path``
    probability: Tensor  # (Q,) P as the model gives it
    positions: int  # real input positions of the sequences, for the cost

    def select(self, rows: Tensor) -> "Attributions":
        """Those of the sequences ``rows``; the positions stay those of all."""
        return Attributions(self.values[rows], self.residual[rows], self.probability[rows], self.positions)


def attribute(
    model: SequenceModel, histories: Tensor, targets: Tensor, path: Path, rule: Rule, steps: int
) -> Attributions:
    """Attribute P of ``targets`` (Q,) after ``histories`` (Q, n), padded at the front, to the neurons of every layer.

    The model must be in eval mode. Sequences of like length go together, without their padding. An approximation by
    ``steps`` points; the residual says how good.
    """
    assert not model.training, "dropout would make every step another network"
    blocks = require_neurons(model)
    inputs = model.prediction_inputs(histories)
    length = (inputs != 0).sum(1)
    shape = (len(inputs), len(blocks))
    kind = model.output_weight.dtype
    values = torch.zeros(*shape, blocks[0].outer.in_features, dtype=kind)
    residual, probability = torch.zeros(shape, dtype=kind), torch.zeros(len(inputs), dtype=kind)
    for rows in length.argsort(stable=True).split(_batch_size(model, inputs.shape[1], path, steps)):
        above = Above(model, inputs[rows, inputs.shape[1] - int(length[rows].max()) :], targets[rows])
        place = rows.cpu()
        for layer, neurons in enumerate(above.neurons):
            function = above.probability(layer)
            attributions, error = PATHS[path](function, neurons, rule, steps)
            values[place, layer], residual[place, layer] = attributions.cpu(), error.cpu()
        with torch.no_grad():
            probability[place] = function(neurons[:, None])[:, 0].cpu()
    return Attributions(values, residual, probability, int(length.sum()))


def _batch_size(model: SequenceModel, length: int, path: Path, steps: int) -> int:
    """Sequences at once, so that no tensor is much larger than FLOATS."""
    blocks = model.neuron_blocks
    widest = max(model.num_items + 1, blocks[0].outer.in_features)
    if not model.causal and len(blocks) > 2:  # see ``Above._whole``
        widest = max(widest, length * blocks[0].outer.in_features)
    variants = min(steps if path == "joint" else MAX_VARIANTS, MAX_VARIANTS)
    return max(1, FLOATS // (widest * variants))
