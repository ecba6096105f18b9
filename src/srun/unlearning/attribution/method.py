"""Gradient attribution: the neurons that a category's predictions share are found and set to zero ([A] 4)."""

import time

from srun.requests.partition import Partition
from srun.training.fit import Cost
from srun.unlearning.attribution.privacy import AttributionConfig, edited_result, edits_of, find_neurons
from srun.unlearning.base import Context, Original, Result, Unlearner


class Attribution(Unlearner[AttributionConfig]):
    """Find the neurons on find users' last training transitions into the category, and scale them down.

    Several categories are looked at one by one; a neuron that any of them shares is edited.
    """

    Config = AttributionConfig
    kinds = ("category",)
    one_model = needs_neurons = True

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        self.require(original, request)
        began = time.perf_counter()
        cost = Cost()
        found = find_neurons(self.settings, original.model, request, context.seed, cost)
        edits = edits_of(found, self.settings.scale)
        result = edited_result(original, edits, cost)
        cost.seconds = time.perf_counter() - began
        result.info["categories"] = {name: one.describe() for name, one in found.items()}
        return result
