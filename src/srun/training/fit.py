"""The one training loop: Adam, validation at an interval, early stop, resume ([T] 3.3.2).

Shapes: B batch, L length, T targets.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
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
from srun.training import losses
from srun.training.checkpoint import ResumeFolder, copy_weights, load_optimiser, optimiser_tensors, pack, unpack
from srun.training.lazy_adam import LazyAdam

STOP_METRIC = "validation/ndcg_10"
FORWARD_SHARE = 1 / 3  # of a target gradient, for a position that only passes forward: a teacher, a stop rule


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
class Cost:
    """What a computation took (methods: Cost). Counts are exact and repeatable; seconds and memory are not."""

    epochs: int = 0
    steps: int = 0
    target_gradients: float = 0.0
    scored_positions: int = 0
    seconds: float = 0.0
    seconds_patience: float = 0.0
    seconds_evaluation: float = 0.0
    peak_memory_mb: float = 0.0

    def exact(self) -> dict[str, float]:
        """The counts, which are the same at every run."""
        return {k: v for k, v in asdict(self).items() if not k.startswith(("seconds", "peak"))}

    def measured(self) -> dict[str, float]:
        """The times and the memory, which are not."""
        return {k: v for k, v in asdict(self).items() if k.startswith(("seconds", "peak"))}


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
    on_epoch: Callable[[dict[str, float], int, int], None]
    """Is told of every epoch: its figures, its number and the cap."""
    resume: ResumeFolder
    validation_positions: int = 0
    """Real input positions that ``validate`` passes forward."""


def target_loss(
    model: SequenceModel,
    hidden: Tensor,
    targets: Tensor,
    users: Tensor,
    data: TrainingData,
    recipe: TrainConfig,
    streams: Streams,
) -> Tensor:
    """Losses (T,) of the real targets among ``targets`` (B, L), for states ``hidden`` (B, L, D) and ``users`` (B,)."""
    place = targets.flatten().nonzero()[:, 0]  # (T,) of B L
    chosen, state = targets.flatten()[place], hidden.flatten(0, 1).index_select(0, place)  # (T,), (T, D)
    if recipe.loss == "ce":
        return losses.ce(model, state, chosen, data.catalogue)
    users = users[place // targets.shape[1]]
    negatives = data.negatives(users, recipe.num_negatives, streams["negatives"])  # (T, N)
    if recipe.loss == "gbce":
        beta = losses.gbce_beta(recipe.num_negatives, len(data.candidates), recipe.gbce_t)
        return losses.gbce(model, state, chosen, negatives, beta)
    return losses.bce(model, state, chosen, negatives)


def train_new(
    description: dict[str, Any], data: TrainingData, recipe: TrainConfig, seed: int, watch: Watch
) -> tuple[SequenceModel, Fit]:
    """Make a model of a description (see ``scorer.new_model``), initialise it and train it, all from one seed."""
    streams = Streams(seed, data.device)
    model = new_model(description)
    model.initialise(Streams(seed)["weights"])
    model.to(data.device)
    return model, fit(model, data, recipe, streams, watch)


def make_adam(model: torch.nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Adam over all weights, in one fused kernel."""
    return torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)


def make_optimiser(model: SequenceModel, recipe: TrainConfig) -> torch.optim.Adam:
    """The recipe's optimiser over all weights."""
    return (LazyAdam if recipe.lazy_adam else torch.optim.Adam)(model.parameters(), lr=recipe.learning_rate, fused=True)


def fit(
    model: SequenceModel,
    data: TrainingData,
    recipe: TrainConfig,
    streams: Streams,
    watch: "Watch",
) -> Fit:
    """Train ``model`` in place until the stop and leave the best weights in it.

    A run that was killed goes on from its last validation and ends with the same bits; one that had ended returns
    at once, until the caller clears ``watch.resume``.
    Raises RunError when the loss is no longer a number.
    """
    model.use_generator(streams["dropout"])
    optimiser = make_optimiser(model, recipe)
    run = _Run(model, optimiser, streams, watch.resume)
    run.restore()
    while run.epoch < recipe.max_epochs and run.epoch - run.best_epoch < recipe.patience:
        row = _train_epoch(model, data, recipe, streams, optimiser, run)
        due = run.epoch % recipe.evaluate_every == 0 or run.epoch == recipe.max_epochs
        if due:
            row |= run.measure(watch)
        run.history.append(row)
        watch.on_epoch(row, run.epoch, recipe.max_epochs)
        if due:
            run.save()
    model.load_state_dict(run.best_weights)
    model.eval()
    return Fit(run.best_epoch, run.final_cost(), run.history)


def train_step(
    model: SequenceModel,
    data: TrainingData,
    recipe: TrainConfig,
    streams: Streams,
    optimiser: torch.optim.Optimizer,
    rows: Tensor,
) -> tuple[Tensor, Tensor]:
    """One step of the optimiser on the windows ``rows`` (B,); returns the losses (T,) and the inputs (B, L)."""
    windows, users = data.batch(rows)
    inputs, targets = model.training_pairs(windows, streams["cloze"])
    low = torch.autocast(data.device.type, torch.bfloat16, recipe.precision == "bf16")
    with low, model.sparse_gradients(recipe.lazy_adam):
        loss = target_loss(model, model.hidden(inputs), targets, users, data, recipe, streams)
    optimiser.zero_grad(set_to_none=True)
    loss.mean().backward()
    optimiser.step()
    return loss.detach(), inputs


def _train_epoch(
    model: SequenceModel,
    data: TrainingData,
    recipe: TrainConfig,
    streams: Streams,
    optimiser: torch.optim.Optimizer,
    run: "_Run",
) -> dict[str, float]:
    began = time.perf_counter()
    model.train()
    total, num_targets = torch.zeros((), dtype=torch.float64, device=data.device), 0
    positions = torch.zeros((), dtype=torch.int64, device=data.device)
    for rows in data.epoch(recipe.batch_size, streams["batches"], recipe.group_by_length):
        loss, inputs = train_step(model, data, recipe, streams, optimiser, rows)
        total += loss.sum()
        positions += (inputs != 0).sum()
        num_targets += len(loss)
        run.count(len(loss) if recipe.loss == "ce" else 0)
    run.positions += int(positions)
    run.epoch += 1
    mean = float(total) / num_targets
    if mean != mean or mean == float("inf"):
        raise RunError(f"training loss is {mean} in epoch {run.epoch}; lower train.learning_rate")
    run.seconds += time.perf_counter() - began
    return {"epoch": run.epoch, "train/loss": mean}


class _Run:
    """What the loop must not lose: position, best weights, counts, times; saved and restored as one."""

    def __init__(
        self, model: SequenceModel, optimiser: torch.optim.Optimizer, streams: Streams, resume: ResumeFolder
    ) -> None:
        self.model, self.optimiser, self.streams, self.resume = model, optimiser, streams, resume
        self.epoch = self.best_epoch = self.steps = self.scored = self.looked = 0
        self.positions, self.seconds, self.best_seconds, self.seconds_evaluation = 0, 0.0, 0.0, 0.0
        self.best_value = float("-inf")
        self.best_weights = copy_weights(model)
        self.best_counts: list[int] = [0, 0, 0, 0]
        self.history: list[dict[str, float]] = []

    _STATE = (
        *("epoch", "steps", "positions", "scored", "looked", "seconds", "seconds_evaluation", "history"),
        *("best_epoch", "best_value", "best_seconds", "best_counts"),
    )

    def count(self, scored: int) -> None:
        self.steps += 1
        self.scored += scored

    def measure(self, watch: Watch) -> dict[str, float]:
        """Validate, and keep the weights if they are the best so far; the first of equals is kept."""
        began = time.perf_counter()
        self.model.eval()
        metrics = watch.validate(self.model)
        ended = time.perf_counter()
        self.seconds += ended - began  # the stop rule needs it, so it belongs to the method
        if STOP_METRIC not in metrics:
            raise DataError("no validation target is left, so training cannot tell when to stop; see prepare.holdout")
        self.looked += watch.validation_positions
        if metrics[STOP_METRIC] > self.best_value:
            self.best_value, self.best_epoch = metrics[STOP_METRIC], self.epoch
            self.best_weights = copy_weights(self.model)
            self.best_seconds = self.seconds
            self.best_counts = [self.steps, self.positions, self.scored, self.looked]
        metrics = metrics | watch.observe(self.model)
        self.seconds_evaluation += time.perf_counter() - ended
        return metrics

    def final_cost(self) -> Cost:
        """Up to the returned model; what came after it is patience."""
        steps, positions, scored, looked = self.best_counts
        return Cost(
            epochs=self.best_epoch,
            steps=steps,
            target_gradients=positions + FORWARD_SHARE * looked,
            scored_positions=scored,
            seconds=self.best_seconds,
            seconds_patience=self.seconds - self.best_seconds,
            seconds_evaluation=self.seconds_evaluation,
        )

    def save(self) -> None:
        tensors = pack("model", copy_weights(self.model)) | pack("best", self.best_weights)
        tensors |= pack("optimiser", optimiser_tensors(self.optimiser)) | pack("streams", self.streams.state())
        state: dict[str, Any] = {name: getattr(self, name) for name in self._STATE}
        self.resume.save(self.epoch, tensors, state)

    def restore(self) -> None:
        found = self.resume.load()
        if found is None:
            self.resume.clear()
            return
        tensors, state = found
        self.model.load_state_dict(unpack("model", tensors))
        self.best_weights = unpack("best", tensors)
        load_optimiser(self.optimiser, unpack("optimiser", tensors))
        self.streams.restore(unpack("streams", tensors))
        for name in self._STATE:
            setattr(self, name, state[name])
