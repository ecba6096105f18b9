"""SISA: users in shards, a model each, scores averaged; a request retrains the shards it touches ([T] 3.4.5).

The shard models on all data must exist before a request: they are an Original with several shards, and its cost is
reported as such, apart from the request's. Where its shards have slices, it kept a state before each of them.
Shapes: S shards, D hidden, U users, V catalogue.
"""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from srun.config import config
from srun.models.base import SequenceModel
from srun.models.scorer import Aggregation, Scorer
from srun.requests.partition import Partition
from srun.training.fit import Fit
from srun.training.shards import Shards
from srun.unlearning.base import Context, Original, Result, Unlearner, catalogue_mask
from srun.unlearning.references.shards import retrain_shards


@config
class SISAConfig:
    """Which shards a request retrains, and how their models become one."""

    retrain: Literal["touched", "all"]
    """``touched``: those with a forgotten event, from its first slice on. ``all``: the worst case, as [T] has it."""
    aggregate: Literal["scores", "probabilities", "similarity"]
    """``scores``: their mean ([T]). ``probabilities``: the mean of the softmax over the catalogue. ``similarity``: a
    mean of scores, weighted by how near the history is to the shard's users."""
    temperature: Annotated[float, Field(gt=0)]
    """Of similarity: the smaller, the more the nearest shard counts."""


class SISA(Unlearner[SISAConfig]):
    """Retrain touched shards on what they retain, each stopped by the validation of its own users.

    A shard none of whose users has anything to forget stays as it is. Shards by similarity stay as they were drawn on
    all data: which shard a user is in may still tell of what was forgotten, as in the works that propose them.
    """

    Config = SISAConfig
    title = "SISA"
    colour, marker = "#56B4E9", "D"
    about = "shards retrained without the forgotten events"
    from_scratch = needs_shards = True
    file_holds = "nothing"

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        self.require(original, request)
        shards = original.shards(request.data)
        models: list[SequenceModel] = list(original.scorer.models)
        fits: list[Fit] = []
        starts = self._starts(shards, request)
        retrained = retrain_shards(original, request, context, shards, starts)
        for shard, (model, shard_fits) in zip(starts, retrained, strict=True):
            models[shard] = model
            fits += shard_fits
        for fit in fits:
            context.meter.include(fit.cost)
        info = {"shards_retrained": len(starts), "shards": shards.number}
        if shards.slices > 1:
            info |= {"slices_retrained": len(fits), "slices": shards.number * shards.slices}
        scorer = Scorer(models, catalogue_mask(request, context), None, self._aggregation(models, shards, request))
        return Result(scorer, context.meter.read(), [], info)

    def _starts(self, shards: Shards, request: Partition) -> dict[int, int]:
        """The slice to start from, by shard that is retrained."""
        if self.settings.retrain == "all":
            return dict.fromkeys(range(shards.number), 0)
        touched = np.unique(shards.of_user[request.affected]).tolist()
        return {shard: int(shards.slice_of_user[request.affected & shards.users(shard)].min()) for shard in touched}

    def _aggregation(self, models: list[SequenceModel], shards: Shards, request: Partition) -> Aggregation | None:
        kind = self.settings.aggregate
        if kind == "scores":
            return None
        centroids = shard_centroids(models, shards, request) if kind == "similarity" else None
        return Aggregation(kind, self.settings.temperature, centroids)


def shard_centroids(models: list[SequenceModel], shards: Shards, request: Partition) -> Tensor:
    """(S, D) the mean over a shard's users of the mean embedding of their retained items, by its own model."""
    data, retain = request.data, request.retain
    length = np.bincount(data.user[retain], minlength=data.num_users)  # (U,)
    rows = []
    for shard, model in enumerate(models):
        events = retain & shards.users(shard)[data.user]
        share = np.bincount(data.item[events], 1 / length[data.user[events]], minlength=len(model.embedding.weight))
        weights = torch.from_numpy(share / max(1, share.sum())).to(model.embedding.weight)
        rows.append(weights @ model.embedding.weight.detach())
    return torch.stack(rows)
