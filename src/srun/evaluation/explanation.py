"""One user's story: what was there, what was forgotten, what each model recommends before and after ([T] Table 6).

Shapes: Q queries of the user, K recommendations, V catalogue.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srun.data.dataset import Role
from srun.data.sequences import Queries
from srun.evaluation.ranking import RankingTask
from srun.models.scorer import Scorer
from srun.requests.partition import Partition


@dataclass(frozen=True)
class Question:
    """One ranked target with the history it is asked after, by item number."""

    split: str  # forgotten, or test
    history: NDArray[np.int32]
    target: int
    ranks: dict[str, float]  # model -> rank in the whole catalogue
    top: dict[str, list[int]]  # model -> the best K items


@dataclass(frozen=True)
class Explanation:
    """A user's events and questions; items are numbers 1..V."""

    items: NDArray[np.int32]
    roles: list[str]  # of each event: train, validation, test, calibration, context
    forgotten: NDArray[np.bool_]
    questions: list[Question]


def explain(scorers: Mapping[str, Scorer], request: Partition, user: int, k: int = 10) -> Explanation:
    """Rank a user's forgotten events, in the retained history before them, and the test item, under every model."""
    data = request.data
    events = slice(data.offsets[user], data.offsets[user + 1])
    by_split = {"forgotten": request.forget_queries(), "test": request.queries("test")}
    questions = [
        question
        for split, queries in by_split.items()
        for question in _ask(scorers, split, queries.select(queries.user == user), k)
    ]
    return Explanation(
        items=data.item[events],
        roles=[Role(role).name.lower() for role in data.role[events]],
        forgotten=request.gone[events],
        questions=questions,
    )


def _ask(scorers: Mapping[str, Scorer], split: str, queries: Queries, k: int) -> list[Question]:
    ranks: dict[str, NDArray[np.float64]] = {}
    top: dict[str, NDArray[np.int64]] = {}
    for name, scorer in scorers.items():
        task = RankingTask.make(queries, scorer.max_length, scorer.device, batch_size=256)
        ranks[name] = task.ranks(scorer).rank
        top[name] = task.top(scorer, k)
    return [
        Question(
            split,
            queries.items[queries.start[row] : queries.stop[row]],
            int(queries.target[row]),
            {name: float(values[row]) for name, values in ranks.items()},
            {name: [int(item) for item in items[row] if item] for name, items in top.items()},
        )
        for row in range(len(queries))
    ]
