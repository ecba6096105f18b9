"""SRUGA's three terms: ascent on forgotten events, KL to the original and fine-tuning on the retain set ([T] 3.4).

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
from srun.data.sequences import Queries, cut, pad
from srun.errors import DataError
from srun.models.base import SequenceModel
from srun.requests.partition import Partition
from srun.rng import Streams, numpy_stream
from srun.system.meter import FORWARD_SHARE, Meter
from srun.training.fit import TrainConfig, target_loss
from srun.training.losses import ce
from srun.unlearning.sruga.catalogue import kl, rank_logit
from srun.unlearning.sruga.comparable import comparable
from srun.unlearning.sruga.settings import SRUGAConfig

PARTNERS = 2
"""Never-seen events for each forgotten one whose ranks are the level of ``level``: forward passes, which count a third,
against noise of what is aimed at."""
MAX_NEVER_SEEN = 8192
"""So many of them at most."""
REFRESH = 32
"""Steps after which the level is measured anew."""


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


def kl_loss(log_p: Tensor, log_p_original: Tensor) -> Tensor:
    """L_KL (B,) = sum of p_A * log(p_A / p) ([T] eq. 6), forward; entries of -inf in both count nothing."""
    p_original = log_p_original.exp()
    return torch.where(p_original > 0, p_original * (log_p_original - log_p), 0.0).sum(-1)


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
    ) -> None:
        self.settings, self.model, self.original, self.recipe = settings, model, original, recipe
        self.streams, self.meter = streams, meter
        make = self._windows if settings.mask_all_forgotten else self._queries
        self.items, self.forgotten, self.users = (part.to(streams.device) for part in make(request))
        self.rows = Cycle(len(self.items), settings.batch_size, streams["forget"])
        with meter.running():
            self.readout = self.states(original, self.items) if settings.update == "readout" else None  # (F, D)
        self.level = Level(self, request) if settings.ascent == "level" else None
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
        inputs, place, targets = self._batch(rows)  # (B, L), (B, L), (T,)
        if self.readout is None:
            self.meter.count_inputs(inputs)
            state = self.model.hidden(inputs)[place]  # (T, D)
        else:
            state = self.readout[rows]
        if self.level is not None:
            return level_loss(self.standing(self.model, state, targets), self.level.next()).mean()
        log_p = self._log_p(self.model, state, targets)
        if self.settings.ascent == "npo":
            with torch.no_grad():
                frozen = self._forward(self.original, inputs, place) if self.readout is None else state
                log_p_original = self._log_p(self.original, frozen, targets)
            return npo_loss(log_p, log_p_original, self.settings.npo_beta).mean()
        if self.negatives is not None:
            users = self.users[rows][:, None].expand_as(place)[place]
            drawn = self.negatives.negatives(users, self.recipe.num_negatives, self.streams["ascent_negatives"])
            log_p = log_p + reversed_negatives(self.model, state, drawn)
        return log_p.mean()

    def skip(self) -> None:
        """Pass over a batch without a look, so that other draws stay as they are."""
        self.rows.next()

    def _log_p(self, model: SequenceModel, state: Tensor, targets: Tensor) -> Tensor:
        self.meter.count(scored_positions=len(targets) if self.recipe.loss == "ce" else 0)
        return ascent_loss(model, state, targets, self.recipe.loss)

    def standing(self, model: SequenceModel, state: Tensor, targets: Tensor) -> Tensor:
        """(T,) of ``rank_logit``."""
        self.meter.count(scored_positions=len(targets))
        return rank_logit(model, state, targets)

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
        items = _questions(queries, request)
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
        items = torch.cat([_questions(queries, request) for queries in unseen])
        if not len(items):
            raise DataError(
                "unlearn.sruga.ascent: level needs never-seen events comparable to the forgotten ones, and there is "
                "none; use ga"
            )
        self.items = items[rng.permutation(len(items))[:MAX_NEVER_SEEN]].to(ascent.streams.device)  # (N, n+1)
        self.value, self.steps = self.items.new_zeros(0), 0  # measured before the first step
        with ascent.meter.running():
            self.readout = None if ascent.readout is None else ascent.states(ascent.original, self.items)  # (N, D)

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
        states = ascent.states(model, self.items) if self.readout is None else self.readout
        parts = zip(*(part.split(ascent.settings.batch_size) for part in (states, self.items[:, -1])), strict=True)
        self.value = torch.cat([ascent.standing(model, *part) for part in parts])
        model.train(training)


def _questions(queries: Queries, request: Partition) -> Tensor:
    """(Q, n+1) histories, and last the item that is asked for."""
    histories = torch.from_numpy(queries.histories(request.data.max_length).astype("int64"))
    return torch.cat([histories, torch.from_numpy(queries.target.astype("int64"))[:, None]], 1)


@dataclass(frozen=True)
class _Pass:
    """A batch of retain windows and what a model makes of it."""

    users: Tensor
    """(B,)"""
    targets: Tensor
    """(B, L) of fine-tuning, 0 where there is none."""
    hidden: Tensor
    """(B, L, D) states that predict ``targets``, if fine-tuning asks for them."""
    asked: Tensor
    """(B, L) inputs that KL asks for."""
    states: Tensor
    """(B, L, D) states of ``asked``: ``hidden`` itself where one pass serves both."""

    def rows(self, rows: Tensor) -> "_Pass":
        return _Pass(*(part[rows] for part in vars(self).values()))

    @staticmethod
    def join(parts: list["_Pass"]) -> "_Pass":
        """One of all rows; shorter ones get padding in front."""
        return _Pass(*(_stacked(list(same)) for same in zip(*(vars(part).values() for part in parts), strict=True)))


def _stacked(parts: list[Tensor]) -> Tensor:
    """(sum of B, ...) of tensors (B,), (B, L) or (B, L, D) with an L of their own."""
    if parts[0].dim() == 1:
        return torch.cat(parts)
    width = max(part.shape[1] for part in parts)
    return torch.cat(
        [torch.cat([part.new_zeros(len(part), width, *part.shape[2:])[:, part.shape[1] :], part], 1) for part in parts]
    )


class Remaining:
    """L_KL and L_FT over batches of the retain set, in one pass where the model allows it.

    With ``retain_sample`` the windows are a sample, drawn once; under ``readout`` their states are computed once, too.
    """

    def __init__(
        self,
        settings: SRUGAConfig,
        model: SequenceModel,
        original: SequenceModel,
        data: TrainingData,
        recipe: TrainConfig,
        streams: Streams,
        meter: Meter,
        separate: bool,
    ) -> None:
        self.settings, self.model, self.original, self.recipe = settings, model, original, recipe
        self.data, self.streams, self.meter, self.separate = data, streams, meter, separate
        self.readout = settings.update == "readout"
        drawn = numpy_stream(streams.seed, "retain_sample").permutation(len(data))[: settings.retain_sample]
        self.sample = torch.from_numpy(drawn).to(data.device)  # (S,) windows
        self.rows = Cycle(len(self.sample), settings.retain_batch_size, streams["retain"])
        self.kept = self._keep() if self.readout and settings.retain_sample is not None else None

    def losses(self, kl: bool, finetune: bool) -> dict[str, Tensor]:
        """Mean losses of the next batch, by name; nothing is drawn where neither is wanted."""
        if not (kl or finetune):
            return {}
        rows = self.rows.next().to(self.data.device)
        batch = self._pass(self.sample[rows], kl, finetune) if self.kept is None else self.kept.rows(rows)
        terms: dict[str, Tensor] = {}
        if finetune:
            users, targets = batch.users, batch.targets
            loss = target_loss(self.model, batch.hidden, targets, users, self.data, self.recipe, self.streams)
            terms["finetune"] = loss.mean()
            self.meter.count(scored_positions=len(loss) if self.recipe.loss == "ce" else 0)
        if kl:
            terms["kl"] = self._kl(batch.asked, batch.states, batch.targets)
        return terms

    def _keep(self) -> _Pass | None:
        """The states of the whole sample; None where no term asks for any."""
        kl, finetune = self.settings.kl_weight > 0, self.settings.finetune_weight > 0
        if not (kl or finetune):
            return None
        with self.meter.running():
            batches = self.sample.split(self.settings.retain_batch_size)
            return _Pass.join([self._pass(rows, kl, finetune) for rows in batches])

    def _pass(self, rows: Tensor, kl: bool, finetune: bool) -> _Pass:
        """What the terms wanted need of the windows ``rows`` (B,): one pass for both where the model allows it."""
        windows, users = self.data.batch(rows)
        inputs, targets = self.model.training_pairs(windows, self.streams["cloze"])
        # a cloze pass may show the last item and hides others: KL at the last position then has a pass of its own
        own_pass = kl and not self.model.next_item and not self._kl_at_targets
        asked = self.model.last_item_inputs(windows) if own_pass else inputs
        states = self._states(asked)
        hidden = self._states(inputs) if finetune and own_pass else states
        if kl and finetune and not own_pass and self.separate and not self.readout:
            self.meter.count_inputs(inputs, 1 - FORWARD_SHARE)  # it is gone through backwards once for each
        return _Pass(users, targets, hidden, asked, states)

    @property
    def _kl_at_targets(self) -> bool:
        return self.settings.kl_items == "targets" or self.settings.kl_positions == "targets"

    def _kl(self, inputs: Tensor, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean L_KL () of states ``hidden`` (B, L, D): over rows, or over targets with ``kl_positions`` targets."""
        teacher = hidden
        if not self.readout:
            self.meter.count_inputs(inputs, FORWARD_SHARE)
            with torch.no_grad():
                teacher = self.original.hidden(inputs)
        if self.settings.kl_items == "targets":  # [T] to the letter: each target scored at its own position
            # (for a cloze model these are the masked items of the fine-tuning pass)
            student = self._target_scores(self.model, hidden, targets)
            with torch.no_grad():
                frozen = self._target_scores(self.original, teacher, targets)
            return kl_loss(student.log_softmax(-1), frozen.log_softmax(-1)).mean()
        place = targets != 0
        state, teacher = (  # (T, D) or (B, D)
            part[place] if self._kl_at_targets else part[:, -1] for part in (hidden, teacher)
        )
        items = self._sampled_items()
        if items is None:
            self.meter.count(scored_positions=2 * len(state))
            return kl(self.model, state, self.original, teacher)
        student = state @ self.model.output_weight[items].T  # (T, N) or (B, N)
        with torch.no_grad():
            frozen = teacher @ self.original.output_weight[items].T
        return kl_loss(student.log_softmax(-1), frozen.log_softmax(-1)).mean()

    @staticmethod
    def _target_scores(model: SequenceModel, hidden: Tensor, targets: Tensor) -> Tensor:
        """(B, L) scores of the targets of a window, over which its softmax is; -inf where there is none."""
        scores = model.item_scores(hidden.flatten(0, 1), targets.flatten()).view(targets.shape)
        return scores.masked_fill(targets == 0, float("-inf"))

    def _sampled_items(self) -> Tensor | None:
        """(N,) items drawn anew for each step, the same for every row and for both models; None without a sample."""
        if isinstance(self.settings.kl_items, str):
            return None
        generator, number = self.streams["kl_items"], self.settings.kl_items
        return torch.randperm(self.model.num_items, generator=generator, device=generator.device)[:number] + 1

    def _states(self, inputs: Tensor) -> Tensor:
        """(B, L, D) states: under ``readout`` those of the original."""
        self.meter.count_inputs(inputs, FORWARD_SHARE if self.readout else 1.0)
        with torch.set_grad_enabled(not self.readout):
            return (self.original if self.readout else self.model).hidden(inputs)
