"""The one training loop: Adam, validation at an interval, early stop, resume ([T] 3.3.2).

Shapes: B batch, L length, T targets.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from srun.config import config
from srun.data.batches import TrainingData
from srun.errors import DataError, RunError
from srun.models.base import SequenceModel
from srun.models.scorer import new_model
from srun.rng import Streams
from srun.system import distributed
from srun.system.meter import Cost, Meter
from srun.training import losses
from srun.training.checkpoint import ResumeFolder, copy_weights, load_optimiser, optimiser_tensors, pack, unpack
from srun.training.lazy_adam import LazyAdam

OnEpoch = Callable[[dict[str, float], int, int], None]
"""Is told of every epoch: its figures, its number and the cap."""
WHOLE = slice(None)
STOP_METRIC = "validation/ndcg_10"


@config
class TrainConfig:
    """The recipe that Original, Retrain and SISA share."""

    loss: Literal["bce", "ce", "gbce"]
    num_negatives: Annotated[int, Field(ge=1)]
    """Negatives of a target; used by bce and gbce."""
    gbce_t: Annotated[float, Field(ge=0, le=1)]
    """How much of the negative sampling gbce corrects for: 0 is bce, 1 all of it; used by gbce."""
    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)]
    group_by_length: bool
    """Make batches of windows of about the same length, so that little padding is computed."""
    lazy_adam: bool
    """Update only those rows of the item tables that have a gradient in a step (``LazyAdam``); of bce and gbce."""
    precision: Literal["float32", "bf16"]
    """``bf16``: products and states in bfloat16, weights and sums in float32."""
    max_epochs: Annotated[int, Field(ge=1)]
    evaluate_every: Annotated[int, Field(ge=1)]
    """Epochs between two validations; a checkpoint is written at each."""
    patience: Annotated[int, Field(ge=1)]
    """Stop when the best validation NDCG@10 is this many epochs old."""

    def __post_init__(self) -> None:
        if self.patience < self.evaluate_every:
            raise ValueError(f"patience {self.patience} is less than evaluate_every {self.evaluate_every}")
        if self.lazy_adam and self.loss == "ce":
            raise ValueError("lazy_adam needs loss bce or gbce: under ce every item has a gradient in every step")


@dataclass
class Fit:
    """The outcome of training: the model holds its best weights."""

    best_epoch: int
    cost: Cost
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Watch:
    """What a loop is given to look at its model, to tell of itself and to go on after a kill."""

    validate: Callable[[SequenceModel], dict[str, float]]
    """Measures what the stop needs, STOP_METRIC among it; its time belongs to the method."""
    observe: Callable[[SequenceModel], dict[str, float]]
    """Measures what is only for curves; its time is kept apart."""
    on_epoch: OnEpoch
    resume: ResumeFolder
    validation_positions: int = 0
    """Real input positions that ``validate`` passes forward."""
    validation_queries: int = 0
    """Queries that ``validate`` scores the whole catalogue for."""


def target_loss(
    model: SequenceModel,
    hidden: Tensor,
    targets: Tensor,
    users: Tensor,
    data: TrainingData,
    recipe: TrainConfig,
    streams: Streams,
    part: slice = WHOLE,
) -> Tensor:
    """Losses (T,) of the real targets among ``targets`` (B, L), for states ``hidden`` (B, L, D) and ``users`` (B,).

    ``part``: only these rows of the batch have states in ``hidden`` and losses; negatives are drawn for all of it.
    """
    place = targets.flatten().nonzero()[:, 0]  # (T,) of B L
    mine, first = slice(None), 0
    if part != WHOLE:
        first = part.start * targets.shape[1]
        edges = torch.tensor([first, part.stop * targets.shape[1]], device=place.device)
        mine = slice(*torch.searchsorted(place, edges).tolist())
    chosen = targets.flatten()[place[mine]]  # (T,)
    state = hidden.flatten(0, 1).index_select(0, place[mine] - first)  # (T, D)
    if recipe.loss == "ce":
        return losses.ce(model, state, chosen, data.catalogue)
    users = users[place // targets.shape[1]]
    negatives = data.negatives(users, recipe.num_negatives, streams["negatives"])[mine]  # (T, N)
    if recipe.loss == "gbce":
        beta = losses.gbce_beta(recipe.num_negatives, len(data.candidates), recipe.gbce_t)
        return losses.gbce(model, state, chosen, negatives, beta)
    return losses.bce(model, state, chosen, negatives)


def train_new(
    description: dict[str, Any],
    data: TrainingData,
    recipe: TrainConfig,
    seed: int,
    watch: Watch,
    weights: Mapping[str, Tensor] | None = None,
) -> tuple[SequenceModel, Fit]:
    """Make a model of a description (see ``scorer.new_model``), initialise it and train it, all from one seed.

    With ``weights`` it starts from these instead.
    """
    streams = Streams(seed, data.device)
    model = new_model(description)
    if weights is None:
        model.initialise(Streams(seed)["weights"])
    else:
        model.load_state_dict(weights)
    model.to(data.device)
    return model, fit(model, data, recipe, streams, watch)


def make_adam(model: torch.nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Adam over all weights, in one fused kernel."""
    return torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)


def make_optimiser(model: SequenceModel, recipe: TrainConfig) -> torch.optim.Adam:
    """The recipe's optimiser over all weights; RunError for lazy_adam in several processes."""
    if recipe.lazy_adam and distributed.size() > 1:
        raise RunError("train.lazy_adam is for one process; set it to false, or leave torchrun")
    return (LazyAdam if recipe.lazy_adam else torch.optim.Adam)(model.parameters(), lr=recipe.learning_rate, fused=True)


def fit(
    model: SequenceModel,
    data: TrainingData,
    recipe: TrainConfig,
    streams: Streams,
    watch: Watch,
) -> Fit:
    """Train ``model`` in place until the stop and leave the best weights in it.

    A run that was killed goes on from its last validation and ends with the same bits; one that had ended returns
    at once, until the caller clears ``watch.resume``.
    Raises RunError when the loss is no longer a number.
    """
    model.use_generator(streams["dropout"])
    optimiser = make_optimiser(model, recipe)
    run = Run(model, optimiser, streams, watch.resume)
    run.restore()
    while not run.ended(recipe):
        with run.meter.running():
            run.begin_epoch(data.device)
            for rows in data.epoch(recipe.batch_size, streams["batches"], recipe.group_by_length):
                run.count(*train_step(model, data, recipe, streams, optimiser, rows))
        run.end_epoch(recipe, watch)
    return run.finish(watch)


def train_step(
    model: SequenceModel,
    data: TrainingData,
    recipe: TrainConfig,
    streams: Streams,
    optimiser: torch.optim.Optimizer,
    rows: Tensor,
) -> tuple[Tensor, Tensor]:
    """One step of the optimiser on the windows ``rows`` (B,); returns the losses (T,) and the inputs (B, L).

    Where several processes train one model, each has the losses of its share of the windows, and a gradient is the
    mean over the real targets of all shares.
    """
    windows, users = data.batch(rows)
    inputs, targets = model.training_pairs(windows, streams["cloze"])
    part, counts = _take_share(model, len(rows))
    low = torch.autocast(data.device.type, torch.bfloat16, recipe.precision == "bf16")
    with low, model.sparse_gradients(recipe.lazy_adam):
        loss = target_loss(model, model.hidden(inputs[part]), targets, users, data, recipe, streams, part)
    loss = loss if counts else loss[:0]
    optimiser.zero_grad(set_to_none=True)
    if part == WHOLE:
        loss.mean().backward()
    else:
        (loss.sum() / (targets != 0).sum()).backward()
        distributed.add_up_gradients(model.parameters())
    optimiser.step()
    return loss.detach(), inputs


def _take_share(model: SequenceModel, num_rows: int) -> tuple[slice, bool]:
    """The rows of a batch that this process computes, all if it is alone, and whether their losses count.

    Dropout masks are those of all rows. With fewer rows than processes some have none: they compute one in vain, so
    that their random streams go on as those of the others.
    """
    if distributed.size() == 1:
        return WHOLE, True
    start, stop = distributed.share(num_rows)
    counts = stop > start
    start, stop = (start, stop) if counts else (0, 1)
    model.take_part((start, stop, num_rows))
    return slice(start, stop), counts


class Run:
    """What the loop must not lose: position, best weights and cost; saved and restored as one."""

    def __init__(
        self, model: SequenceModel, optimiser: torch.optim.Optimizer, streams: Streams, resume: ResumeFolder
    ) -> None:
        self.model, self.optimiser, self.streams, self.resume = model, optimiser, streams, resume
        self.meter = Meter()
        self.validations = self.best_validations = 0
        self.best_value = float("-inf")
        self.best_weights = copy_weights(model)
        self.best_cost = Cost()
        self.history: list[dict[str, float]] = []

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return self.meter.cost.epochs

    @property
    def best_epoch(self) -> int:
        """The epoch of the best weights; 0 before any."""
        return self.best_cost.epochs

    def ended(self, recipe: TrainConfig) -> bool:
        """Whether the last epoch is done, or the best one is ``patience`` epochs old."""
        return self.epoch >= recipe.max_epochs or self.epoch - self.best_epoch >= recipe.patience

    def begin_epoch(self, device: torch.device) -> None:
        """Set the sums over the steps of an epoch to zero."""
        self.model.train()
        self.total, self.num_targets = torch.zeros((), dtype=torch.float64, device=device), 0  # sum of the losses
        self.seen = torch.zeros((), dtype=torch.int64, device=device)  # real input positions

    def count(self, loss: Tensor, inputs: Tensor) -> None:
        """Add up a step: its losses (T,) and its inputs (B, L)."""
        self.meter.count(steps=1)
        self.total += loss.sum()
        self.num_targets += len(loss)
        self.seen += (inputs != 0).sum()

    def end_epoch(self, recipe: TrainConfig, watch: Watch) -> None:
        """Close an epoch: its figures, the validation and the saved state if they are due.

        Raises RunError when the loss is no longer a number.
        """
        with self.meter.running():
            mean = self._mean_loss(recipe)
        row = {"epoch": self.epoch, "train/loss": mean}
        due = self.epoch % recipe.evaluate_every == 0 or self.epoch == recipe.max_epochs
        if due:
            row |= self.measure(watch)
        self.history.append(row)
        watch.on_epoch(row, self.epoch, recipe.max_epochs)
        if due:
            self.save()

    def _mean_loss(self, recipe: TrainConfig) -> float:
        """The mean loss of the epoch that ends, which is counted."""
        sums = torch.stack([self.total, self.total.new_tensor(self.num_targets)])
        total, num_targets = distributed.add_up(sums).tolist()
        scored = int(num_targets) if recipe.loss == "ce" else 0
        self.meter.count(epochs=1, target_gradients=int(self.seen), scored_positions=scored)
        mean = float(total / num_targets)
        if not math.isfinite(mean):
            raise RunError(f"training loss is {mean} in epoch {self.epoch}; lower train.learning_rate")
        return mean

    def finish(self, watch: Watch) -> Fit:
        """Put the best weights back; the looks up to them are part of their cost."""
        self.model.load_state_dict(self.best_weights)
        self.model.take_part(None)
        self.model.eval()
        looks = Meter()
        looks.include(self.best_cost)
        positions, queries = watch.validation_positions, watch.validation_queries
        looks.count_look(self.best_validations * positions, self.best_validations * queries)
        return Fit(self.best_epoch, self.meter.read_until(looks.cost), self.history)

    def measure(self, watch: Watch) -> dict[str, float]:
        """Validate, and keep the weights if they are the best so far; the first of equals is kept."""
        self.model.eval()
        with self.meter.running():  # the stop rule needs it, so it belongs to the method
            metrics = watch.validate(self.model)
        if STOP_METRIC not in metrics:
            raise DataError("no validation target is left, so training cannot tell when to stop; see prepare.holdout")
        self.validations += 1
        with self.meter.evaluating():
            if metrics[STOP_METRIC] > self.best_value:
                self.best_value, self.best_validations = metrics[STOP_METRIC], self.validations
                self.best_weights, self.best_cost = copy_weights(self.model), self.meter.read()
            return metrics | watch.observe(self.model)

    _STATE = ("history", "best_value", "validations", "best_validations")

    def save(self) -> None:
        """Write all of it to the resume folder."""
        tensors = pack("model", copy_weights(self.model)) | pack("best", self.best_weights)
        tensors |= pack("optimiser", optimiser_tensors(self.optimiser)) | pack("streams", self.streams.state())
        state: dict[str, Any] = {name: getattr(self, name) for name in self._STATE}
        self.resume.save(self.epoch, tensors, {**state, "cost": self.meter.state(), "best_cost": vars(self.best_cost)})

    def restore(self) -> None:
        """Go on from the newest state, if there is one."""
        saved = self.resume.load()
        if saved is None:
            self.resume.clear()
            return
        tensors, state = saved
        self.model.load_state_dict(unpack("model", tensors))
        self.best_weights = unpack("best", tensors)
        load_optimiser(self.optimiser, unpack("optimiser", tensors))
        self.streams.restore(unpack("streams", tensors))
        for name in self._STATE:
            setattr(self, name, state[name])
        self.meter.restore(state["cost"])
        self.best_cost = Cost(**state["best_cost"])
