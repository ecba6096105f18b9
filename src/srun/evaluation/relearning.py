"""Relearning: how fast training on a tenth of the forgotten events brings back the others (evaluation.md 1).

Shapes: E events, Q queries, U users.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from srun.config import config
from srun.data.batches import TrainingData
from srun.data.partition import Partition
from srun.data.sequences import Queries
from srun.evaluation.ranking import RankingTask
from srun.metrics.ranking import hit
from srun.models.scorer import Scorer, clone_model
from srun.rng import Streams, numpy_stream
from srun.training.fit import TrainConfig, make_optimiser, train_step


@config
class RelearningConfig:
    """How relearning is measured; it is for category requests."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Of the forgotten events of report users: what is trained on again."""
    max_steps: Annotated[int, Field(ge=0)]
    """Gradient steps after which it ends; 0 leaves relearning out."""
    evaluate_every: Annotated[int, Field(ge=1)]
    """Steps between two looks."""
    max_queries: Annotated[int, Field(ge=1)]
    """Of the other forgotten events, drawn, to look at."""


@dataclass(frozen=True)
class Relearning:
    """Hit@10 of forgotten events that are not trained on, by gradient steps on some that are."""

    steps: tuple[int, ...]
    hit_10: tuple[float, ...]

    def steps_to(self, level: float) -> float:
        """Gradient steps at which hit_10 first reaches ``level``; infinite when it never does."""
        return next((float(s) for s, value in zip(self.steps, self.hit_10, strict=True) if value >= level), math.inf)


def relearn(
    scorer: Scorer,
    request: Partition,
    recipe: TrainConfig,
    settings: RelearningConfig,
    seed: int,
    device: torch.device,
    batch_size: int,
) -> Relearning | None:
    """Go on training a copy of the only model on users whose forgotten events come back, and look at the others.

    Training takes the windows, loss, batches and learning rate of the recipe, on the retained and the returned events
    of the users who have a returned one. Masks and catalogue of the scorer are lifted: what is measured is what the
    weights still know. None for an ensemble, for ``max_steps`` 0 and for a request without events to split.
    """
    returned, asked = split_events(request, settings, seed)
    if len(scorer.models) > 1 or not settings.max_steps or not returned.any() or not len(asked):
        return None
    model, streams = clone_model(scorer.model), Streams(seed, device)
    model.use_generator(streams["dropout"])
    users = np.zeros(request.data.num_users, dtype=bool)
    users[request.data.user[returned]] = True
    data = TrainingData(request.data, (request.retain & users[request.data.user]) | returned, None, device)
    task = RankingTask.make(asked, model.max_length, device, batch_size)
    optimiser = make_optimiser(model, recipe)

    def look() -> float:
        return hit(task.ranks(Scorer([model]))[0], 10)

    steps, values = [0], [look()]
    batches = _batches(data, recipe, streams)
    for step in range(1, settings.max_steps + 1):
        model.train()
        train_step(model, data, recipe, streams, optimiser, next(batches))
        if step % settings.evaluate_every == 0 or step == settings.max_steps:
            steps.append(step)
            values.append(look())
    return Relearning(tuple(steps), tuple(values))


def split_events(request: Partition, settings: RelearningConfig, seed: int) -> tuple[NDArray[np.bool_], Queries]:
    """(E,) the forgotten events of report users that come back, and questions for some of the others, drawn."""
    asked = request.queries("forget_report")
    rng = numpy_stream(seed, "relearning")
    order = rng.permutation(len(asked))
    number = round(settings.share * len(asked))
    returned = np.zeros(request.data.num_events, dtype=bool)
    returned[asked.event[order[:number]]] = True
    return returned, asked.select(np.sort(order[number:][: settings.max_queries]))


def _batches(data: TrainingData, recipe: TrainConfig, streams: Streams) -> Iterator[Tensor]:
    """Rows (B,) of one epoch after the other, without end."""
    while True:
        yield from data.epoch(recipe.batch_size, streams["batches"], recipe.group_by_length)
