"""Retrain: the reference. A new model, trained from scratch on the retain set with the original's recipe and caps."""

import torch

from srun.data.batches import TrainingData
from srun.data.partition import Partition
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer
from srun.training.fit import Watch, train_new
from srun.unlearning.base import Context, Original, Result, Unlearner
from srun.unlearning.original import NothingConfig


class Retrain(Unlearner[NothingConfig]):
    """Train on the retain set as if the forgotten events had never been there."""

    Config = NothingConfig
    from_scratch = True

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        catalogue = None if request.catalogue is None else torch.from_numpy(request.catalogue).to(context.device)

        def scorer(model: SequenceModel) -> Scorer:
            return Scorer([model], catalogue)

        data = TrainingData(request.data, request.retain, request.catalogue, context.device)
        watch = Watch(
            validate=lambda model: context.probe(scorer(model), "validation"),
            observe=lambda model: context.probe(scorer(model), "forget_tune"),
            on_epoch=context.on_epoch,
            resume=context.resume,
        )
        model, fit = train_new(original.description, data, original.recipe, context.seed, watch)
        return Result(scorer(model), fit.cost, fit.history, {"best_epoch": fit.best_epoch})
