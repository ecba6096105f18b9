"""The steps of SRUGA and of its controls, with all that must survive a kill.

The terms are in ``ascent`` and ``retain``, their weights in ``weighting`` and ``schedule``, their end in ``stopping``.
"""

import math
from typing import Any

import torch
from torch import Tensor

from srun.data.batches import TrainingData
from srun.errors import RunError
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer, clone_model, untied_copy
from srun.requests.partition import Partition
from srun.rng import Streams
from srun.system.meter import Cost, Meter
from srun.training.checkpoint import copy_weights, load_optimiser, optimiser_tensors, pack, unpack
from srun.unlearning.base import Context, Original, Result
from srun.unlearning.closed_form.levels import Level as Aim
from srun.unlearning.closed_form.levels import LevelPredictor
from srun.unlearning.closed_form.rows import RowsConfig, move_rows, rows_look
from srun.unlearning.fitted import fitted_table, scored_by
from srun.unlearning.sruga.ascent import Ascent, EventLevels
from srun.unlearning.sruga.retain import Remaining
from srun.unlearning.sruga.settings import SRUGAConfig
from srun.unlearning.sruga.stopping import TUNE, make_stop
from srun.unlearning.sruga.weighting import make_weighting


def carry_out(settings: SRUGAConfig, original: Original, request: Partition, context: Context) -> Result:
    """Take the steps of [T] eq. 8 until the stop rule speaks; a run that was killed goes on where it was."""
    run = _Run(settings, original, request, context)
    if not run.restore():
        run.measure(context)  # epoch 0 is the original
    while not run.stopped:
        run.epoch_of_steps()
        run.measure(context)
        run.save()
    return run.result()


class _Run:
    """One run of SRUGA with all that must survive a kill."""

    def __init__(self, settings: SRUGAConfig, original: Original, request: Partition, context: Context) -> None:
        self.resume, self.meter = context.resume, context.meter
        self.streams = Streams(context.seed, context.device)
        self.model = (untied_copy if settings.update == "output_layer" else clone_model)(original.model)
        self.model.use_generator(self.streams["dropout"])
        self.parameters = _moved(self.model, settings.update)
        self.scorer = Scorer([self.model])
        self.optimiser = torch.optim.Adam(self.parameters, lr=settings.learning_rate, fused=True)
        self.weighting = make_weighting(settings.weighting, settings.weighting_rate, self.streams)
        self.row = {"epoch": 0.0}
        self.history: list[dict[str, float]] = []
        retain = TrainingData(request.data, request.retain, request.catalogue, context.device)
        models = self.model, original.model
        self.aim: Aim | None = None
        levels = None
        if settings.by_event:
            self.aim, levels = self._predict(settings, original, request, context)
        self.ascent = Ascent(settings, *models, request, original.recipe, self.streams, self.meter, levels)
        self.settings = settings.in_epochs(self.ascent.num_batches)
        self.remaining = Remaining(
            settings, *models, retain, original.recipe, self.streams, self.meter, self.weighting.separate
        )
        self.stop = make_stop(settings.stop, settings.patience, request, context)
        self.reason = ""
        self.best: tuple[dict[str, Tensor], Cost] | None = None

    def _predict(
        self, settings: SRUGAConfig, original: Original, request: Partition, context: Context
    ) -> tuple[Aim, EventLevels]:
        """The levels of every forgotten event, at the cost of the method."""
        crossfit = original.require_crossfit() if settings.level_from == "crossfit" else None
        model, device, table, positions = original.model, context.device, None, 0
        with self.meter.running():
            predictor = LevelPredictor(request, crossfit, context.seed, device)
            aims = [predictor.predict(model)]
            if settings.states_weight:
                table, positions = fitted_table(model, request, context.seed, device)
                aims.append(predictor.predict(scored_by(model, table)))
        for aim in aims:
            self.meter.count_look(aim.positions, aim.scored)
        self.meter.count_look(positions, 0)
        wanted_fitted = aims[1].wanted if settings.states_weight else aims[0].wanted.new_zeros(0)
        return aims[0], EventLevels(aims[0].wanted, table, wanted_fitted)

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return self.meter.cost.epochs

    @property
    def stopped(self) -> bool:
        """Whether the stop rule has spoken; says which one in ``reason``."""
        self.reason = "max_epochs" if self.epoch >= self.settings.max_epochs else self.stop.done(self.epoch)
        return bool(self.reason)

    def epoch_of_steps(self) -> None:
        """One pass over the forget set."""
        with self.meter.running():
            self.model.train(self.settings.unlearn_dropout)
            weights = self.settings.weights(self.epoch)
            self.optimiser.param_groups[0]["lr"] = self.settings.rate(self.epoch)
            sums: dict[str, Tensor] = {}
            num_steps = self.ascent.num_batches
            for _ in range(num_steps):
                for name, value in self._step(weights).items():
                    sums[name] = sums[name] + value if name in sums else value
            self.meter.count(epochs=1, steps=num_steps)
            self.row = {"epoch": self.epoch, **{f"unlearn/{k}_loss": float(v) / num_steps for k, v in sums.items()}}
            self.row |= self.weighting.figures()
        if not all(map(math.isfinite, self.row.values())):
            raise RunError(f"a loss of SRUGA is not a number in epoch {self.epoch}; lower its learning_rate")

    def _step(self, weights: dict[str, float]) -> dict[str, Tensor]:
        """One step of the optimiser; returns the losses of the active terms, which are none if all weights are 0."""
        losses: dict[str, Tensor] = {}
        if weights["ascent"]:
            losses["ascent"] = self.ascent.loss()
        else:
            self.ascent.skip()
        losses |= self.remaining.losses(weights["kl"] > 0, weights["finetune"] > 0)
        if losses:
            self.optimiser.zero_grad(set_to_none=True)
            self.weighting.backward({name: (weights[name], loss) for name, loss in losses.items()}, self.parameters)
            torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
            self.optimiser.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def measure(self, context: Context) -> None:
        """Look at the model: what the stop rule needs belongs to the method, the rest is for the curves only."""
        epoch = self.epoch
        if epoch % self.settings.evaluate_every == 0 or epoch == self.settings.max_epochs:
            self.model.eval()
            if self.stop.looks:
                with self.meter.running():
                    self.row |= self.stop.look(self.scorer, epoch)
                self.meter.count_look(self.stop.positions, self.stop.queries)
            with self.meter.evaluating():
                if not self.stop.looks:
                    self.row |= context.probe(self.scorer, TUNE)
                if self.stop.improved:
                    self.best = copy_weights(self.model), self.meter.read()
                self.row |= context.probe(self.scorer, "validation")
                self.row["unlearn/target_gradients"] = self.meter.cost.target_gradients
        self.history.append(self.row)
        if epoch:
            context.on_epoch(self.row, epoch, self.settings.max_epochs)

    def result(self) -> Result:
        """The model at the stop, or the best look so far, where the stop rule keeps it."""
        cost, info = self.meter.read(), {"epochs": self.epoch, "stop": self.reason}
        if self.best is not None:
            weights, best_cost = self.best
            self.model.load_state_dict(weights)
            cost = self.meter.read_until(best_cost)
            info = {"epochs": cost.epochs, "stop": self.reason, "stopped_after": self.epoch}
        self.model.eval()
        if self.aim is not None:
            info |= self.aim.info
            if self.settings.rows is not None:
                cost = self._solve_rows(self.aim, self.settings.rows, cost)
        return Result(self.scorer, cost, self.history, info)

    def _solve_rows(self, aim: Aim, settings: RowsConfig, cost: Cost) -> Cost:
        """Solve the rows of forgotten items for their levels, under the states that the steps have left."""
        meter = Meter()
        meter.include(cost)
        with meter.running():
            windows = self.remaining.data.windows
            drawn = torch.randperm(len(windows), generator=self.streams["rows"], device=windows.device)
            retained = windows[drawn[: settings.retained_states]]
            move_rows(self.model, aim.items, aim.wanted, retained, settings, self.streams["rows_sample"])
        meter.count_look(*rows_look(self.model, aim.items, retained, settings))
        return meter.read()

    def save(self) -> None:
        tensors = pack("model", copy_weights(self.model)) | pack("streams", self.streams.state())
        tensors |= pack("optimiser", optimiser_tensors(self.optimiser)) | pack("weighting", self.weighting.tensors())
        tensors |= {"forget_order": self.ascent.rows.order, "retain_order": self.remaining.rows.order}
        tensors |= {} if self.ascent.level is None else {"level": self.ascent.level.value}
        tensors |= {} if self.ascent.fitted is None else {"fitted": self.ascent.fitted.table}
        state: dict[str, Any] = {
            "cost": self.meter.state(),
            "history": self.history,
            "stop": self.stop.state(),
            "positions": [self.ascent.rows.position, self.remaining.rows.position],
        }
        if self.best is not None:
            tensors |= pack("best", self.best[0])
            state["best_cost"] = vars(self.best[1])
        self.resume.save(self.epoch, tensors, state)

    def restore(self) -> bool:
        """Go on from the newest state; returns whether there is one."""
        saved = self.resume.load()
        if saved is None:
            self.resume.clear()
            return False
        tensors, state = saved
        self.model.load_state_dict(unpack("model", tensors))
        load_optimiser(self.optimiser, unpack("optimiser", tensors))
        self.weighting.restore(unpack("weighting", tensors))
        self.streams.restore(unpack("streams", tensors))
        self.ascent.rows.order = tensors["forget_order"].to(self.streams.device)
        self.remaining.rows.order = tensors["retain_order"].to(self.streams.device)
        self.ascent.rows.position, self.remaining.rows.position = state["positions"]
        if self.ascent.level is not None:
            self.ascent.level.restore(tensors["level"], state["cost"]["steps"])
        if self.ascent.fitted is not None:
            self.ascent.fitted.restore(tensors["fitted"], state["cost"]["steps"])
        self.meter.restore(state["cost"])
        self.history = state["history"]
        self.stop.restore(state["stop"])
        if "best_cost" in state:
            self.best = unpack("best", tensors), Cost(**state["best_cost"])
        return True


def _moved(model: SequenceModel, update: str) -> list[torch.nn.Parameter]:
    """The parameters that may move, and no gradient for the others."""
    tables = {id(model.output_table)} | ({id(model.embedding.weight)} if update != "output_layer" else set())
    for parameter in model.parameters():
        parameter.requires_grad_(update == "all" or (id(parameter) in tables) == (update != "blocks"))
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
