"""Forgotten events asked for after contexts that nobody trained on: does only the exact question find nothing?

A method that unlearned (context, item) pairs may still answer when the context is a little different. Shapes: Q
queries, L length.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from srun.data.sequences import Queries, make_queries, ragged_rows
from srun.evaluation.ranking import RankingTask
from srun.evaluation.side_effects import nearest_items
from srun.metrics.bootstrap import Bounded
from srun.metrics.memory import z_rank
from srun.metrics.ranking import hits
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.unlearning.closed_form.features import RetainedFeatures

KEPT = 0.5
"""Chance that an item of a context stays as it is."""


def held_contexts(request: Partition, features: RetainedFeatures, rng: np.random.Generator) -> dict[str, Queries]:
    """Way -> the forgotten events of report users after other contexts; a way without any is empty.

    ``subsequences``: half of the context's items, in their order. ``substituted``: half of them, the others replaced by
    their nearest neighbour. ``other_users``: for every event another user's retained history that leads to the same
    item; such events were not forgotten, so that only Retrain says what their hits should be.
    """
    queries = request.queries("forget_report")
    return {
        "subsequences": subsequences(queries, request.data.max_length, rng),
        "substituted": substituted(queries, request.data.max_length, features, rng),
        "other_users": other_users(request, queries, rng),
    }


def measure_contexts(
    scorer: Scorer, ways: Mapping[str, Queries], batch_size: int, device: torch.device, rng: np.random.Generator
) -> dict[str, Bounded]:
    """``<way>_hit_10`` and ``<way>_z_rank``, the mean, of every way that has events; ``rng`` draws users."""
    figures = {}
    for way, queries in ways.items():
        if len(queries):
            ranks = RankingTask.make(queries, scorer.max_length, device, batch_size).ranks(scorer).rank
            figures[f"{way}_hit_10"] = Bounded.mean(hits(ranks, 10), queries.user, rng)
            figures[f"{way}_z_rank"] = Bounded.mean(z_rank(ranks, scorer.num_items), queries.user, rng)
    return figures


def subsequences(queries: Queries, max_length: int, rng: np.random.Generator) -> Queries:
    """Each of the last L items stays with an even chance; contexts of which none would stay are left out."""
    row, items = _contexts(queries, max_length)
    return _with_contexts(queries, row, items, rng.random(len(items)) < KEPT)


def substituted(queries: Queries, max_length: int, features: RetainedFeatures, rng: np.random.Generator) -> Queries:
    """Each of the last L items is replaced with an even chance by its nearest neighbour that is not the target."""
    row, items = _contexts(queries, max_length)
    known = np.unique(items)
    nearest = nearest_items(features, known, 2)[np.searchsorted(known, items)]  # (positions, 2)
    other = np.where(nearest[:, 0] == queries.target[row], nearest[:, -1], nearest[:, 0])
    replaced = np.where(rng.random(len(items)) < KEPT, items, other).astype(np.int32)
    return _with_contexts(queries, row, replaced, replaced != queries.target[row])


def other_users(request: Partition, queries: Queries, rng: np.random.Generator) -> Queries:
    """For each query one retained event of its item, drawn among other users' that have a context; none left out."""
    data = request.data
    targets = request.retain & np.isin(data.item, queries.target)
    events = make_queries(data.item, data.user, data.offsets, request.retain, targets)
    order = np.lexsort((rng.random(len(events)), events.target))
    ordered = events.select(order)
    chosen = []
    for item, user in zip(queries.target, queries.user, strict=True):
        first, last = np.searchsorted(ordered.target, [item, item + 1])
        rows = np.arange(first, last)[ordered.user[first:last] != user]
        if len(rows):
            chosen.append(int(rng.choice(rows)))
    return ordered.select(np.array(chosen, dtype=np.int64))


def _contexts(queries: Queries, max_length: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """(row, item) of the last L items of every context, in order."""
    row, position = ragged_rows(np.maximum(queries.start, queries.stop - max_length), queries.stop)
    return row, queries.items[position]


def _with_contexts(
    queries: Queries, row: NDArray[np.int64], items: NDArray[np.int32], kept: NDArray[np.bool_]
) -> Queries:
    """The queries after the ``items`` that are ``kept``, which stand by ``row``; those that have none left drop out."""
    size = np.bincount(row[kept], minlength=len(queries))
    stop = np.cumsum(size)
    new = Queries(items[kept], stop - size, stop, queries.target, queries.user, queries.event)
    return new.select(size > 0)
