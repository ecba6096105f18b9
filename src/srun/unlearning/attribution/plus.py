"""Attribution and what it takes to remove a category: more neurons, the items themselves, directions, a short repair.

Shapes: U neurons of a layer, Q queries, D hidden. The paper's method, as it is, stays ``attribution``. Every choice
looks at training transitions and validation targets of find users only.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from srun.config import config
from srun.data.batches import TrainingData
from srun.data.sequences import Queries
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer, clone_model
from srun.requests.partition import Partition, category_items
from srun.rng import Streams, numpy_stream
from srun.system.meter import FORWARD_SHARE, Meter
from srun.training.fit import make_optimiser, train_step
from srun.unlearning.attribution.erasure import Erasure, apply, mean_difference, project_out
from srun.unlearning.attribution.integrated_gradients import require_neurons
from srun.unlearning.attribution.neurons import Edit, Neuron, as_edits, edited
from srun.unlearning.attribution.privacy import AttributionConfig, attribute_queries, edits_of, find_neurons
from srun.unlearning.base import Context, FileHolds, Original, Result, Unlearner

INSIDE, OUTSIDE = "in_category_tune", "out_of_category_tune"
MAX_STATES = 1024  # validation targets of a side that a direction is estimated from
BATCH = 512


@config
class AttributionPlusConfig(AttributionConfig):
    """Attribution's settings, and one for each further step."""

    neurons: Literal["none", "shared", "joint"]
    """``shared``: attribution's own. ``joint``: those that the category needs more than other targets do, together as
    many as ``max_loss`` allows."""
    max_neurons: Annotated[int, Field(ge=0)]
    """Of ``joint``."""
    max_neurons_per_layer: Annotated[int, Field(ge=0)] | None
    """Of ``joint``; null: any number."""
    max_loss: Annotated[float, Field(ge=0, lt=1)]
    """Of ``joint``: the share of Hit@10 or NDCG@10 out of the category that they may cost find users' validation."""
    items: Literal["keep", "reset"]
    """``reset``: embeddings of items without a retained event are drawn anew."""
    directions: Annotated[int, Field(ge=0)]
    """How often the difference of mean states before targets in and out of the category is projected out."""
    finetune_steps: Annotated[int, Field(ge=0)]
    """Steps of the training recipe on the retain set, afterwards."""
    batch_size: Annotated[int, Field(ge=1)]
    """Windows of such a step."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Of these steps."""


class AttributionPlus(Unlearner[AttributionPlusConfig]):
    """Scale neurons, reset items, take out directions, then repair by a few steps of training on the retain set."""

    Config = AttributionPlusConfig
    title = "Attribution plus"
    colour, marker = "#882255", "<"
    about = "neurons, items and directions of a category erased, then a short repair"
    kinds = ("category",)
    one_model = needs_neurons = True

    @property
    def file_holds(self) -> FileHolds:
        """Items that are reset give nothing back: nobody keeps them, so there is nothing to fit a row on either."""
        return "nothing" if self.settings.items == "reset" else "original"

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        self.require(original, request)
        with context.meter.running():
            model = clone_model(original.model).eval()
            edits = tuple(_neurons(self.settings, model, request, context))
            items = forgotten_items(request) if self.settings.items == "reset" else ()
            erasure = Erasure(edits, items, context.seed)
            apply(model, erasure)
            directions = list(_directions(self.settings.directions, model, request, context))
            erasure = replace(erasure, directions=tuple(tuple(d.tolist()) for d in directions))
            _finetune(self.settings, model, original, request, context)
        scorer = Scorer([model], original.scorer.catalogue, original.scorer.masked)
        return Result(scorer, context.meter.read(), info=erasure.describe())


def forgotten_items(request: Partition) -> tuple[int, ...]:
    """The category's items that no retained event has: of a request of some users there may be none."""
    retained = np.zeros(request.data.num_items + 1, dtype=bool)
    retained[request.data.item[request.retain]] = True
    inside = category_items(request.data, request.info["request"]["categories"])
    return tuple(int(item) for item in np.flatnonzero(inside & ~retained) if item)


def contrast(inside: Tensor, outside: Tensor, max_per_layer: int | None) -> list[Neuron]:
    """Neurons whose share of the mean attribution (layers, U) is larger ``inside`` than ``outside``, largest first.

    A share is of the sum of absolute attributions, so that confident targets do not count more; at most
    ``max_per_layer`` of a layer.
    """
    difference = inside / inside.abs().sum().clamp_min(1e-30) - outside / outside.abs().sum().clamp_min(1e-30)
    taken, neurons = [0] * len(difference), []
    for index in difference.flatten().argsort(descending=True, stable=True).tolist():
        layer, unit = divmod(index, difference.shape[1])
        if difference[layer, unit] <= 0:
            break
        if max_per_layer is None or taken[layer] < max_per_layer:
            taken[layer] += 1
            neurons.append(Neuron(layer, unit))
    return neurons


def _neurons(settings: AttributionPlusConfig, model: SequenceModel, request: Partition, context: Context) -> list[Edit]:
    require_neurons(model)
    if settings.neurons == "none":
        return []
    by_category = find_neurons(settings, model, request, context.seed, context.meter)
    if settings.neurons == "shared":
        return edits_of(by_category, settings.scale)
    number = settings.max_sequences or request.data.num_users
    others = attribute_queries(settings, model, _drawn(request, OUTSIDE, number, context.seed), context.meter)
    inside = torch.stack([one.attributions.values.mean(0) for one in by_category.values()]).mean(0)
    ordered = contrast(inside, others.values.mean(0), settings.max_neurons_per_layer)[: settings.max_neurons]
    return as_edits(sorted(ordered[: _largest_dose(settings, model, ordered, context)]), settings.scale)


def largest_dose(most: int, within: Callable[[int], bool]) -> int:
    """The largest number of 1..``most`` that is ``within`` a bound; 0 where there is none.

    Numbers are tried from ``most`` downwards, a quarter less each time, and then by bisection below the last that was
    too many. Hits do not fall evenly as neurons go, so bisection alone would stop at any number whose successor is too
    many; a larger one that is within can still lie between two that were tried.
    """
    low, high = most, most + 1
    while low and not within(low):
        low, high = low * 3 // 4, low
    while high - low > 1:  # low is within, high is not
        middle = (low + high) // 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return low


def _largest_dose(
    settings: AttributionPlusConfig, model: SequenceModel, ordered: list[Neuron], context: Context
) -> int:
    """How many of ``ordered`` keep the loss within the bound.

    Without validation targets out of the category the bound says nothing, and none are taken.
    """

    def look() -> NDArray[np.float64]:
        context.meter.count_look(context.probe.positions(OUTSIDE), context.probe.queries(OUTSIDE))
        return np.array([*context.probe(Scorer([model]), OUTSIDE).values()])

    def within(dose: int) -> bool:
        with edited(model, as_edits(ordered[:dose], settings.scale)):
            return bool((look() >= (1 - settings.max_loss) * before).all())

    before = look()
    return largest_dose(len(ordered), within) if len(before) else 0


def _directions(number: int, model: SequenceModel, request: Partition, context: Context) -> Iterator[Tensor]:
    """Find a direction and take it out, ``number`` times: what is below the last layer moves with each."""
    inside, outside = (_drawn(request, split, MAX_STATES, context.seed) for split in (INSIDE, OUTSIDE))
    if not (len(inside) and len(outside)):
        return
    kind = torch.arange(len(inside) + len(outside)) < len(inside)
    for _ in range(number):
        states = torch.cat([_states(model, queries, context.meter) for queries in (inside, outside)])
        direction = mean_difference(states, kind)
        project_out(model, direction)
        yield direction


@torch.inference_mode()
def _states(model: SequenceModel, queries: Queries, meter: Meter) -> Tensor:
    """States (Q, D) before the targets of queries."""
    histories = torch.from_numpy(queries.histories(model.max_length).astype(np.int64))
    meter.count_inputs(histories, FORWARD_SHARE)
    device = model.embedding.weight.device
    return torch.cat([model.last_state(model.prediction_inputs(h.to(device))).cpu() for h in histories.split(BATCH)])


def _drawn(request: Partition, split: str, number: int, seed: int) -> Queries:
    """At most ``number`` queries of a split."""
    queries = request.queries(split)
    return queries.select(np.sort(numpy_stream(seed, f"drawn-{split}").permutation(len(queries))[:number]))


def _finetune(
    settings: AttributionPlusConfig,
    model: SequenceModel,
    original: Original,
    request: Partition,
    context: Context,
) -> None:
    """Steps of the recipe's loss, dropout and catalogue on the retain set, with batches and a rate of their own."""
    if not settings.finetune_steps:
        return
    streams, meter = Streams(context.seed, context.device), context.meter
    recipe = replace(original.recipe, learning_rate=settings.learning_rate, batch_size=settings.batch_size)
    model.use_generator(streams["dropout"])
    data = TrainingData(request.data, request.retain, request.catalogue, context.device)
    optimiser = make_optimiser(model, recipe)
    model.train()
    while meter.cost.steps < settings.finetune_steps:
        for rows in data.epoch(recipe.batch_size, streams["batches"], recipe.group_by_length):
            loss, inputs = train_step(model, data, recipe, streams, optimiser, rows)
            meter.count(steps=1, scored_positions=len(loss) if recipe.loss == "ce" else 0)
            meter.count_inputs(inputs)
            if meter.cost.steps == settings.finetune_steps:
                break
    model.eval()
