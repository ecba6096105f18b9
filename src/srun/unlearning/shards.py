"""Training from scratch on what a shard retains: what Retrain (one shard) and SISA share."""

from srun.data.partition import Partition
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer
from srun.training.fit import Fit, Watch, train_new
from srun.training.shards import Shards
from srun.unlearning.base import Context, Original, catalogue_mask


def retrain_shard(
    original: Original, request: Partition, context: Context, shards: Shards, shard: int
) -> tuple[SequenceModel, Fit]:
    """Train the model of a shard from scratch on the retain set of its users, with the original's recipe and caps."""
    catalogue = catalogue_mask(request, context)
    users = shards.users(shard) if shards.number > 1 else None
    watch = Watch(
        validate=lambda model: context.probe(Scorer([model], catalogue), "validation", users),
        observe=lambda model: context.probe(Scorer([model], catalogue), "forget_tune", users),
        on_epoch=context.on_epoch,
        resume=context.resume.child(f"shard-{shard}"),
        validation_positions=context.probe.positions("validation", users),
    )
    data = shards.data(request.data, request.retain, shard, request.catalogue, context.device)
    return train_new(original.description, data, original.recipe, shards.training_seed(shard, context.seed), watch)
