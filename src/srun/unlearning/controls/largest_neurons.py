"""Control: as many neurons as attribution edits, those most active before the category's targets."""

import numpy as np
import torch
from torch import Tensor

from srun.models.base import SequenceModel
from srun.requests.partition import Partition
from srun.rng import numpy_stream
from srun.system.meter import FORWARD_SHARE, Meter
from srun.unlearning.attribution.integrated_gradients import neuron_values
from srun.unlearning.attribution.neurons import Neuron, as_edits
from srun.unlearning.attribution.privacy import edited_result, find_sequences
from srun.unlearning.base import Context, Original, Result, Unlearner
from srun.unlearning.controls.random_neurons import RandomNeuronsConfig, num_edited


class LargestNeurons(Unlearner[RandomNeuronsConfig]):
    """Scale down the neurons with the largest mean absolute activation, on a draw of the sequences attribution sees."""

    Config = RandomNeuronsConfig
    title = "Largest neurons"
    role = "control"
    colour, marker = "#B8A000", "d"
    about = "as many neurons zeroed, the most active"
    kinds = ("category",)
    one_model = needs_neurons = True
    file_holds = "original"

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        self.require(original, request)
        with context.meter.running():
            number = num_edited(self.settings, original, request, context)
            neurons = most_active(original.model, request, context.seed, context.meter)[:number]
        return edited_result(original, as_edits(sorted(neurons), self.settings.scale), context.meter)


def most_active(model: SequenceModel, request: Partition, seed: int, meter: Meter) -> list[Neuron]:
    """All neurons by mean absolute activation before the category's training targets of find users, largest first.

    The sequences are drawn with replacement by ``seed``, so that draws differ as those of other users would.
    """
    rows = np.unique(np.concatenate(list(find_sequences(request, None, seed).values())))
    drawn = numpy_stream(seed, "largest-neurons").choice(rows, len(rows))
    histories = torch.from_numpy(request.queries("forget_tune").select(drawn).histories(model.max_length))
    histories = histories.long().to(model.embedding.weight.device)
    meter.count_inputs(histories, FORWARD_SHARE)
    mean: Tensor = neuron_values(model, histories).abs().mean(0)
    width = mean.shape[1]
    return [Neuron(*divmod(index, width)) for index in mean.flatten().argsort(descending=True, stable=True).tolist()]
