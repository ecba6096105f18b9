"""SRUGA: gradient ascent on the forget set, KL to the frozen original and fine-tuning on the retain set ([T] 3.4).

Shapes: B batch, L length, T targets, D hidden, V catalogue. theta is edited; theta_A is the frozen original.
"""

import math
import time
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from srun.config import config
from srun.data.batches import Cycle, TrainingData
from srun.data.partition import Partition
from srun.errors import DataError, RunError
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer, clone_model
from srun.rng import Streams
from srun.training.checkpoint import ResumeFolder, copy_weights, load_optimiser, optimiser_tensors, pack, unpack
from srun.training.fit import FORWARD_SHARE, Cost, make_adam, target_loss
from srun.training.losses import catalogue_scores
from srun.unlearning.base import Context, Original, Result, Unlearner

HIT = "forget_tune/hit_10"


@config
class SRUGAConfig:
    """The weights are eta_GA, eta_KL and eta_FT of [T] eq. 8; a weight of 0 costs no time."""

    ascent_weight: Annotated[float, Field(ge=0)]
    kl_weight: Annotated[float, Field(ge=0)]
    finetune_weight: Annotated[float, Field(ge=0)]
    kl_items: Literal["targets", "all"]
    """``all``: softmax over the catalogue at the last position. ``targets``: [T] read to the letter."""
    unlearn_dropout: bool
    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)]
    clip_norm: Annotated[float, Field(gt=0)]
    max_epochs: Annotated[int, Field(ge=1)]
    """An epoch is one pass over the forget set; the retain loader cycles."""
    evaluate_every: Annotated[int, Field(ge=1)]
    stop: Literal["plateau", "fixed"]
    """``plateau``: forget_tune Hit@10 has not fallen for ``patience`` epochs. ``fixed``: after ``max_epochs``."""
    patience: Annotated[int, Field(ge=1)]
    anneal: Literal["none", "linear"]
    anneal_what: Literal["learning_rate", "ascent_weight"]
    anneal_epochs: Annotated[int, Field(ge=1)]
    anneal_floor: Annotated[float, Field(ge=0, le=1)]
    """Share of the value that is left after ``anneal_epochs``."""

    def __post_init__(self) -> None:
        if not (self.ascent_weight or self.kl_weight or self.finetune_weight):
            raise ValueError("all three weights are 0, so nothing would be done")


def ascent_loss(model: SequenceModel, state: Tensor, targets: Tensor, loss: str) -> Tensor:
    """L_GA (B,) = log p(forgotten item), positives only ([T] eq. 3 and 4); descending it lowers p.

    p is the model's own likelihood: sigmoid of the score for bce, softmax over the catalogue for ce.
    """
    if loss == "ce":
        return catalogue_scores(model, state, None).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    return logsigmoid(model.item_scores(state, targets))


def kl_loss(log_p: Tensor, log_p_original: Tensor) -> Tensor:
    """L_KL (B,) = sum of p_A * log(p_A / p) ([T] eq. 6), forward; entries of -inf in both count nothing."""
    p_original = log_p_original.exp()
    return torch.where(p_original > 0, p_original * (log_p_original - log_p), 0.0).sum(-1)


def annealed(epoch: int, settings: SRUGAConfig) -> float:
    """The factor of what is annealed in an epoch (from 0): 1 falling to the floor over ``anneal_epochs``."""
    if settings.anneal == "none":
        return 1.0
    progress = min(epoch / settings.anneal_epochs, 1.0)
    return 1.0 - (1.0 - settings.anneal_floor) * progress


class SRUGA(Unlearner[SRUGAConfig]):
    """theta <- theta - grad(w_GA L_GA + w_KL L_KL + w_FT L_FT), clipped, by Adam ([T] eq. 8).

    Deviation: the gradient norm is clipped to ``clip_norm``, for which [T] gives no number.
    """

    Config = SRUGAConfig

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        run = _Run(self.settings, original, request, context)
        run.restore()
        while not run.stopped:
            run.epoch_of_steps()
            run.measure(context)
            run.save()
        return Result(run.scorer, run.cost, run.history, {"epochs": run.cost.epochs, "stop": run.reason})


class _Run:
    """One run of SRUGA with all that must survive a kill."""

    def __init__(self, settings: SRUGAConfig, original: Original, request: Partition, context: Context) -> None:
        self.settings, self.recipe = settings, original.recipe
        self.streams = Streams(context.seed, context.device)
        self.resume: ResumeFolder = context.resume
        self.original = original.model
        self.model = clone_model(original.model)
        self.model.use_generator(self.streams["dropout"])
        self.scorer = Scorer([self.model])
        self.optimiser = make_adam(self.model, settings.learning_rate)
        self.retain = TrainingData(request.data, request.retain, request.catalogue, context.device)
        queries = request.forget_queries()
        if not len(queries):
            raise DataError("no forgotten event has a context to ascend on; use retrain for this request")
        histories = queries.histories(request.data.max_length).astype("int64")
        self.histories = torch.from_numpy(histories).to(context.device)  # (F, n)
        self.targets = torch.from_numpy(queries.target.astype("int64")).to(context.device)  # (F,)
        self.forget_rows = Cycle(len(self.targets), settings.batch_size, self.streams["forget"])
        self.retain_rows = Cycle(len(self.retain), settings.batch_size, self.streams["retain"])
        self.cost, self.history = Cost(), [self._first_row(context)]
        # without a tune half nothing may be chosen: the schedule is fixed
        self.plateau = settings.stop == "plateau" and HIT in self.history[0]
        self.lowest, self.lowest_epoch, self.reason = self.history[0].get(HIT, math.inf), 0, ""

    @property
    def stopped(self) -> bool:
        """Whether the stop rule has spoken; says which one in ``reason``."""
        if self.cost.epochs >= self.settings.max_epochs:
            self.reason = "max_epochs"
        elif self.plateau and self.cost.epochs - self.lowest_epoch >= self.settings.patience:
            self.reason = "plateau"
        return bool(self.reason)

    def epoch_of_steps(self) -> None:
        """One pass over the forget set."""
        began = time.perf_counter()
        self.model.train(self.settings.unlearn_dropout)
        factor = annealed(self.cost.epochs, self.settings)
        rate = factor if self.settings.anneal_what == "learning_rate" else 1.0
        ascent = self.settings.ascent_weight * (factor if self.settings.anneal_what == "ascent_weight" else 1.0)
        self.optimiser.param_groups[0]["lr"] = self.settings.learning_rate * rate
        sums: dict[str, Tensor] = {}
        num_steps = -(-len(self.targets) // self.settings.batch_size)
        for _ in range(num_steps):
            terms = self._terms(ascent)
            if not terms:  # an annealed weight has reached 0 and nothing else is active
                continue
            total = sum(
                (weight * value for weight, value in terms.values()), torch.zeros((), device=self.retain.device)
            )
            self.optimiser.zero_grad(set_to_none=True)
            total.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            self.optimiser.step()
            for name, (_, value) in terms.items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value.detach()
        self.cost.steps += num_steps
        self.cost.epochs += 1
        self.row = {"epoch": self.cost.epochs, **{f"unlearn/{k}_loss": float(v) / num_steps for k, v in sums.items()}}
        if not all(map(math.isfinite, self.row.values())):
            raise RunError(f"a loss of SRUGA is not a number in epoch {self.cost.epochs}; lower its learning_rate")
        self.cost.seconds += time.perf_counter() - began

    def _terms(self, ascent_weight: float) -> dict[str, tuple[float, Tensor]]:
        """The active terms of one step: name -> (weight, mean loss)."""
        terms: dict[str, tuple[float, Tensor]] = {}
        rows = self.forget_rows.next()
        if ascent_weight:
            inputs = self.model.prediction_inputs(self.histories[rows])
            loss = ascent_loss(self.model, self.model.hidden(inputs)[:, -1], self.targets[rows], self.recipe.loss)
            terms["ascent"] = (ascent_weight, loss.mean())
            self._count(inputs, 1.0, len(rows) if self.recipe.loss == "ce" else 0)
        if self.settings.kl_weight or self.settings.finetune_weight:
            terms |= self._retain_terms(*self.retain.batch(self.retain_rows.next().to(self.retain.device)))
        return terms

    def _retain_terms(self, windows: Tensor, users: Tensor) -> dict[str, tuple[float, Tensor]]:
        terms: dict[str, tuple[float, Tensor]] = {}
        inputs, targets = self.model.training_pairs(windows, self.streams["cloze"])
        # a cloze pass may show the last item and hides others: KL at the last position then has a pass of its own
        own_pass = self.settings.kl_weight > 0 and self.settings.kl_items == "all" and not self.model.next_item
        if self.settings.finetune_weight or not own_pass:
            hidden = self._pass(inputs)  # one pass for both terms
        if self.settings.finetune_weight:
            loss = target_loss(self.model, hidden, targets, users, self.retain, self.recipe, self.streams)
            terms["finetune"] = (self.settings.finetune_weight, loss.mean())
            self.cost.scored_positions += len(loss) if self.recipe.loss == "ce" else 0
        if own_pass:
            inputs = self.model.last_item_inputs(windows)
            hidden = self._pass(inputs)
        if self.settings.kl_weight:
            with torch.no_grad():
                teacher = self.original.hidden(inputs)
            self._count(inputs, FORWARD_SHARE, 0)
            terms["kl"] = (self.settings.kl_weight, self._kl(hidden, teacher, targets).mean())
        return terms

    def _pass(self, inputs: Tensor) -> Tensor:
        self._count(inputs, 1.0, 0)
        return self.model.hidden(inputs)

    def _kl(self, hidden: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        if self.settings.kl_items == "all":
            self.cost.scored_positions += 2 * len(hidden)
            student = catalogue_scores(self.model, hidden[:, -1], None)
            with torch.no_grad():
                frozen = catalogue_scores(self.original, teacher[:, -1], None)
        else:  # [T] to the letter: a softmax over the window's own targets, each scored at its position
            # (for a cloze model these are the masked items of the fine-tuning pass)
            padding = targets == 0
            student = self.model.item_scores(hidden.flatten(0, 1), targets.flatten()).view(targets.shape)
            student = student.masked_fill(padding, float("-inf"))
            with torch.no_grad():
                frozen = self.original.item_scores(teacher.flatten(0, 1), targets.flatten()).view(targets.shape)
                frozen = frozen.masked_fill(padding, float("-inf"))
        return kl_loss(student.log_softmax(-1), frozen.log_softmax(-1))

    def _count(self, inputs: Tensor, share: float, scored: int) -> None:
        self.cost.target_gradients += share * int((inputs != 0).sum())
        self.cost.scored_positions += scored

    def _first_row(self, context: Context) -> dict[str, float]:
        return {"epoch": 0, **context.probe(self.scorer, "validation"), **context.probe(self.scorer, "forget_tune")}

    def measure(self, context: Context) -> None:
        """Look at forget_tune (the stop rule's time belongs to the method) and at validation (for curves only)."""
        if self.cost.epochs % self.settings.evaluate_every == 0 or self.cost.epochs == self.settings.max_epochs:
            self.model.eval()
            began = time.perf_counter()
            self.row |= context.probe(self.scorer, "forget_tune")
            middle = time.perf_counter()
            self.row |= context.probe(self.scorer, "validation")
            curves = time.perf_counter() - middle
            if self.plateau:
                self.cost.seconds += middle - began
                self.cost.target_gradients += FORWARD_SHARE * context.probe.positions("forget_tune")
            else:
                curves += middle - began
            self.cost.seconds_evaluation += curves
            if self.plateau and self.row[HIT] < self.lowest:
                self.lowest, self.lowest_epoch = self.row[HIT], self.cost.epochs
        self.history.append(self.row)
        context.on_epoch(self.row, self.cost.epochs, self.settings.max_epochs)

    def save(self) -> None:
        tensors = pack("model", copy_weights(self.model)) | pack("streams", self.streams.state())
        tensors |= pack("optimiser", optimiser_tensors(self.optimiser))
        tensors |= {"forget_order": self.forget_rows.order, "retain_order": self.retain_rows.order}
        state: dict[str, Any] = {
            "cost": vars(self.cost),
            "history": self.history,
            "lowest": [self.lowest, self.lowest_epoch],
            "positions": [self.forget_rows.position, self.retain_rows.position],
        }
        self.resume.save(self.cost.epochs, tensors, state)

    def restore(self) -> None:
        found = self.resume.load()
        if found is None:
            self.resume.clear()
            return
        tensors, state = found
        self.model.load_state_dict(unpack("model", tensors))
        load_optimiser(self.optimiser, unpack("optimiser", tensors))
        self.streams.restore(unpack("streams", tensors))
        self.forget_rows.order, self.retain_rows.order = tensors["forget_order"], tensors["retain_order"]
        self.forget_rows.position, self.retain_rows.position = state["positions"]
        self.cost, self.history = Cost(**state["cost"]), state["history"]
        self.lowest, self.lowest_epoch = state["lowest"]
