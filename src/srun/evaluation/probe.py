"""Quick looks at a model while it changes, for early stopping, curves and searches."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from srun.data.sequences import Queries
from srun.evaluation.ranking import RankingTask, recall_name
from srun.metrics.ranking import EventRanks, hit, ndcg
from srun.models.scorer import Scorer


class Probe:
    """Quick looks at a model while it changes: a split's Recall (Hit) and NDCG at 10, full ranking."""

    def __init__(self, splits: dict[str, Queries], max_length: int, device: torch.device, batch_size: int) -> None:
        self._splits = splits
        self._make = partial(RankingTask.make, max_length=max_length, device=device, batch_size=batch_size)
        self._tasks: dict[tuple[str | int, bytes], tuple[Queries, RankingTask]] = {}

    def __call__(self, scorer: Scorer, split: str, users: NDArray[np.bool_] | None = None) -> dict[str, float]:
        """Metrics of a split, of the given users (U,) only if there is a mask; empty for a split without queries."""
        ranks = self._ranks(scorer, split, users).rank
        if not len(ranks):
            return {}
        return {f"{split}/{recall_name(split)}_10": hit(ranks, 10), f"{split}/ndcg_10": ndcg(ranks, 10)}

    def ranks(self, scorer: Scorer, source: str | Queries) -> EventRanks:
        """Ranks in the whole catalogue of a split's queries, or of others, in their order."""
        return self._ranks(scorer, source, None)

    def positions(self, source: str | Queries, users: NDArray[np.bool_] | None = None) -> int:
        """How many real input positions one look at a split, or at other queries, passes forward."""
        return int((self._task(source, users).histories != 0).sum())

    def queries(self, source: str | Queries, users: NDArray[np.bool_] | None = None) -> int:
        """How many queries one look scores the whole catalogue for."""
        return len(self._task(source, users).histories)

    def _ranks(self, scorer: Scorer, source: str | Queries, users: NDArray[np.bool_] | None) -> EventRanks:
        return self._task(source, users).ranks(scorer)

    def _task(self, source: str | Queries, users: NDArray[np.bool_] | None) -> RankingTask:
        key = (source if isinstance(source, str) else id(source), b"" if users is None else users.tobytes())
        if key not in self._tasks:
            queries = self._splits[source] if isinstance(source, str) else source
            task = self._make(queries if users is None else queries.select(users[queries.user]))
            self._tasks[key] = queries, task  # the queries too, so that no others can get their id
        return self._tasks[key][1]
