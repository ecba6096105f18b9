"""Ranking metrics of single-target queries, from ranks.

Shapes: Q queries, K cut-off. A rank is 1 + the number of candidates scored strictly higher + half the ties, so it
may be fractional: rank 10.5 is not within the first 10. No queries give NaN, never 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CUT_OFFS = (1, 5, 10, 20)
Ranks = NDArray[np.floating]


@dataclass(frozen=True)
class EventRanks:
    """Where a model ranks the targets of Q events, and whose events they are; ids are dense."""

    event: NDArray[np.integer]  # (Q,)
    user: NDArray[np.integer]  # (Q,)
    rank: NDArray[np.float64]  # (Q,) in the whole catalogue
    rank_sampled: NDArray[np.float64] | None = None  # (Q,) among sampled candidates; None where these were not ranked

    def __len__(self) -> int:
        return len(self.event)

    def select(self, rows: NDArray[Any]) -> "EventRanks":
        """Those of some events: row numbers, or a mask (Q,)."""
        sampled = None if self.rank_sampled is None else self.rank_sampled[rows]
        return EventRanks(self.event[rows], self.user[rows], self.rank[rows], sampled)

    @classmethod
    def join(cls, parts: Sequence["EventRanks"]) -> "EventRanks":
        """One after the other, at least one; sampled ranks only where all parts have them."""
        sampled = [part.rank_sampled for part in parts if part.rank_sampled is not None]
        return cls(
            np.concatenate([part.event for part in parts]),
            np.concatenate([part.user for part in parts]),
            np.concatenate([part.rank for part in parts]),
            np.concatenate(sampled) if len(sampled) == len(parts) else None,
        )


def hit(ranks: Ranks, k: int) -> float:
    """Share of targets within the first ``k`` ([T] eq. 12 and 13: recall and hit agree for one target)."""
    return float(np.mean(hits(ranks, k))) if len(ranks) else math.nan


def hits(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """(Q,) what each target adds to ``hit``: 1 within the first ``k``, else 0."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> float:
    """Mean of 1 / log2(1 + rank) over the targets within the first ``k`` ([T] eq. 9 to 11 with one relevant item)."""
    return float(np.mean(gains(ranks, k))) if len(ranks) else math.nan


def gains(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """(Q,) what each target adds to ``ndcg``: 0 beyond the first ``k``."""
    return np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0)


def mrr(ranks: Ranks) -> float:
    """Mean reciprocal rank over the whole catalogue."""
    return float(np.mean(1 / ranks)) if len(ranks) else math.nan


def ranking_metrics(ranks: Ranks, recall_name: str = "recall", suffix: str = "") -> dict[str, float]:
    """All metrics at all cut-offs; recall is called ``hit`` on forget events, as [T] does."""
    return {
        **{f"{recall_name}_{k}{suffix}": hit(ranks, k) for k in CUT_OFFS},
        **{f"ndcg_{k}{suffix}": ndcg(ranks, k) for k in CUT_OFFS},
        f"mrr{suffix}": mrr(ranks),
    }


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; the latter is NaN for fewer than two values."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
