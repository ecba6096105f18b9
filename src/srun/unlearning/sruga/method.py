"""SRUGA: gradient ascent on the forget set, KL to the frozen original and fine-tuning on the retain set ([T] 3.4)."""

from collections.abc import Iterator

from srun.requests.partition import Partition
from srun.unlearning.base import Context, FileHolds, Original, Result, Start, Unlearner
from srun.unlearning.sruga.settings import SRUGAConfig
from srun.unlearning.sruga.steps import carry_out


class SRUGA(Unlearner[SRUGAConfig]):
    """theta <- theta - grad(w_GA L_GA + w_KL L_KL + w_FT L_FT), clipped, by Adam ([T] eq. 8).

    Deviation: the gradient norm is clipped to ``clip_norm``, for which [T] gives no number.
    Deviation: [T] anneals "the unlearning rate", "the learning rate" and "the weight of gradient ascent" without
    telling them apart, and calls Adam's rate of 1e-4 the unlearning rate. Here that is ``learning_rate``, and
    ``unlearning_rate`` that of the unlearning within it, so that no two names do the same (see ``anneal_what``).
    """

    Config = SRUGAConfig
    title = "SRUGA"
    colour, marker = "#D55E00", "^"
    about = "gradient ascent, KL to Original and fine-tuning"
    one_model = True

    def faults(self, start: Start) -> Iterator[str]:
        yield from super().faults(start)
        settings = self.settings
        if settings.ascent == "level" and settings.level == "pooled" and start.kind == "category":
            yield (
                "unlearn.sruga.ascent: level is not defined for a category, whose items others have taught; use ga "
                "or npo, or level by_event"
            )
        if settings.stop == "match" and start.kind == "category":
            yield (
                "unlearn.sruga.stop: match needs never-seen events comparable to the forgotten ones, but those of "
                "other categories are not; use plateau or fixed"
            )
        if settings.ascent_negatives and start.recipe.loss == "ce":
            yield "unlearn.sruga.ascent_negatives: train.loss ce has no negatives; use it with bce or gbce"
        if settings.mask_all_forgotten and start.model.next_item:
            yield "unlearn.sruga.mask_all_forgotten: only a cloze model such as bert4rec has masks"

    @property
    def file_holds(self) -> FileHolds:
        """``output_layer``: of a tied model its input table is Original's table, and its states are Original's.

        Only a level by event on all weights takes single events out of the states.
        """
        if self.settings.update == "output_layer":
            return "original"
        return "nothing" if self.settings.by_event and self.settings.update == "all" else "states"

    @property
    def predicts_levels(self) -> bool:
        return self.settings.by_event

    @property
    def needs_crossfit(self) -> bool:
        return self.settings.by_event and self.settings.level_from == "crossfit"

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        self.require(original, request)
        return carry_out(self.settings, original, request, context)
