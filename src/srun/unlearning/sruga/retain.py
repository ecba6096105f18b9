"""SRUGA's terms on the retain set: KL to the original and fine-tuning ([T] 3.4.2 and 3.4.3).

Shapes: B batch, L length, T targets, D hidden, N items, V catalogue, S sampled windows. theta is edited; theta_A is the
frozen original.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from srun.data.batches import Cycle, TrainingData
from srun.models.base import SequenceModel
from srun.rng import Streams, numpy_stream
from srun.system.meter import FORWARD_SHARE, Meter
from srun.training.fit import TrainConfig, target_loss
from srun.training.losses import sampled_ce
from srun.unlearning.sruga.catalogue import kl
from srun.unlearning.sruga.settings import SRUGAConfig

LENGTHS = 3
"""Parts of a batch, by length, that pass through the network one after the other."""


def kl_loss(log_p: Tensor, log_p_original: Tensor) -> Tensor:
    """L_KL (B,) = sum of p_A * log(p_A / p) ([T] eq. 6), forward; entries of -inf in both count nothing."""
    p_original = log_p_original.exp()
    return torch.where(p_original > 0, p_original * (log_p_original - log_p), 0.0).sum(-1)


@dataclass(frozen=True)
class _Pass:
    """A batch of retain windows and what a model makes of it."""

    users: Tensor
    """(B,)"""
    targets: Tensor
    """(B, L) of fine-tuning, 0 where there is none."""
    hidden: Tensor
    """(B, L, D) states that predict ``targets``, if fine-tuning asks for them."""
    kl_inputs: Tensor
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

    With ``retain_sample`` the windows are a sample, drawn once; under ``output_layer`` their states are computed once,
    too.
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
        self.states_fixed = settings.update == "output_layer"
        drawn = numpy_stream(streams.seed, "retain_sample").permutation(len(data))[: settings.retain_sample]
        self.sample = torch.from_numpy(drawn).to(data.device)  # (S,) windows
        self.rows = Cycle(len(self.sample), settings.retain_batch_size, streams["retain"])
        self.kept = self._keep() if self.states_fixed and settings.retain_sample is not None else None

    def losses(self, kl: bool, finetune: bool) -> dict[str, Tensor]:
        """Mean losses of the next batch, by name; nothing is drawn where neither is wanted."""
        if not (kl or finetune):
            return {}
        rows = self.rows.next().to(self.data.device)
        batch = self._passes(self.sample[rows], kl, finetune) if self.kept is None else self.kept.rows(rows)
        terms: dict[str, Tensor] = {}
        if finetune:
            terms["finetune"] = self._finetune(batch).mean()
        if kl:
            terms["kl"] = self._kl(batch.kl_inputs, batch.states, batch.targets)
        return terms

    def _finetune(self, batch: _Pass) -> Tensor:
        """Losses (T,) of fine-tuning: those of training, or sampled ones."""
        number, recipe, model = self.settings.finetune_items, self.recipe, self.model
        if isinstance(number, int) and number < len(self.data.candidates) and recipe.loss == "ce":
            place, drawn = batch.targets != 0, self.data.draw((number,), self.streams["finetune_items"])
            state, targets = batch.hidden[place], batch.targets[place]
            return sampled_ce(state, model.output_weight, targets, drawn, len(self.data.candidates))
        loss = target_loss(model, batch.hidden, batch.targets, batch.users, self.data, recipe, self.streams)
        self.meter.count(scored_positions=len(loss) if recipe.loss == "ce" else 0)
        return loss

    def _keep(self) -> _Pass | None:
        """The states of the whole sample; None where no term asks for any."""
        kl, finetune = self.settings.kl_weight > 0, self.settings.finetune_weight > 0
        if not (kl or finetune):
            return None
        with self.meter.running():
            batches = self.sample.split(self.settings.retain_batch_size)
            return _Pass.join([self._passes(rows, kl, finetune) for rows in batches])

    def _passes(self, rows: Tensor, kl: bool, finetune: bool) -> _Pass:
        """``_pass`` of windows alike in length, one part after the other: so little is padded."""
        ordered = rows[self.data.length[rows].argsort(stable=True)]
        return _Pass.join([self._pass(part, kl, finetune) for part in ordered.split(-(-len(rows) // LENGTHS))])

    def _pass(self, rows: Tensor, kl: bool, finetune: bool) -> _Pass:
        """What the terms wanted need of the windows ``rows`` (B,): one pass for both where the model allows it."""
        windows, users = self.data.batch(rows)
        inputs, targets = self.model.training_pairs(windows, self.streams["cloze"])
        # a cloze pass may show the last item and hides others: KL at the last position then has a pass of its own
        own_pass = kl and not self.model.next_item and not self._kl_at_targets
        kl_inputs = self.model.last_item_inputs(windows) if own_pass else inputs
        states = self._states(kl_inputs)
        hidden = self._states(inputs) if finetune and own_pass else states
        if kl and finetune and not own_pass and self.separate and not self.states_fixed:
            self.meter.count_inputs(inputs, 1 - FORWARD_SHARE)  # it is gone through backwards once for each
        return _Pass(users, targets, hidden, kl_inputs, states)

    @property
    def _kl_at_targets(self) -> bool:
        return self.settings.kl_items == "targets" or self.settings.kl_positions == "targets"

    def _kl(self, inputs: Tensor, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean L_KL () of states ``hidden`` (B, L, D): over rows, or over targets with ``kl_positions`` targets."""
        teacher = hidden
        if not self.states_fixed:
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
        """(B, L, D) states: under ``output_layer`` those of the original."""
        self.meter.count_inputs(inputs, FORWARD_SHARE if self.states_fixed else 1.0)
        with torch.set_grad_enabled(not self.states_fixed):
            return (self.original if self.states_fixed else self.model).hidden(inputs)
