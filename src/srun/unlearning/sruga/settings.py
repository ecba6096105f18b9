"""SRUGA's settings: its block in params.yaml, and what they come to in an epoch."""

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field

from srun.config import config
from srun.unlearning.closed_form.levels import LevelFrom
from srun.unlearning.closed_form.rows import RowsConfig
from srun.unlearning.sruga.schedule import Anneal, annealed
from srun.unlearning.sruga.stopping import Stop
from srun.unlearning.sruga.weighting import Kind


@config
class SRUGAConfig:
    """The weights are eta_GA, eta_KL and eta_FT of [T] eq. 8; a weight of 0 costs no time."""

    ascent_weight: Annotated[float, Field(ge=0)]
    kl_weight: Annotated[float, Field(ge=0)]
    finetune_weight: Annotated[float, Field(ge=0)]
    ascent: Literal["ga", "npo", "level"]
    """``ga``: log p ([T] eq. 4). ``npo``: negative preference optimisation, which fades as p falls. ``level``:
    distance of their ranks from those of comparable never-seen events, so that it ends there."""
    level: Literal["pooled", "by_event"]
    """Of ascent level. ``pooled``: the distribution of matched never-seen events, whichever event is where in it.
    ``by_event``: where each event would stand, had it never been trained on, as the closed form predicts it."""
    level_from: LevelFrom
    """Of level by_event. ``crossfit``: cross-fitted models, whose table `srun levels` makes with levels.folds 2, and
    retained data. ``retained``: retained data alone."""
    states_weight: Annotated[float, Field(ge=0)]
    """Of level by_event: how much an event's level counts by a table that is fitted to the states on retained data,
    beside its level by the model's own table; 0: the states are not asked, and keep more of what they hold."""
    npo_beta: Annotated[float, Field(gt=0)]
    ascent_negatives: bool
    """The whole BCE reversed, negatives included; [T] tried and rejected it."""
    mask_all_forgotten: bool
    """BERT4Rec: all forgotten items of a window masked at once; [T] tried and rejected it."""
    kl_items: Literal["targets", "all"] | Annotated[int, Field(ge=2)]
    """``all``: softmax over the catalogue at the last position. ``targets``: [T] read to the letter. N: over N items
    drawn for each step."""
    finetune_items: Literal["all"] | Annotated[int, Field(ge=2)]
    """Of fine-tuning with train.loss ce. ``all``: softmax over the catalogue. N: sampled softmax, over the target and N
    items drawn for each step, with log q; a fraction of the time where catalogues are large. One of N items or fewer is
    scored whole."""
    kl_positions: Literal["last", "targets"]
    """``last``: where the last item of a window is predicted. ``targets``: wherever fine-tuning predicts, which is
    also where ``kl_items`` targets is always taken."""
    unlearn_dropout: bool
    update: Literal["all", "embeddings", "blocks", "output_layer"]
    """What may move: everything, the item embeddings alone, or everything else. ``output_layer``: a copy of the table
    that states are compared with; the states stay the original's, so no pass goes backwards through the network. Output
    layer only; not unlearning: the file holds Original."""
    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)]
    """Forgotten events of a step."""
    retain_batch_size: Annotated[int, Field(ge=1)]
    """Retain windows of a step."""
    retain_sample: Annotated[int, Field(ge=1)] | None
    """Retain windows, drawn once, that the steps go through; null: all. Under ``output_layer`` a sample's states are
    computed once."""
    clip_norm: Annotated[float, Field(gt=0)]
    max_epochs: Annotated[int, Field(ge=1)]
    """An epoch is one pass over the forget set; the retain loader cycles."""
    max_steps: Annotated[int, Field(ge=1)] | None
    """No epoch begins after so many steps; null: no limit. Weights move as far in as many steps, whatever the size of a
    request."""
    evaluate_every: Annotated[int, Field(ge=1)]
    stop: Stop
    """``plateau``: forget_tune Hit@10 has not fallen for ``patience`` epochs. ``fixed``: at the end.
    ``match``: forgotten events rank as comparable never-seen ones."""
    patience: Annotated[int, Field(ge=1)]
    anneal: Anneal
    anneal_what: Literal["unlearning_rate", "learning_rate", "ascent_weight"]
    """``learning_rate``: the step of all terms, until nothing moves. ``unlearning_rate``: the two terms that unlearn,
    ascent and KL, until training on the retain set is left. ``ascent_weight``: the ascent alone."""
    anneal_epochs: Annotated[int, Field(ge=1)] | None
    """null: all that ``max_epochs`` and ``max_steps`` allow."""
    anneal_floor: Annotated[float, Field(ge=0, le=1)]
    """Share of the value that is left after ``anneal_epochs``."""
    weighting: Kind
    """``fixed``: the weights above. ``uncertainty``: factors on them are learned. ``pcgrad``, ``mgda``: the terms'
    gradients without their conflicts, or the shortest mean of them."""
    weighting_rate: Annotated[float, Field(gt=0)]
    """Adam's rate for the factors of ``uncertainty``."""
    rows: RowsConfig | None
    """Of level by_event: after the steps, rows of forgotten items are solved for it, as the closed form does; null:
    not."""

    def __post_init__(self) -> None:
        active = [weight > 0 for weight in (self.ascent_weight, self.kl_weight, self.finetune_weight)]
        if not any(active):
            raise ValueError("all three weights are 0, so nothing would be done")
        if self.weighting in ("pcgrad", "mgda") and sum(active) < 2:
            raise ValueError(f"weighting {self.weighting} needs two weights above 0: one term has no conflict")
        if self.weighting == "uncertainty" and self.ascent == "ga" and self.ascent_weight:
            raise ValueError("weighting uncertainty needs ascent npo: the loss of ga has no lower bound")
        if self.ascent != "ga" and self.ascent_negatives:
            raise ValueError(f"ascent {self.ascent} has no negatives: set ascent_negatives to false, or ascent to ga")
        if self.ascent == "level" and self.mask_all_forgotten:
            raise ValueError("ascent level asks for one event at a time: set mask_all_forgotten to false")
        if self.update == "output_layer" and self.unlearn_dropout:
            raise ValueError("update output_layer takes the original's states: set unlearn_dropout to false")
        if self.update == "output_layer" and self.by_event and self.states_weight:
            raise ValueError("update output_layer leaves the states as they are: set states_weight to 0")
        if self.update == "output_layer" and self.mask_all_forgotten:
            raise ValueError("update output_layer asks for one event at a time: set mask_all_forgotten to false")
        if self.anneal == "exponential" and self.anneal_floor == 0:
            raise ValueError("anneal exponential never reaches an anneal_floor of 0: give one above")

    @property
    def by_event(self) -> bool:
        """Whether each forgotten event has a level of its own."""
        return self.ascent == "level" and self.level == "by_event"

    def in_epochs(self, num_batches: int) -> Self:
        """The settings with both ends told in epochs of ``num_batches`` steps."""
        end = self.max_epochs if self.max_steps is None else min(self.max_epochs, -(-self.max_steps // num_batches))
        return replace(self, max_epochs=end, anneal_epochs=self.anneal_epochs or end)

    def weights(self, epoch: int) -> dict[str, float]:
        """The weights of an epoch (from 0), by term."""
        factor = self._factor(epoch)
        ascent = factor if self.anneal_what in ("ascent_weight", "unlearning_rate") else 1.0
        kl = factor if self.anneal_what == "unlearning_rate" else 1.0
        return {
            "ascent": self.ascent_weight * ascent,
            "kl": self.kl_weight * kl,
            "finetune": self.finetune_weight,
        }

    def rate(self, epoch: int) -> float:
        """Adam's rate in an epoch (from 0)."""
        return self.learning_rate * (self._factor(epoch) if self.anneal_what == "learning_rate" else 1.0)

    def _factor(self, epoch: int) -> float:
        return annealed(epoch, self.anneal, self.anneal_epochs or self.max_epochs, self.anneal_floor)
