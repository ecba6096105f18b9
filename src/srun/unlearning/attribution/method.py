"""Gradient attribution: the neurons that a category's predictions share are found and set to zero ([A] 4)."""

from srun.requests.partition import Partition
from srun.unlearning.attribution.privacy import AttributionConfig, edited_result, edits_of, find_neurons
from srun.unlearning.base import Context, Original, Result, Unlearner


class Attribution(Unlearner[AttributionConfig]):
    """Find the neurons on find users' last training transitions into the category, and scale them down.

    Several categories are looked at one by one; a neuron that any of them shares is edited.
    """

    Config = AttributionConfig
    title = "Attribution"
    colour, marker = "#CC79A7", "v"
    about = "neurons of a category found and zeroed"
    kinds = ("category",)
    one_model = needs_neurons = True
    file_holds = "original"

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        self.require(original, request)
        with context.meter.running():
            by_category = find_neurons(self.settings, original.model, request, context.seed, context.meter)
            edits = edits_of(by_category, self.settings.scale)
        result = edited_result(original, edits, context.meter)
        result.info["categories"] = {name: one.describe() for name, one in by_category.items()}
        return result
