"""Control: fine-tuning on the retain set alone. It keeps utility, and shows how much is forgotten without ascent."""

from typing import Annotated

from pydantic import Field

from srun.config import config
from srun.requests.partition import Partition
from srun.unlearning.base import Context, Original, Result, Unlearner
from srun.unlearning.sruga.settings import SRUGAConfig
from srun.unlearning.sruga.steps import carry_out


@config
class FinetuneOnlyConfig:
    """SRUGA's settings without the ascent."""

    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)]
    clip_norm: Annotated[float, Field(gt=0)]
    max_epochs: Annotated[int, Field(ge=1)]
    evaluate_every: Annotated[int, Field(ge=1)]
    unlearn_dropout: bool


class FinetuneOnly(Unlearner[FinetuneOnlyConfig]):
    """SRUGA with eta_GA = eta_KL = 0, for as many steps as passes over the forget set would take."""

    Config = FinetuneOnlyConfig
    title = "Fine-tune only"
    role = "control"
    colour, marker = "#009E73", "P"
    about = "training goes on without the forgotten events, and nothing is done against them"
    one_model = True
    file_holds = "states"

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        self.require(original, request)
        settings = SRUGAConfig(
            ascent_weight=0.0,
            kl_weight=0.0,
            finetune_weight=1.0,
            ascent="ga",
            level="pooled",
            level_from="retained",
            npo_beta=1.0,
            ascent_negatives=False,
            mask_all_forgotten=False,
            kl_items="all",
            finetune_items="all",
            kl_positions="last",
            update="all",
            retain_batch_size=self.settings.batch_size,
            retain_sample=None,
            max_steps=None,
            stop="fixed",
            patience=1,
            anneal="none",
            anneal_what="learning_rate",
            anneal_epochs=1,
            anneal_floor=1.0,
            weighting="fixed",
            weighting_rate=1.0,
            states_weight=0.0,
            rows=None,
            **vars(self.settings),
        )
        return carry_out(settings, original, request, context)
