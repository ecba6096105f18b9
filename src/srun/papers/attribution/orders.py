"""All neurons of a model in the orders that are compared: the paper's, ours, the most active, and one at random."""

import numpy as np

from srun.models.base import SequenceModel
from srun.requests.partition import Partition
from srun.rng import numpy_stream
from srun.system.meter import Meter
from srun.unlearning.attribution.integrated_gradients import require_neurons
from srun.unlearning.attribution.neurons import Neuron, most_shared
from srun.unlearning.attribution.plus import contrast
from srun.unlearning.attribution.privacy import AttributionConfig, attribute_queries, find_neurons
from srun.unlearning.controls.largest_neurons import most_active


def compared_orders(
    model: SequenceModel, split: Partition, paper: AttributionConfig, seed: int, max_outside: int
) -> dict[str, list[Neuron]]:
    """The orders by name; attributions outside are of at most ``paper.max_sequences`` targets, else ``max_outside``."""
    [inside, *_] = find_neurons(paper, model, split, seed, Meter()).values()
    mean = inside.attributions.values.mean(0)
    queries = split.queries("out_of_category_tune")
    # the stream's name is part of the draw: another one would change the figures
    drawn = numpy_stream(seed, "study-outside").permutation(len(queries))[: paper.max_sequences or max_outside]
    outside = attribute_queries(paper, model, queries.select(np.sort(drawn)), Meter()).values.mean(0)
    return {
        "shared": most_shared(inside.shared.at(paper.attribution_threshold), mean.numpy()),
        "joint": contrast(mean, outside, None),
        "largest": most_active(model, split, seed, Meter()),
        "random": random_order(model, seed),
    }


def random_order(model: SequenceModel, seed: int) -> list[Neuron]:
    """All neurons in an order drawn at random."""
    blocks = require_neurons(model)
    width = blocks[0].outer.in_features
    order = numpy_stream(seed, "random-neurons").permutation(len(blocks) * width)
    return [Neuron(*divmod(int(index), width)) for index in order]
