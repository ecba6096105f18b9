"""Several models of one shape trained as one: the shards of SISA, or seeds of one recipe.

Weights are stacked and the states of all models computed at once by vmap; everything else is that of a model alone: its
batches, negatives, dropout masks and targets come from its own streams, its losses and its steps of Adam from its own
weights, which are views of the stack. So each becomes what it would have become alone, up to the rounding of floats.
A model ends an epoch when its own windows are through and stops by its own validation; the others go on without it.

Shapes: K models, B batch, L length, D hidden. Batches are padded to the largest of the K: rows at the end, positions at
the front.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from srun.data.batches import TrainingData
from srun.models.base import Attention, Dropout, SequenceModel
from srun.models.scorer import clone_model, new_model
from srun.rng import Streams
from srun.system import distributed
from srun.system.meter import Elapsed, stopwatch
from srun.training.fit import Fit, Run, TrainConfig, Watch, make_optimiser, target_loss, train_new


@dataclass(frozen=True)
class Job:
    """A model to be made and trained: what ``train_new`` is given."""

    description: dict[str, Any]
    data: Callable[[], TrainingData]
    """Makes the windows when their turn comes, so that not all jobs' windows need be there at a time."""
    seed: int
    watch: Watch


def train_all(jobs: Sequence[Job], recipe: TrainConfig, together: bool) -> list[tuple[SequenceModel, Fit]]:
    """Train the models of jobs of one description, in their order; ``together`` as one, else one after the other.

    Always one after the other: recurrent models, for whose layer there is no vmap, models that several processes
    share, and under lazy_adam, whose gradients are sparse.
    """
    if (
        together
        and len(jobs) > 1
        and distributed.size() == 1
        and not (recipe.lazy_adam or _is_recurrent(jobs[0].description))
    ):
        return _train_together(jobs, recipe)
    return [train_new(job.description, job.data(), recipe, job.seed, job.watch) for job in jobs]


def _is_recurrent(description: dict[str, Any]) -> bool:
    return any(isinstance(module, nn.RNNBase) for module in new_model(description).modules())


def _train_together(jobs: Sequence[Job], recipe: TrainConfig) -> list[tuple[SequenceModel, Fit]]:
    members = [_Member(job, recipe) for job in jobs]
    active = [member for member in members if not member.run.ended(recipe)]
    while active:
        stack = _Stack([member.model for member in active])
        while not any(member.run.ended(recipe) for member in active):
            _step(active, stack, recipe)
        stack.dissolve()
        active = [member for member in active if not member.run.ended(recipe)]
    return [(member.model, member.run.finish(member.watch)) for member in members]


@dataclass(frozen=True)
class _Batch:
    inputs: Tensor  # (B, L)
    targets: Tensor  # (B, L)
    users: Tensor  # (B,)


class _Member:
    """A model on its way: its windows, streams and optimiser, and what the loop keeps of it."""

    def __init__(self, job: Job, recipe: TrainConfig) -> None:
        self.data, self.watch, self.recipe = job.data(), job.watch, recipe
        self.streams = Streams(job.seed, self.data.device)
        self.model = new_model(job.description)
        self.model.initialise(Streams(job.seed)["weights"])
        self.model.to(self.data.device)
        self.model.use_generator(self.streams["dropout"])
        self.optimiser = make_optimiser(self.model, recipe)
        self.run = Run(self.model, self.optimiser, self.streams, job.watch.resume)
        self.run.restore()
        self.batches: list[Tensor] = []  # left of the epoch, the next one last

    def draw(self) -> _Batch:
        """The next batch, of a new epoch if the last one is over."""
        if not self.batches:
            self.run.begin_epoch(self.data.device)
            epoch = self.data.epoch(self.recipe.batch_size, self.streams["batches"], self.recipe.group_by_length)
            self.batches = list(epoch)[::-1]
        windows, users = self.data.batch(self.batches.pop())
        return _Batch(*self.model.training_pairs(windows, self.streams["cloze"]), users)

    def close_step(self, loss: Tensor, batch: _Batch, elapsed: Elapsed, share: float) -> None:
        """Count a step, which took a ``share`` of the time that passed, and end the epoch if it was its last."""
        self.run.count(loss.detach(), batch.inputs)
        self.run.meter.charge(elapsed, share)
        if not self.batches:
            self.run.end_epoch(self.recipe, self.watch)


def _step(active: list[_Member], stack: "_Stack", recipe: TrainConfig) -> None:
    """A step of the optimisers of all models, each on its own batch."""
    with stopwatch() as elapsed:
        batches = [member.draw() for member in active]
        with torch.autocast(active[0].data.device.type, torch.bfloat16, recipe.precision == "bf16"):
            losses = [
                target_loss(head, hidden, batch.targets, batch.users, member.data, recipe, member.streams)
                for member, batch, head, hidden in zip(
                    active, batches, stack.heads(), stack.hidden([batch.inputs for batch in batches]), strict=True
                )
            ]
        torch.stack([loss.mean() for loss in losses]).sum().backward()
        stack.hand_out_gradients()
        for member in active:
            member.optimiser.step()
    for member, loss, batch in zip(active, losses, batches, strict=True):
        member.close_step(loss, batch, elapsed, 1 / len(active))


class _Stack:
    """The weights of K models as one tensor for each name, of which the models' own are views."""

    def __init__(self, models: list[SequenceModel]) -> None:
        self.models = models
        self.weights: dict[str, Tensor] = {}
        for name, _ in models[0].named_parameters():
            stacked = torch.stack([model.get_parameter(name).detach() for model in models])
            for model, view in zip(models, stacked, strict=True):
                model.get_parameter(name).data = view
            self.weights[name] = stacked.requires_grad_()
        self.template = clone_model(models[0]).train()
        self.shapes: list[tuple[int, int]] = []  # (rows, length) of the model's own inputs
        for name, module in list(self.template.named_modules()):
            if isinstance(module, Dropout):
                parent, _, last = name.rpartition(".")
                setattr(self.template.get_submodule(parent), last, _StackedDropout(self, name))

    def hidden(self, inputs: list[Tensor]) -> list[Tensor]:
        """States (B, L, D) of every model for its own ``inputs`` (B, L)."""
        self.shapes = [(len(own), own.shape[1]) for own in inputs]
        rows, length = (max(sizes) for sizes in zip(*self.shapes, strict=True))
        padded = inputs[0].new_zeros(len(inputs), rows, length)
        for place, own in zip(padded, inputs, strict=True):
            place[: len(own), length - own.shape[1] :] = own
        states = vmap(self._states)(self.weights, padded)  # (K, B, L, D)
        return [
            state[:rows, states.shape[2] - length :]
            for state, (rows, length) in zip(states.unbind(0), self.shapes, strict=True)
        ]

    def _states(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        named = {f"model.{name}": weight for name, weight in weights.items()}
        states: Tensor = functional_call(_Hidden(self.template), named, (inputs,))
        return states

    def heads(self) -> list[Any]:
        """What losses need of every model: it stands in for a SequenceModel there."""
        name = "embedding.weight" if self.template.output is None else "output.weight"
        return [
            _Head(self.template.num_items, self.template.embedding, table) for table in self.weights[name].unbind(0)
        ]

    def hand_out_gradients(self) -> None:
        """Give every model its own; those of padding are zero, which vmap leaves out."""
        for name, stacked in self.weights.items():
            gradient, stacked.grad = stacked.grad, None
            if gradient is None:
                continue
            module = self.template.get_submodule(name.rpartition(".")[0])
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                gradient[:, module.padding_idx] = 0
            for model, own in zip(self.models, gradient, strict=True):
                model.get_parameter(name).grad = own

    def dissolve(self) -> None:
        """Give every model weights of its own again."""
        for model in self.models:
            for parameter in model.parameters():
                parameter.data, parameter.grad = parameter.data.clone(), None


class _Hidden(nn.Module):
    """A model whose call is ``hidden``."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model.hidden(inputs)


@dataclass(frozen=True)
class _Head:
    num_items: int
    embedding: nn.Embedding
    output_table: Tensor
    item_scores = SequenceModel.item_scores


class _StackedDropout(nn.Module):
    """Dropout within vmap: every model draws a mask of the shape, and from the generator, that it would have alone."""

    def __init__(self, stack: _Stack, name: str) -> None:
        super().__init__()
        parent = name.rpartition(".")[0]
        self.pairs = isinstance(stack.template.get_submodule(parent), Attention)  # inputs (B H, L, L), else (B, L, D)
        layers = [model.get_submodule(name) for model in stack.models]
        self.layers = [layer for layer in layers if isinstance(layer, Dropout)]
        self.shapes: Callable[[], list[tuple[int, int]]] = lambda: stack.shapes

    def forward(self, x: Tensor) -> Tensor:
        if self.layers[0].threshold == 0:
            return x
        return _masked(x, self)

    def stacked(self, x: Tensor) -> Tensor:
        """Drop out of ``x`` (K, B H, L, L) or (K, B, L, D); what was padded passes."""
        shapes = self.shapes()
        mask = torch.ones(x.shape, device=x.device)
        heads = x.shape[1] // max(rows for rows, _ in shapes)
        for layer, place, (rows, length) in zip(self.layers, mask, shapes, strict=True):
            own = place[: rows * heads, x.shape[2] - length :]
            own = own[..., x.shape[3] - length :] if self.pairs else own
            own.copy_(layer.mask(own.shape, x.device))
        return (x * mask).to(x.dtype)


class _Masked(torch.autograd.Function):
    """Lets ``_StackedDropout`` see the models that vmap hides; autograd goes through what it does there."""

    @staticmethod
    def forward(x: Tensor, layer: _StackedDropout) -> Tensor:
        raise AssertionError("called within vmap only")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, layer: _StackedDropout) -> tuple[Tensor, int]:
        return layer.stacked(x.movedim(in_dims[0], 0)), 0


_masked: Callable[..., Tensor] = _Masked.apply
