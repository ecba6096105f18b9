"""Control: nothing is unlearned, the forgotten items are only never shown. It makes suppression look perfect."""

import torch

from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.unlearning.base import Context, NothingConfig, Original, Result, Unlearner


class OutputMask(Unlearner[NothingConfig]):
    """Scores of -inf: for a user's forgotten items, or, for a category, for its items and everybody it concerns."""

    Config = NothingConfig
    title = "Output mask"
    role = "control"
    masks_only = True
    colour, marker = "#8A8A8A", "X"
    about = "hides the forgotten items from the lists and changes no weight: a Hit of 0, nothing unlearned"
    kinds = ("interactions", "category")
    file_holds = "original"

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        masked = torch.from_numpy(request.masked_pairs).to(context.device)
        scorer = Scorer(original.scorer.models, original.scorer.catalogue, masked)
        return Result(scorer, context.meter.read())
