"""SISA: users in shards, a model each, scores averaged; a request retrains the shards it touches ([T] 3.4.5).

The shard models on all data must exist before a request: they are an Original with several shards, and its cost is
reported as such, apart from the request's.
"""

from typing import Literal

import numpy as np

from srun.config import config
from srun.data.partition import Partition
from srun.errors import CheckpointError
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer
from srun.training.shards import add_costs
from srun.unlearning.base import Context, Original, Result, Unlearner, catalogue_mask
from srun.unlearning.shards import retrain_shards


@config
class SISAConfig:
    """Which shards a request retrains."""

    retrain: Literal["touched", "all"]
    """``touched``: those with a forgotten event. ``all``: the worst case, as [T] reports it."""


class SISA(Unlearner[SISAConfig]):
    """Retrain touched shards on what they retain, each stopped by the validation of its own users."""

    Config = SISAConfig
    from_scratch = True

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        shards = original.shards(request.data)
        if shards.number == 1:
            raise CheckpointError(
                "SISA needs an Original trained in shards: set its shards in params.yaml, such as originals.sasrec-sisa"
            )
        touched = np.unique(shards.of_user[request.affected])
        chosen = range(shards.number) if self.settings.retrain == "all" else touched.tolist()
        models: list[SequenceModel] = list(original.scorer.models)
        retrained = retrain_shards(original, request, context, shards, chosen)
        for shard, (model, _) in zip(chosen, retrained, strict=True):
            models[shard] = model
        fits = [fit for _, fit in retrained]
        info = {"shards_retrained": len(fits), "shards": shards.number}
        return Result(Scorer(models, catalogue_mask(request, context)), add_costs([fit.cost for fit in fits]), [], info)
