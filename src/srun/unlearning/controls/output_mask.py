"""Control: nothing is unlearned, the forgotten items are only never shown. It makes suppression look perfect."""

import torch

from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.training.fit import Cost
from srun.unlearning.base import Context, NothingConfig, Original, Result, Unlearner


class OutputMask(Unlearner[NothingConfig]):
    """Scores of -inf: for a user's forgotten items, or, for a category, for its items and everybody it concerns."""

    Config = NothingConfig
    kinds = ("interactions", "category")

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        masked = torch.from_numpy(request.masked_pairs).to(context.device)
        return Result(Scorer(original.scorer.models, original.scorer.catalogue, masked), Cost())
