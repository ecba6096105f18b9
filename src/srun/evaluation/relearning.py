"""Relearning: how fast training brings forgotten events back.

Shapes: E events, Q queries, F events that are trained on, B batch, L length, n maximum length.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from srun.config import config
from srun.data.batches import Cycle, TrainingData
from srun.data.sequences import Queries, make_queries
from srun.evaluation.ranking import RankingTask
from srun.metrics.ranking import hit
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer, clone_model
from srun.requests.partition import Partition
from srun.rng import Streams, numpy_stream
from srun.training.fit import TrainConfig, make_optimiser, target_loss, train_step

Way = Literal["retain", "related", "returned"]
"""What is trained on: the retain set, as Retrain is; events of the forgotten items that are of users nobody asks about;
or forgotten events that come back and nothing else."""
WAYS: tuple[Way, ...] = ("retain", "related", "returned")
"""From what anybody has at hand to what only a copy of the forgotten data gives."""
GROWTH = 1.25  # of the steps between two looks: few steps are told apart exactly, many to a quarter


@config
class RelearningConfig:
    """How relearning is measured."""

    kinds: tuple[Literal["interactions", "category", "users"], ...]
    """Of requests that it is measured for; an empty list leaves it out."""
    ways: tuple[Way, ...]
    """Of training that an evaluation measures; an audit has all."""
    share: Annotated[float, Field(gt=0, lt=1)]
    """Of the forgotten events of report users: those that come back."""
    max_epochs: Annotated[int, Field(ge=1)]
    """The cap: gradient steps of so many passes of the recipe over the retain set, whatever is trained on."""
    max_queries: Annotated[int, Field(ge=1)]
    """Of the other forgotten events, drawn, to look at."""


@dataclass(frozen=True)
class Relearning:
    """Hit@10 of forgotten events that are not trained on, by gradient steps on what is."""

    steps: tuple[int, ...]
    hit_10: tuple[float, ...]


def relearn(
    scorer: Scorer,
    request: Partition,
    recipe: TrainConfig,
    settings: RelearningConfig,
    seed: int,
    device: torch.device,
    batch_size: int,
) -> dict[str, Relearning]:
    """Way -> what training a copy of the only model in that way does to the forgotten events that do not come back.

    All ways take the loss, rate and batches of the recipe. ``returned``: batches of returned events after their own
    contexts, with a loss on these events alone, over all items: any other target would push down what is asked for.
    ``related``: the same with ``related_events``. ``retain``: the retain set's windows and catalogue. Masks and
    catalogue of the scorer are lifted: what is measured is what the weights still know. A way without events to train
    on is not there. Nothing for an ensemble, for a kind of request that is not among ``kinds`` and for a request
    without events to split.
    """
    if len(scorer.models) > 1 or request.kind not in settings.kinds:
        return {}
    returned, others = split_events(request, settings, seed)
    if not len(returned) or not len(others):
        return {}
    retain = TrainingData(request.data, request.retain, request.catalogue, device)
    cap = settings.max_epochs * -(-len(retain) // recipe.batch_size)
    task = RankingTask.make(others, scorer.max_length, device, batch_size)
    trained_on: Mapping[Way, Queries] = {"returned": returned, "related": related_events(request)}
    curves: dict[str, Relearning] = {}
    for way in settings.ways:
        model, streams = clone_model(scorer.model), Streams(seed, device)
        model.use_generator(streams["dropout"])
        if way == "retain":
            curves[way] = _watch(model, _on_retained(model, retain, recipe, streams), cap, task)
        elif len(trained_on[way]):
            curves[way] = _watch(model, _on_events(model, trained_on[way], request, recipe, streams), cap, task)
    return curves


def related_events(request: Partition) -> Queries:
    """Retained events of the forgotten items, after their contexts, of users of whom no forgotten event is asked for.

    Whoever has a log of other users can train on these: they teach what follows such items in general, and not what the
    users whose events went did. Where nobody keeps any, as where a category goes for everybody: the forgotten events of
    the tune half, which are others' events of the same category.
    """
    data, asked_users = request.data, request.queries("forget_report").user
    chosen = request.retain & ~np.isin(data.user, asked_users) & np.isin(data.item, data.item[request.forget])
    kept = make_queries(data.item, data.user, data.offsets, request.retain, chosen)
    return kept if len(kept) else request.queries("forget_tune")


def split_events(request: Partition, settings: RelearningConfig, seed: int) -> tuple[Queries, Queries]:
    """The forgotten events of report users that come back, and some of the others, drawn, that are asked for."""
    events = request.queries("forget_report")
    order = numpy_stream(seed, "relearning").permutation(len(events))
    number = round(settings.share * len(events))
    others = order[number:][: settings.max_queries]
    return events.select(np.sort(order[:number])), events.select(np.sort(others))


def looks(cap: int) -> list[int]:
    """Steps after which the model is looked at: 0, every step at first, then a quarter more each time, and ``cap``."""
    steps = [0]
    while steps[-1] < cap:
        steps.append(min(cap, max(steps[-1] + 1, int(steps[-1] * GROWTH))))
    return steps


def _watch(model: SequenceModel, training: Iterator[None], cap: int, task: RankingTask) -> Relearning:
    """Take ``cap`` steps of ``training``, which changes the model, and look at it on the way."""
    steps, values, taken = looks(cap), [], 0
    for step in steps:
        model.train()
        for _ in range(step - taken):
            next(training)
        taken = step
        values.append(hit(task.ranks(Scorer([model])).rank, 10))
    return Relearning(tuple(steps), tuple(values))


def _on_events(
    model: SequenceModel, events: Queries, request: Partition, recipe: TrainConfig, streams: Streams
) -> Iterator[None]:
    """Steps on batches of events after their contexts, with a loss on these alone, without end."""
    device, optimiser = streams.device, make_optimiser(model, recipe)
    back = np.zeros(request.data.num_events, dtype=bool)
    back[events.event] = True
    data = TrainingData(request.data, request.retain | back, None, device)  # for its negatives
    questions = np.concatenate([events.histories(model.max_length), events.target[:, None]], 1)
    items, users = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (questions, events.user))
    rows = Cycle(len(items), recipe.batch_size, streams["batches"])
    while True:
        chosen = rows.next()
        width = int((items[chosen] != 0).sum(1).max())
        inputs = model.prediction_inputs(items[chosen, -width:-1])  # (B, L)
        targets = torch.zeros_like(inputs)
        targets[:, -1] = items[chosen, -1]
        with (
            torch.autocast(device.type, torch.bfloat16, recipe.precision == "bf16"),
            model.sparse_gradients(recipe.lazy_adam),
        ):
            loss = target_loss(model, model.hidden(inputs), targets, users[chosen], data, recipe, streams)
        optimiser.zero_grad(set_to_none=True)
        loss.mean().backward()
        optimiser.step()
        yield


def _on_retained(model: SequenceModel, data: TrainingData, recipe: TrainConfig, streams: Streams) -> Iterator[None]:
    """Steps of one epoch after the other, as in training, without end."""
    optimiser = make_optimiser(model, recipe)
    while True:
        for rows in data.epoch(recipe.batch_size, streams["batches"], recipe.group_by_length):
            train_step(model, data, recipe, streams, optimiser, rows)
            yield
