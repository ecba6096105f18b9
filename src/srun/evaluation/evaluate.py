"""Evaluates a model on every split of a request: first a rank for each event, then the means."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field

from srun.config import config
from srun.data.dataset import Dataset
from srun.data.sequences import Queries
from srun.evaluation.ranking import RankingTask, known_pairs, recall_name, sample_candidates
from srun.metrics.ranking import EventRanks, ranking_metrics
from srun.models.scorer import Scorer
from srun.requests.partition import Partition, category_items

CATEGORY_SPLITS = ("all_targets", "in_category", "out_of_category")
"""Test targets of the report users of a category request; also measured: its items in a top 10 list, on average."""
BLOCK = 2**17  # queries whose contexts and candidates are kept at a time
WHOLE = {"test_affected": "test", "test_unaffected": "test", "out_of_category": "test"}
"""Splits that are parts of another: their queries are ranked once."""


@config
class EvaluateConfig:
    """How models are ranked; the full catalogue is the headline, sampled candidates stand beside it."""

    seed: int
    """Fixes the sampled candidates."""
    sampled: bool
    batch_size: Annotated[int, Field(ge=1)]
    recovery: bool
    """Whether every file is attacked for the forgotten events (see ``evaluation.recovery``), in seconds each."""


@dataclass(frozen=True)
class Evaluation:
    """Per-event ranks and their means: ``metrics[split][metric]``."""

    events: pd.DataFrame  # split, event, user, rank, rank_sampled; dense ids
    metrics: dict[str, dict[str, float]]


def evaluate(scorer: Scorer, request: Partition, settings: EvaluateConfig, device: torch.device) -> Evaluation:
    """Rank every split of a request. Splits without queries have counts of 0 and no metrics."""
    tables, metrics = [], {}
    inside = _category(request)
    known = known_pairs(request.data) if settings.sampled else None
    ranked: dict[str, EventRanks] = {}
    for split, queries in request.splits.items():
        counts = {"num_events": len(queries), "num_users": len(np.unique(queries.user))}
        metrics[split] = {name: float(count) for name, count in counts.items()}
        if not len(queries):
            continue
        if split in WHOLE:
            whole = ranked[WHOLE[split]]
            ranks = whole.select(np.isin(whole.event, queries.event))
        else:
            ranked[split] = ranks = _rank(scorer, request.data, queries, settings, known, device)
        if inside is not None and split in CATEGORY_SPLITS:
            task = RankingTask.make(queries, scorer.max_length, device, settings.batch_size)
            metrics[split]["category_items_10"] = float(inside[task.top(scorer, 10)].sum() / len(queries))
        name = recall_name(split)
        metrics[split] |= ranking_metrics(ranks.rank, name)
        if ranks.rank_sampled is not None:
            metrics[split] |= ranking_metrics(ranks.rank_sampled, name, "_sampled")
        tables.append(_table(split, queries, ranks))
    events = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["split", "event", "rank"])
    return Evaluation(events, metrics)


def _table(split: str, queries: Queries, ranks: EventRanks) -> pd.DataFrame:
    table = {"split": split, "event": ranks.event, "user": ranks.user, "target": queries.target, "rank": ranks.rank}
    return pd.DataFrame(table if ranks.rank_sampled is None else {**table, "rank_sampled": ranks.rank_sampled})


def _category(request: Partition) -> NDArray[np.bool_] | None:
    """(V+1,) the items of a category request, without padding; None for requests of other kinds."""
    if request.kind != "category":
        return None
    items = category_items(request.data, request.info["request"]["categories"])
    items[0] = False
    return items


def _rank(
    scorer: Scorer,
    data: Dataset,
    queries: Queries,
    settings: EvaluateConfig,
    known: NDArray[np.int64] | None,
    device: torch.device,
) -> EventRanks:
    """Ranks (Q,) of the queries, a block at a time: memory does not grow with their number."""
    parts = []
    for start in range(0, len(queries), BLOCK):
        block = queries.select(np.arange(start, min(start + BLOCK, len(queries))))
        candidates = None if known is None else sample_candidates(data, block, settings.seed, known=known)
        task = RankingTask.make(block, scorer.max_length, device, settings.batch_size, candidates)
        parts.append(task.ranks(scorer))
    return EventRanks.join(parts)
