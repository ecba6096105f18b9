"""SRUGA: gradient ascent on the forget set, KL to the frozen original and fine-tuning on the retain set ([T] 3.4)."""

from srun.data.partition import Partition
from srun.errors import DataError
from srun.unlearning.base import Context, Original, Result, Unlearner
from srun.unlearning.sruga_settings import SRUGAConfig
from srun.unlearning.steps import carry_out


class SRUGA(Unlearner[SRUGAConfig]):
    """theta <- theta - grad(w_GA L_GA + w_KL L_KL + w_FT L_FT), clipped, by Adam ([T] eq. 8).

    Deviation: the gradient norm is clipped to ``clip_norm``, for which [T] gives no number.
    Deviation: [T] anneals "the unlearning rate", "the learning rate" and "the weight of gradient ascent" without
    telling them apart, and calls Adam's rate of 1e-4 the unlearning rate. Here that is ``learning_rate``, and
    ``unlearning_rate`` that of the unlearning within it, so that no two names do the same (see ``anneal_what``).
    """

    Config = SRUGAConfig

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        if self.settings.ascent == "level" and request.kind == "category":
            raise DataError(
                "unlearn.sruga.ascent: level is not defined for a category, whose items others have taught; use ga "
                "or npo"
            )
        return carry_out(self.settings, original, request, context)
