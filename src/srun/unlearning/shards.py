"""Training from scratch on what a shard retains: what Retrain (one shard) and SISA share."""

from collections.abc import Sequence

from srun.data.batches import TrainingData
from srun.data.partition import Partition
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer
from srun.training.fit import Fit, Watch
from srun.training.shards import Shards
from srun.training.together import Job, train_all
from srun.unlearning.base import Context, Original, catalogue_mask


def retrain_shards(
    original: Original, request: Partition, context: Context, shards: Shards, chosen: Sequence[int]
) -> list[tuple[SequenceModel, Fit]]:
    """Train the chosen shards' models from scratch on what their users retain, with the original's recipe and caps."""
    catalogue = catalogue_mask(request, context)

    def job(shard: int) -> Job:
        users = shards.users(shard) if shards.number > 1 else None
        watch = Watch(
            validate=lambda model: context.probe(Scorer([model], catalogue), "validation", users),
            observe=lambda model: context.probe(Scorer([model], catalogue), "forget_tune", users),
            on_epoch=context.on_epoch,
            resume=context.resume.child(f"shard-{shard}"),
            validation_positions=context.probe.positions("validation", users),
        )

        def data() -> TrainingData:
            return shards.data(request.data, request.retain, shard, request.catalogue, context.device)

        return Job(original.description, data, shards.training_seed(shard, context.seed), watch)

    return train_all([job(shard) for shard in chosen], original.recipe, context.together)
