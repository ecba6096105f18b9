"""Control: as many neurons as attribution edits, drawn at random. It shows what the choice of neurons is worth."""

from typing import Annotated

from pydantic import Field

from srun.config import config
from srun.requests.partition import Partition
from srun.rng import numpy_stream
from srun.unlearning.attribution.integrated_gradients import require_neurons
from srun.unlearning.attribution.neurons import Neuron, as_edits
from srun.unlearning.attribution.privacy import AttributionConfig, edited_result, edits_of, find_neurons
from srun.unlearning.base import Context, Original, Result, Unlearner


@config
class RandomNeuronsConfig(AttributionConfig):
    """Attribution's settings, which say how many neurons it would edit."""

    num_neurons: Annotated[int, Field(ge=0)] | None
    """How many; null: as many as attribution finds with these settings."""


class RandomNeurons(Unlearner[RandomNeuronsConfig]):
    """Scale down neurons drawn from those of all layers alike."""

    Config = RandomNeuronsConfig
    title = "Random neurons"
    role = "control"
    colour, marker = "#E69F00", "p"
    about = "as many neurons zeroed, drawn at random"
    kinds = ("category",)
    one_model = needs_neurons = True
    file_holds = "original"

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        self.require(original, request)
        with context.meter.running():
            number = num_edited(self.settings, original, request, context)
            blocks = require_neurons(original.model)
            width = blocks[0].outer.in_features
            drawn = numpy_stream(context.seed, "random-neurons").permutation(len(blocks) * width)[:number]
            neurons = sorted(Neuron(*divmod(int(index), width)) for index in drawn)
        return edited_result(original, as_edits(neurons, self.settings.scale), context.meter)


def num_edited(settings: RandomNeuronsConfig, original: Original, request: Partition, context: Context) -> int:
    """How many neurons the settings name, or how many attribution finds with them."""
    if settings.num_neurons is not None:
        return settings.num_neurons
    by_category = find_neurons(settings, original.model, request, context.seed, context.meter)
    return len(edits_of(by_category, settings.scale))
