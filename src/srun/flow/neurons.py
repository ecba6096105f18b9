"""`srun neurons`, no stage of the flow: which neurons attribution finds for a category, and what scaling them does.

It looks at tune users only, at no report user and no test target, so settings may be chosen by what it shows.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from srun.config import config
from srun.data.dataset import Dataset, original_validation, report_users
from srun.data.raw import RawData, read_raw
from srun.data.sequences import Queries
from srun.errors import DataError
from srun.evaluation.dose import collateral_loss, dose_response, overlap
from srun.evaluation.evaluate import EvaluateConfig
from srun.evaluation.ranking import RankingTask
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset
from srun.flow.partition import read_rows
from srun.models.base import SequenceModel
from srun.models.published import load_published
from srun.requests.kinds import CategoryRequest
from srun.requests.partition import Partition, category_items, partition
from srun.system.devices import RuntimeConfig, start
from srun.system.meter import Meter
from srun.unlearning.attribution.neurons import as_edits, most_shared
from srun.unlearning.attribution.privacy import AttributionConfig, Found, find_neurons


@config
class NeuronsConfig:
    """How much of attribution is shown."""

    max_sequences: Annotated[int, Field(ge=1)]
    """Of each other category, drawn, to see which neurons it shares."""
    num_shown: Annotated[int, Field(ge=1)]
    """Neurons of a category in the table."""
    doses: tuple[Annotated[int, Field(ge=0)], ...]
    """Numbers of neurons to scale down, the most shared ones first."""


def run(
    layout: Layout,
    name: str,
    original: str,
    request: Any,
    settings: AttributionConfig,
    shown: NeuronsConfig,
    seed: int,
    evaluation: EvaluateConfig,
    runtime: RuntimeConfig,
) -> dict[str, Any]:
    """Tables of a category request on an Original: see the keys. Raises DataError for another kind of request."""
    if not isinstance(request, CategoryRequest):
        raise DataError(f'request "{name}" is not of kind "category"; name one with --category or --request')
    device = start(runtime)
    data = load_dataset(layout)
    split = Partition.load(layout.partition(name), data)
    model = load_published(layout.original(original).model, device)[0].model

    def task(queries: Queries) -> RankingTask:
        return RankingTask.make(queries, model.max_length, device, evaluation.batch_size)

    by_category = find_neurons(settings, model, split, seed, Meter())
    named = read_rows(request, data), partial(read_raw, layout.raw(str(data.info["name"])))
    alone = partial(_alone, data, request, *named)
    everything, left_out = _other_categories(data, alone, settings, shown, model, seed, by_category)
    neurons = {category: one.selection.neurons for category, one in everything.items()}
    edits = {category: as_edits(chosen, settings.scale) for category, chosen in neurons.items()}
    validation = original_validation(data)
    find = ~report_users(data.num_users, int(data.info["config"]["seed"]))
    members = {category: category_items(data, [category]) for category in everything}
    study = {
        "request": name,
        "original": original,
        "settings": vars(settings),
        "categories": {category: _summary(one) for category, one in by_category.items()},
        "neurons": [
            row for category, one in by_category.items() for row in _rows(category, one, settings, shown.num_shown)
        ],
        "mean_attribution": {category: _mean(one).tolist() for category, one in by_category.items()},
        "dose": dose_response(
            model,
            _order(by_category, settings),
            settings.scale,
            shown.doses,
            task(split.queries("in_category_tune")),
            task(split.queries("out_of_category_tune")),
            category_items(data, request.categories),
        ),
        "overlap": overlap(neurons),
        "collateral_loss": collateral_loss(model, edits, members, task(validation.select(find[validation.user]))),
        "left_out": left_out,
    }
    return {key: _without_nan(value) for key, value in study.items()}


def _other_categories(
    data: Dataset,
    alone: Callable[[str], Partition],
    settings: AttributionConfig,
    shown: NeuronsConfig,
    model: SequenceModel,
    seed: int,
    own: Mapping[str, Found],
) -> tuple[dict[str, Found], dict[str, str]]:
    """The same for every category of the data by itself, from a sample; and why some have none."""
    everything, left_out = dict(own), {}
    sample = replace(settings, max_sequences=shown.max_sequences)
    for category in data.categories:
        if category in own:
            continue
        try:
            everything |= find_neurons(sample, model, alone(category), seed, Meter())
        except DataError as error:  # too few training events to find anything by
            left_out[category] = str(error)
    return dict(sorted(everything.items())), left_out


def _alone(
    data: Dataset,
    request: CategoryRequest,
    named: pd.DataFrame | None,
    read_raw: Callable[[], RawData],
    category: str,
) -> Partition:
    """The partition of the same request with another category in the place of its own."""
    return partition(data, category, replace(request, categories=(category,)), named, read_raw)


def _without_nan(value: Any) -> Any:
    """NaN, which JSON does not have, as None."""
    if isinstance(value, Mapping):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _mean(one: Found) -> NDArray[np.floating]:
    return one.attributions.values.mean(0).numpy()


def _order(by_category: Mapping[str, Found], settings: AttributionConfig) -> list[Any]:
    """All neurons, those with the largest share of sequences first; of several categories the shares add up."""
    shares = sum(
        one.shared.at(settings.attribution_threshold) / one.shared.num_sequences for one in by_category.values()
    )
    return most_shared(np.asarray(shares), np.asarray(sum(_mean(one) for one in by_category.values())))


def _summary(one: Found) -> dict[str, Any]:
    return {key: value for key, value in one.describe().items() if key != "shared"}


def _rows(category: str, one: Found, settings: AttributionConfig, number: int) -> list[dict[str, Any]]:
    counts, mean = one.shared.at(settings.attribution_threshold), _mean(one)
    return [
        {
            "category": category,
            "layer": neuron.layer,
            "unit": neuron.unit,
            "share": float(counts[neuron.layer, neuron.unit] / one.shared.num_sequences),
            "mean_attribution": float(mean[neuron.layer, neuron.unit]),
            "privacy_neuron": neuron in one.selection.neurons,
        }
        for neuron in most_shared(counts, mean)[:number]
    ]
