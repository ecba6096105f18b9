"""Privacy neurons of a category: what gradient attribution and its controls share ([A] 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from srun.config import config
from srun.data.sequences import Queries
from srun.errors import DataError
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer, clone_model
from srun.requests.partition import Partition, category_items
from srun.rng import numpy_stream
from srun.system.meter import FORWARD_SHARE, Meter
from srun.unlearning.attribution.integrated_gradients import Attributions, attribute
from srun.unlearning.attribution.neurons import (
    FEWEST,
    MOST,
    THRESHOLDS,
    Edit,
    Selection,
    Shared,
    apply,
    as_edits,
    describe_edits,
    merge,
    select,
    share,
)
from srun.unlearning.base import Original, Result


@config
class AttributionConfig:
    """How privacy neurons are found and what is done to them."""

    path: Literal["joint", "single"]
    """``joint``: all units of a layer are scaled together. ``single``: one at a time ([A] as printed)."""
    rule: Literal["left", "right", "midpoint", "gauss_legendre"]
    steps: Annotated[int, Field(ge=1)]
    """Points of the quadrature."""
    attribution_threshold: Annotated[float, Field(ge=0, lt=1)]
    """A neuron is kept in a sequence above this share of the largest attribution of any neuron there."""
    privacy_mode: Literal["adjust", "fixed"]
    """``adjust``: P moves in steps of 5 until 4 to 8 neurons are shared ([A] 5.1). ``fixed``: P as it is."""
    privacy_threshold: Annotated[int, Field(ge=0, le=100)]
    """P: privacy neurons are kept in more than this percentage of the sequences."""
    scale: Annotated[float, Field(ge=0, le=1)]
    """What is left of a privacy neuron's activation."""
    max_sequences: Annotated[int, Field(ge=1)] | None
    """Of a category, drawn; null takes them all."""


@dataclass(frozen=True)
class Found:
    """What attribution says about one category."""

    attributions: Attributions
    shared: Shared
    selection: Selection

    def describe(self) -> dict[str, Any]:
        """As plain values, for model.json."""
        residual, selection = self.attributions.residual.abs(), self.selection
        values: dict[str, Any] = {
            "num_sequences": self.shared.num_sequences,
            "neurons": [[neuron.layer, neuron.unit] for neuron in selection.neurons],
            "privacy_threshold": selection.privacy_threshold,
            "num_neurons_by_privacy_threshold": {str(p): number for p, number in selection.counts_by_share.items()},
            "mean_probability": float(self.attributions.probability.mean()),
            "residual": {"mean": float(residual.mean()), "max": float(residual.max())},
            "shared": self.shared.describe(),
        }
        if not selection.within:
            values["note"] = f"{len(selection.neurons)} neurons, not {FEWEST} to {MOST}"
        return values


def edits_of(by_category: dict[str, Found], scale: float) -> list[Edit]:
    """The edits of all categories together."""
    return merge(*(as_edits(one.selection.neurons, scale) for one in by_category.values()))


def edited_result(original: Original, edits: Sequence[Edit], meter: Meter) -> Result:
    """A copy of Original with the edits, which its info lists."""
    model = clone_model(original.model)
    apply(model, edits)
    scorer = Scorer([model], original.scorer.catalogue, original.scorer.masked)
    return Result(scorer, meter.read(), info={"edits": describe_edits(edits)})


def find_neurons(
    settings: AttributionConfig, model: SequenceModel, request: Partition, seed: int, meter: Meter
) -> dict[str, Found]:
    """Category -> its privacy neurons, for every category of the request; counted by ``meter``.

    Raises DataError for a category without sequences.
    """
    sequences = find_sequences(request, settings.max_sequences, seed)
    rows = np.unique(np.concatenate(list(sequences.values())))  # an item with several categories is attributed once
    whole = attribute_queries(settings, model, request.queries("forget_tune").select(rows), meter)
    by_category = {}
    for category, chosen in sequences.items():
        part = whole.select(torch.from_numpy(np.searchsorted(rows, chosen)))
        shared = share(part.values, {*THRESHOLDS, settings.attribution_threshold})
        counts = shared.at(settings.attribution_threshold)
        selection = select(counts, shared.num_sequences, settings.privacy_mode, settings.privacy_threshold)
        by_category[category] = Found(part, shared, selection)
    return by_category


def find_sequences(request: Partition, max_sequences: int | None, seed: int) -> dict[str, NDArray[np.int64]]:
    """Category -> rows of ``forget_tune``: each find user's last training transition into it that has a context.

    Validation and test targets and report users are never among them. Raises DataError for a category without any.
    """
    queries = request.queries("forget_tune")
    sequences = {}
    for category in request.info["request"]["categories"]:
        inside = np.flatnonzero(category_items(request.data, [category])[queries.target])
        users = queries.user[inside]  # sorted, and within a user by time
        last = inside[np.append(users[1:] != users[:-1], True)] if len(inside) else inside
        if not len(last):
            raise DataError(
                f'category "{category}": no user of the find part has a training transition into it to attribute '
                "(a request that concerns few users has no find part)"
            )
        if max_sequences is not None and len(last) > max_sequences:
            drawn = numpy_stream(seed, f"sequences-{category}").permutation(len(last))[:max_sequences]
            last = last[np.sort(drawn)]
        sequences[category] = last
    return sequences


def attribute_queries(
    settings: AttributionConfig, model: SequenceModel, queries: Queries, meter: Meter
) -> Attributions:
    """Attribute the targets of queries; counts one pass a sequence, layer and step, and by unit on the single path.

    Forward passes count a third: one for the states below, and those of the residual.
    """
    device = model.embedding.weight.device
    histories = torch.from_numpy(queries.histories(model.max_length).astype(np.int64)).to(device)
    targets = torch.from_numpy(queries.target.astype(np.int64)).to(device)
    result = attribute(model, histories, targets, settings.path, settings.rule, settings.steps)
    num_layers, num_units = result.values.shape[1:]
    lines = num_units if settings.path == "single" else 1
    passes, looks = num_layers * settings.steps * lines, 1 + num_layers * (1 + lines)
    meter.count(
        target_gradients=result.positions * (passes + FORWARD_SHARE * looks),
        scored_positions=len(queries) * (passes + looks),
    )
    return result
