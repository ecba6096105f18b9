"""No unlearning at all: the row that every other is compared with."""

from srun.requests.partition import Partition
from srun.unlearning.base import Context, NothingConfig, Original, Result, Unlearner


class KeepOriginal(Unlearner[NothingConfig]):
    """Returns the original as it is."""

    Config = NothingConfig
    title = "Original"
    role = "original"
    colour, marker = "#333333", "s"
    about = "trained on everything, nothing removed"
    file_holds = "original"

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        return Result(original.scorer, context.meter.read())
