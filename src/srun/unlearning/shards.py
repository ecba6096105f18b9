"""Training from scratch on what a shard retains: what Retrain (one shard) and SISA share."""

from srun.data.partition import Partition
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer
from srun.training.fit import Fit, Watch
from srun.training.shards import Shards, ShardTraining, train_shard
from srun.unlearning.base import Context, Original, catalogue_mask


def retrain_shard(
    original: Original, request: Partition, context: Context, shards: Shards, shard: int, first: int = 0
) -> tuple[SequenceModel, list[Fit]]:
    """Train the model of a shard on the retain set of its users, with the original's recipe and caps.

    From scratch, or from the state that the original kept before its slice ``first``.
    """
    catalogue = catalogue_mask(request, context)
    resume = context.resume.child(f"shard-{shard}")

    def watch(last: int) -> Watch:
        users = shards.users(shard, last) if shards.number > 1 else None
        return Watch(
            validate=lambda model: context.probe(Scorer([model], catalogue), "validation", users),
            observe=lambda model: context.probe(Scorer([model], catalogue), "forget_tune", users),
            on_epoch=context.on_epoch,
            resume=resume if shards.slices == 1 else resume.child(f"slice-{last}"),
            validation_positions=context.probe.positions("validation", users),
        )

    training = ShardTraining(
        description=original.description,
        recipe=original.recipe,
        seed=shards.training_seed(shard, context.seed),
        data=lambda last: shards.data(request.data, request.retain, shard, request.catalogue, context.device, last),
        watch=watch,
    )
    model, fits, _ = train_shard(shards, shard, training, original.parts, first)
    return model, fits
