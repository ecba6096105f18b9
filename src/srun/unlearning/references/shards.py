"""Training from scratch on what a shard retains: what Retrain (one shard) and SISA share."""

from collections.abc import Mapping
from functools import partial

from srun.models.base import SequenceModel
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.training.fit import Fit, Watch
from srun.training.shards import Shards, ShardTraining, train_shards
from srun.unlearning.base import Context, Original, catalogue_mask


def retrain_shards(
    original: Original, request: Partition, context: Context, shards: Shards, starts: Mapping[int, int]
) -> list[tuple[SequenceModel, list[Fit]]]:
    """Train shards' models on the retain set of their users, with the original's recipe and caps.

    ``starts`` has, by shard, the slice to start from: 0 from scratch, else from the state that the original kept.
    """
    catalogue = catalogue_mask(request, context)

    def training(shard: int, first: int) -> ShardTraining:
        resume = context.resume.child(f"shard-{shard}")

        def watch(last: int) -> Watch:
            users = shards.users(shard, last) if shards.number > 1 else None
            return Watch(
                validate=lambda model: context.probe(Scorer([model], catalogue), "validation", users),
                observe=lambda model: context.probe(Scorer([model], catalogue), "forget_tune", users),
                on_epoch=context.on_epoch,
                resume=resume if shards.slices == 1 else resume.child(f"slice-{last}"),
                validation_positions=context.probe.positions("validation", users),
                validation_queries=context.probe.queries("validation", users),
            )

        windows = partial(shards.data, request.data, request.retain, shard, request.catalogue, context.device)
        return ShardTraining(
            shard, original.description, shards.training_seed(shard, context.seed), windows, watch, first
        )

    trainings = [training(shard, first) for shard, first in starts.items()]
    trained = train_shards(shards, trainings, original.recipe, original.parts, context.together)
    return [(model, fits) for model, fits, _ in trained]
