"""SRUGA's ascent: what pushes forgotten events down, and where it ends ([T] 3.4.1).

Shapes: B batch, L length, T targets, D hidden, N items, V catalogue, F forget rows. theta is edited; theta_A is the
frozen original.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from srun.data.batches import Cycle, TrainingData
from srun.data.dataset import Role
from srun.data.sequences import cut, pad
from srun.errors import DataError
from srun.models.base import SequenceModel
from srun.requests.partition import Partition
from srun.rng import Streams, numpy_stream
from srun.system.meter import FORWARD_SHARE, Meter
from srun.training.fit import TrainConfig
from srun.training.losses import ce
from srun.unlearning.closed_form.standing import questions, states_by_length
from srun.unlearning.fitted import fitted_table
from srun.unlearning.sruga.catalogue import Scratch, rank_logit
from srun.unlearning.sruga.comparable import comparable
from srun.unlearning.sruga.retain import LENGTHS
from srun.unlearning.sruga.settings import SRUGAConfig

PARTNERS = 2
"""Never-seen events for each forgotten one whose ranks are the level of ``level``: forward passes, which count a third,
against noise of what is aimed at."""
MAX_NEVER_SEEN = 8192
"""So many of them at most."""
REFRESH = 32
"""Steps after which the level is measured anew."""
REFIT = 16
"""Steps after which a table is fitted to the states anew: from one that stays, states only learn to turn away."""


@dataclass(frozen=True)
class EventLevels:
    """The level by event of every forgotten event: by the model's own table, and by one fitted to its states."""

    wanted: Tensor
    """(F,)"""
    table: Tensor | None
    """(V, D) fitted to Original's states; None where the states are not asked."""
    wanted_fitted: Tensor
    """(F,) by a fitted table; (0,) without one."""


def ascent_loss(model: SequenceModel, state: Tensor, targets: Tensor, loss: str) -> Tensor:
    """L_GA (T,) = log p(forgotten item), positives only ([T] eq. 3 and 4); descending it lowers p.

    p is the model's own likelihood: sigmoid of the score for bce and gbce, softmax over the catalogue for ce.
    """
    if loss == "ce":
        return -ce(model, state, targets, None)
    return logsigmoid(model.item_scores(state, targets))


def reversed_negatives(model: SequenceModel, state: Tensor, negatives: Tensor) -> Tensor:
    """(T,) = sum of log(1 - p(negative)) over ``negatives`` (T, N): what L_GA lacks of the whole BCE, reversed.

    [T] 3.4.1 tried and rejected it: it makes the output more random, and costs much utility.
    """
    return logsigmoid(-model.item_scores(state, negatives)).sum(-1)


def npo_loss(log_p: Tensor, log_p_original: Tensor, beta: float) -> Tensor:
    """L_NPO (T,) = 2/beta * log(1 + (p / p_A)^beta) (Zhang et al., 2024, eq. 3), >= 0.

    Ascent that fades as p falls below p_A; as beta goes to 0 its gradient becomes that of L_GA.
    """
    return 2.0 / beta * softplus(beta * (log_p - log_p_original))


def level_loss(standing: Tensor, never_seen: Tensor) -> Tensor:
    """(T,) = |standing - level|, where the level is the quantile of ``never_seen`` (N,) that ``standing`` (T,) has in
    itself.

    Its mean is the Wasserstein-1 distance of the two samples of ``rank_logit``: ascent that ends for an event once it
    stands where comparable events that were never trained on stand, and that pulls back what has fallen too far.
    """
    place = torch.arange(len(standing), device=standing.device, dtype=standing.dtype)
    return (standing.sort().values - torch.quantile(never_seen, (place + 0.5) / len(standing))).abs()


class Ascent:
    """L_GA over batches of the forget set: forgotten items at the last position, after what is retained before them.

    ``mask_all_forgotten`` ([T] tried and rejected it) takes a cloze model's windows of all training events instead,
    with all forgotten items masked at once. An item that two windows share is then a target in both.
    """

    def __init__(
        self,
        settings: SRUGAConfig,
        model: SequenceModel,
        original: SequenceModel,
        request: Partition,
        recipe: TrainConfig,
        streams: Streams,
        meter: Meter,
        levels: EventLevels | None = None,
    ) -> None:
        """``levels`` are of level by event."""
        self.settings, self.model, self.original, self.recipe = settings, model, original, recipe
        self.streams, self.meter, self.levels = streams, meter, levels
        self.scratch = Scratch()
        make = self._windows if settings.mask_all_forgotten else self._queries
        self.items, self.forgotten, self.users = (part.to(streams.device) for part in make(request))
        self.rows = Cycle(len(self.items), settings.batch_size, streams["forget"])
        with meter.running():
            self.fixed_states = (
                self.states(original, self.items) if settings.update == "output_layer" else None
            )  # (F, D)
        self.level = Level(self, request) if settings.ascent == "level" and not settings.by_event else None
        self.fitted = None
        if levels is not None and levels.table is not None:
            self.fitted = Fitted(self, request, levels.table, levels.wanted_fitted)
        self.negatives: TrainingData | None = None
        if settings.ascent_negatives:  # those that the original was trained with: no item the user ever had in training
            self.negatives = TrainingData(request.data, request.data.role == Role.TRAIN, None, streams.device)

    @property
    def num_batches(self) -> int:
        """Batches of one pass over the forget set: an epoch."""
        return -(-len(self.items) // self.settings.batch_size)

    def loss(self) -> Tensor:
        """Mean L_GA of the next batch."""
        rows = self.rows.next()
        if self.levels is not None:
            return self._by_event(rows, self.levels.wanted[rows])
        inputs, place, targets = self._batch(rows)  # (B, L), (B, L), (T,)
        if self.fixed_states is None:
            self.meter.count_inputs(inputs)
            state = self.model.hidden(inputs)[place]  # (T, D)
        else:
            state = self.fixed_states[rows]
        if self.level is not None:
            return level_loss(self.standing(self.model, state, targets), self.level.next()).mean()
        log_p = self._log_p(self.model, state, targets)
        if self.settings.ascent == "npo":
            with torch.no_grad():
                frozen = state if self.fixed_states is not None else self._forward(self.original, inputs, place)
                log_p_original = self._log_p(self.original, frozen, targets)
            return npo_loss(log_p, log_p_original, self.settings.npo_beta).mean()
        if self.negatives is not None:
            users = self.users[rows][:, None].expand_as(place)[place]
            drawn = self.negatives.negatives(users, self.recipe.num_negatives, self.streams["ascent_negatives"])
            log_p = log_p + reversed_negatives(self.model, state, drawn)
        return log_p.mean()

    def _by_event(self, rows: Tensor, wanted: Tensor) -> Tensor:
        """Mean distance of events from their own levels, without dropout: under it they would stand lower than asked.

        Each level was measured, and is asked for afterwards, without.
        """
        items, training = self.items[rows], self.model.training
        self.model.eval()
        if self.fixed_states is None:
            self.meter.count_inputs(self.model.prediction_inputs(items[:, :-1]))
            state = states_by_length(self.model, items, -(-len(items) // LENGTHS))
        else:
            state = self.fixed_states[rows]
        self.model.train(training)
        targets = items[:, -1]
        loss = (self.standing(self.model, state, targets) - wanted).abs().mean()
        return (
            loss if self.fitted is None else loss + self.settings.states_weight * self.fitted.loss(rows, state, targets)
        )

    def skip(self) -> None:
        """Pass over a batch without a look, so that other draws stay as they are."""
        self.rows.next()

    def _log_p(self, model: SequenceModel, state: Tensor, targets: Tensor) -> Tensor:
        self.meter.count(scored_positions=len(targets) if self.recipe.loss == "ce" else 0)
        return ascent_loss(model, state, targets, self.recipe.loss)

    def standing(self, model: SequenceModel, state: Tensor, targets: Tensor) -> Tensor:
        """(T,) of ``rank_logit``."""
        self.meter.count(scored_positions=len(targets))
        return rank_logit(model.output_weight[1:], state, targets, self.scratch)

    @torch.no_grad()
    def states(self, model: SequenceModel, items: Tensor) -> Tensor:
        """(N, D) that predict the last of ``items`` (N, n+1)."""
        parts = [self._last(part) for part in items.split(self.settings.batch_size)]
        return torch.cat([self._forward(model, *part) for part in parts])

    def _forward(self, model: SequenceModel, inputs: Tensor, place: Tensor) -> Tensor:
        self.meter.count_inputs(inputs, FORWARD_SHARE)
        return model.hidden(inputs)[place]

    def _batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        items, forgotten = self.items[rows], self.forgotten[rows]
        if self.settings.mask_all_forgotten:
            return items.masked_fill(forgotten, self.model.num_items + 1), forgotten, items[forgotten]
        return *self._last(items), items[:, -1]

    def _last(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (B, L) to predict the last of ``items`` (B, n+1), and their last position."""
        inputs = self.model.prediction_inputs(items[:, :-1])
        place = torch.zeros_like(inputs, dtype=torch.bool)
        place[:, -1] = True
        return inputs, place

    @staticmethod
    def _queries(request: Partition) -> tuple[Tensor, Tensor, Tensor]:
        """Items (F, n+1), the forgotten one last, where it stands, and users (F,)."""
        queries = request.forget_queries()
        if not len(queries):
            raise DataError("no forgotten event has a context to ascend on; use retrain for this request")
        items = questions(queries, request.data.max_length)
        forgotten = torch.zeros_like(items, dtype=torch.bool)
        forgotten[:, -1] = True
        return items, forgotten, torch.from_numpy(queries.user.astype("int64"))

    @staticmethod
    def _windows(request: Partition) -> tuple[Tensor, Tensor, Tensor]:
        """Items (F, n+1) of the training windows with a forgotten event, where these are, and users (F,)."""
        data, train = request.data, request.data.role == Role.TRAIN
        user = data.user[train]
        offsets = np.searchsorted(user, np.arange(data.num_users + 1)).astype(np.int64)
        start, stop, _ = cut(offsets, data.max_length, data.drop_short)
        width = data.max_length + 1
        items = torch.from_numpy(pad(data.item[train], start, stop, width).astype("int64"))
        forgotten = torch.from_numpy(pad(request.forget[train].astype("int32"), start, stop, width)) > 0
        some = forgotten.any(1)
        if not some.any():
            raise DataError("no forgotten event is in a training window; use retrain for this request")
        return items[some], forgotten[some], torch.from_numpy(user[start].astype("int64"))[some]


class Level:
    """Where never-seen events that are comparable to the forgotten ones stand: (N,) of ``rank_logit``.

    Under the model as it is at about that step, so that what unlearning costs it as a whole is in both: a Retrain, too,
    ranks both alike, and both a little lower than the original does.
    """

    def __init__(self, ascent: Ascent, request: Partition) -> None:
        self.ascent = ascent
        rng = numpy_stream(ascent.streams.seed, "level")
        unseen = comparable(request, request.forget_queries(), PARTNERS, rng)[1]
        items = torch.cat([questions(queries, request.data.max_length) for queries in unseen])
        if not len(items):
            raise DataError(
                "unlearn.sruga.ascent: level needs never-seen events comparable to the forgotten ones, and there is "
                "none; use ga"
            )
        self.items = items[rng.permutation(len(items))[:MAX_NEVER_SEEN]].to(ascent.streams.device)  # (N, n+1)
        self.value, self.steps = self.items.new_zeros(0), 0  # measured before the first step
        with ascent.meter.running():
            fixed = ascent.fixed_states is not None
            self.fixed_states = ascent.states(ascent.original, self.items) if fixed else None  # (N, D)

    def next(self) -> Tensor:
        """Of the next step."""
        if self.steps % REFRESH == 0:
            self._measure()
        self.steps += 1
        return self.value

    def restore(self, value: Tensor, steps: int) -> None:
        """Go on after ``steps`` with what was measured last."""
        self.value, self.steps = value.to(self.items.device), steps

    @torch.no_grad()
    def _measure(self) -> None:
        ascent, model = self.ascent, self.ascent.model
        training = model.training
        model.eval()
        states = ascent.states(model, self.items) if self.fixed_states is None else self.fixed_states
        parts = zip(*(part.split(ascent.settings.batch_size) for part in (states, self.items[:, -1])), strict=True)
        self.value = torch.cat([ascent.standing(model, *part) for part in parts])
        model.train(training)


class Fitted:
    """What the states say, asked by a table that is fitted to them, as somebody with the file could fit one.

    By their own table alone, rows would move, and states would keep what they hold.
    """

    def __init__(self, ascent: Ascent, request: Partition, table: Tensor, wanted: Tensor) -> None:
        """``table`` (V, D) is fitted to Original's states, ``wanted`` (F,) the levels by it."""
        self.ascent, self.request, self.wanted = ascent, request, wanted
        self.table, self.steps, self.scratch = table, 0, Scratch()

    def loss(self, rows: Tensor, state: Tensor, targets: Tensor) -> Tensor:
        """Mean distance of forgotten events ``rows`` (B,) from their levels by the table, with ``state`` (B, D)."""
        if self.steps and self.steps % REFIT == 0:
            self._fit()
        self.steps += 1
        self.ascent.meter.count(scored_positions=len(targets))
        return (rank_logit(self.table, state, targets, self.scratch) - self.wanted[rows]).abs().mean()

    def restore(self, table: Tensor, steps: int) -> None:
        """Go on after ``steps`` with the table that was fitted last."""
        self.table, self.steps = table.to(self.wanted.device), steps

    def _fit(self) -> None:
        ascent, model = self.ascent, self.ascent.model
        training = model.training
        model.eval()
        self.table, positions = fitted_table(model, self.request, ascent.streams.seed, self.wanted.device)
        model.train(training)
        ascent.meter.count_look(positions, 0)
