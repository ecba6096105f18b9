"""Control: nothing is unlearned, the forgotten items are only never shown. It makes suppression look perfect."""

import numpy as np
import torch

from srun.data.partition import Partition
from srun.models.scorer import Scorer
from srun.training.fit import Cost
from srun.unlearning.base import Context, Original, Result, Unlearner
from srun.unlearning.original import NothingConfig

EVERYBODY = -1


class OutputMask(Unlearner[NothingConfig]):
    """Scores of -inf: for a user's forgotten items, or, for a category, for its items and everybody it concerns."""

    Config = NothingConfig
    kinds = ("interactions", "category")

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        data = request.data
        if request.kind == "category" and request.info["request"]["users"] is None:
            items = np.unique(data.item[request.removed])
            pairs = np.stack([np.full(len(items), EVERYBODY), items], axis=1)
        else:
            pairs = np.unique(np.stack([data.user[request.removed], data.item[request.removed]], axis=1), axis=0)
        masked = torch.from_numpy(pairs.astype(np.int64)).to(context.device)
        return Result(Scorer(original.scorer.models, original.scorer.catalogue, masked), Cost())
