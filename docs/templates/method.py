"""A method to start from: copy it to src/srun/unlearning/shrink.py, list it in UNLEARNERS, give it a block.

The line in src/srun/unlearning/__init__.py, with its import: "shrink": Shrink,
The block under ``unlearn`` in params.yaml: shrink: {strength: 0.5}
"""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from srun.config import config
from srun.models.scorer import Scorer, clone_model
from srun.requests.partition import Partition
from srun.unlearning.base import Context, Original, Result, Unlearner


@config
class ShrinkConfig:  # its fields are the keys of the block: name, type, bounds, meaning, and no default
    strength: Annotated[float, Field(gt=0, le=1)]
    """How far an item moves: at 1 all the way."""


class Shrink(Unlearner[ShrinkConfig]):
    """Move the rows of forgotten items toward the mean row of the table that scores them."""

    Config = ShrinkConfig
    title, colour, marker = "Shrink", "#117733", "H"  # in tables, figures and on the page
    about, file_holds = "rows of forgotten items moved toward the mean", "states"  # held: nothing | states | original
    one_model = True  # see Unlearner for what else a method may need: kinds, needs_shards, needs_neurons

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        self.require(original, request)
        with context.meter.running():  # its time; meter.count(...) is for gradients, steps and scored positions
            model = clone_model(original.model).eval()  # the original stays as it is
            forgotten = torch.from_numpy(np.unique(request.data.item[request.forget])).long().to(context.device)
            table, mean = model.output_table.detach(), model.output_weight[1:].detach().mean(0)
            table[forgotten] = torch.lerp(table[forgotten], mean, self.settings.strength)
        return Result(Scorer([model]), context.meter.read())
