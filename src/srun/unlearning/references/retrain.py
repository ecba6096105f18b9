"""Retrain: the reference. A new model, trained from scratch on the retain set with the original's recipe and caps."""

from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.training.shards import Shards
from srun.unlearning.base import Context, NothingConfig, Original, Result, Unlearner, catalogue_mask
from srun.unlearning.references.shards import retrain_shards


class Retrain(Unlearner[NothingConfig]):
    """Train on the retain set as if the forgotten events had never been there: SISA with one shard."""

    Config = NothingConfig
    title = "Retrain"
    role = "reference"
    colour, marker = "#0072B2", "o"
    about = "trained from scratch without the forgotten events"
    from_scratch = True
    file_holds = "nothing"

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        everybody = Shards.draw(request.data.num_users, 1, context.seed)
        [(model, [fit])] = retrain_shards(original, request, context, everybody, {0: 0})
        scorer = Scorer([model], catalogue_mask(request, context))
        context.meter.include(fit.cost)
        return Result(scorer, context.meter.read(), fit.history, {"best_epoch": fit.best_epoch})
