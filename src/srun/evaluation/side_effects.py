"""What forgetting did to others: items like the forgotten ones, rare items, users like those who forgot, lists.

All of test targets that the request does not name. Shapes: Q test queries, V items, U users, K neighbours of an item.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from srun.data.sequences import Queries
from srun.evaluation.ranking import RankingTask
from srun.metrics.bootstrap import Bounded
from srun.metrics.intervals import lowest_mean_interval
from srun.metrics.memory import z_rank
from srun.metrics.ranking import gains
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.unlearning.closed_form.features import RetainedFeatures

NEIGHBOURS = 10
"""Items nearest to a forgotten one that count as its neighbours."""
TAIL = 0.2
"""Share of retained events that the rarest items have together."""
TENTH = 0.1
"""Of the unaffected users: those who have most in common with a user who forgot. Of all: those who are served worst."""
BLOCK = 512  # users who forgot with whom all are compared at a time: memory does not grow with their number
K = 10
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SideEffects:
    """Who is looked at, found once for a request from retained data alone; no model has a say in it."""

    task: RankingTask
    parts: dict[str, Mask]
    """``neighbours``, ``long_tail``, ``similar_users`` -> which test queries (Q,) they are."""
    popularity: NDArray[np.int64]  # (V+1,) retained events of each item

    @classmethod
    def of(cls, request: Partition, features: RetainedFeatures, batch_size: int, device: torch.device) -> "SideEffects":
        queries = request.queries("test")
        popularity = features.popularity
        parts = {
            "neighbours": neighbours_of_forgotten(request, features)[queries.target],
            "long_tail": long_tail(popularity)[queries.target],
            "similar_users": similar_users(request)[queries.user],
        }
        return cls(RankingTask.make(queries, request.data.max_length, device, batch_size), parts, popularity)

    @property
    def queries(self) -> Queries:
        return self.task.queries

    def measure(self, scorer: Scorer, rng: np.random.Generator) -> dict[str, Bounded]:
        """Figures of a model; a part without queries gives NaN; ``rng`` draws users.

        ``<part>_ndcg_10`` and ``<part>_z_rank``, the mean; ``worst_users_z_rank``, of the tenth of users who are served
        worst; ``coverage_10``, the share of the catalogue that is in anybody's first ten; ``popularity_10``, the mean
        log(1 + retained events) of what is in these lists. Coverage has no interval: of users who are drawn twice it
        would see fewer lists.
        """
        ranks = self.task.ranks(scorer).rank
        z = z_rank(ranks, scorer.num_items)
        users = self.queries.user
        figures = {}
        for name, inside in self.parts.items():
            figures[f"{name}_ndcg_10"] = Bounded.mean(gains(ranks[inside], K), users[inside], rng)
            figures[f"{name}_z_rank"] = Bounded.mean(z[inside], users[inside], rng)
        lists = self.task.top(scorer, K)  # (Q, K)
        is_shown = lists > 0
        owners = np.broadcast_to(users[:, None], lists.shape)[is_shown]
        return figures | {
            "worst_users_z_rank": worst_users(z, users, rng),
            "coverage_10": Bounded(len(np.unique(lists[is_shown])) / scorer.num_items),
            "popularity_10": Bounded.mean(np.log1p(self.popularity[lists[is_shown]]), owners, rng),
        }


def worst_users(values: NDArray[np.float64], users: NDArray[np.integer], rng: np.random.Generator) -> Bounded:
    """Mean over the tenth of users, at least one, whose own mean of ``values`` (Q,) is lowest; NaN without any."""
    if not len(values):
        return Bounded(math.nan)
    _, owner = np.unique(users, return_inverse=True)
    means = np.bincount(owner, values) / np.bincount(owner)
    number = max(1, round(TENTH * len(means)))
    return Bounded(float(np.sort(means)[:number].mean()), *lowest_mean_interval(means, number, rng))


def nearest_items(features: RetainedFeatures, items: NDArray[np.integer], number: int) -> NDArray[np.int64]:
    """(I, K) the items nearest to each of ``items`` (I,) in the space of retained data, itself aside, nearest first."""
    number = min(number, len(features.unit) - 2)
    nearest = np.zeros((len(items), number), dtype=np.int64)
    for row, item in enumerate(items):
        cosines = features.unit @ features.unit[item]
        cosines[[0, item]] = -np.inf
        nearest[row] = np.argsort(-cosines, kind="stable")[:number]
    return nearest


def neighbours_of_forgotten(request: Partition, features: RetainedFeatures) -> Mask:
    """(V+1,) items near a forgotten one that were not forgotten themselves."""
    items = np.zeros(request.data.num_items + 1, dtype=bool)
    forgotten = np.unique(request.data.item[request.forget])
    items[nearest_items(features, forgotten, NEIGHBOURS)] = True
    items[forgotten] = False
    return items


def long_tail(popularity: NDArray[np.int64]) -> Mask:
    """(V+1,) the rarest items, that have a fifth of all retained events together; items with none are among them."""
    items = np.zeros(len(popularity), dtype=bool)
    order = 1 + np.argsort(popularity[1:], kind="stable")
    items[order] = np.cumsum(popularity[order]) <= TAIL * popularity[1:].sum()
    return items


def similar_users(request: Partition) -> Mask:
    """(U,) the tenth of the users who forgot nothing that have most in common with one who did.

    By the cosine of retained sets of items, the highest over the users who forgot. Users with nothing in common with
    any of them are never among these.
    """
    data, affected = request.data, request.affected
    kept = request.retain
    shape = (data.num_users, data.num_items + 1)
    table = sparse.csr_array((np.ones(int(kept.sum())), (data.user[kept], data.item[kept])), shape=shape)
    table.data[:] = 1  # repeats
    length = np.sqrt(np.maximum(np.asarray(table.sum(1)).ravel(), 1))
    unit = sparse.csr_array(sparse.diags_array(1 / length) @ table)
    nearness, forgetful = np.zeros(data.num_users), np.flatnonzero(affected)
    for start in range(0, len(forgetful), BLOCK):
        common = unit @ unit[forgetful[start : start + BLOCK]].T
        nearness = np.maximum(nearness, common.max(axis=1).toarray().ravel())
    nearness[affected] = 0
    chosen = np.argsort(-nearness, kind="stable")[: max(1, round(TENTH * int((~affected).sum())))]
    users = np.zeros(data.num_users, dtype=bool)
    users[chosen[nearness[chosen] > 0]] = True
    return users
