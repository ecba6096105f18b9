"""Events that are alike: forgotten ones beside never-seen ones of the same context length, item popularity and so on.

Shapes: F forgotten events, P never-seen events, C columns that describe them, M matched ones, K partners of each.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUPS = (3, 8)
"""Groups of context lengths and of popularities."""


def match(
    wanted: NDArray[Any], pool: NDArray[Any], number: int, rng: np.random.Generator, groups: Sequence[int] = GROUPS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw ``number`` partners from ``pool`` (P, C) for each of the events ``wanted`` (F, C), within its group.

    ``groups`` (C,) says in how many a column is cut; the edges are quantiles of the forgotten events. Returned are the
    rows of ``wanted`` that have a partner at all (M,), ascending, and the partners' rows of ``pool`` (M, K). A group
    with too few of them gives each equally often.
    """
    if not len(wanted):
        return np.zeros(0, dtype=np.int64), np.zeros((0, number), dtype=np.int64)
    edges = [np.quantile(wanted[:, c], np.arange(1, n) / n) for c, n in enumerate(groups)]
    cell, other = (_cells(values, edges) for values in (wanted, pool))
    partners = np.full((len(wanted), number), -1, dtype=np.int64)
    for group in np.unique(cell):
        rows, candidates = np.flatnonzero(cell == group), np.flatnonzero(other == group)
        if len(candidates):
            times = -(-len(rows) * number // len(candidates))
            order = np.concatenate([rng.permutation(candidates) for _ in range(times)])
            partners[rows] = order[: len(rows) * number].reshape(len(rows), number)
    kept = np.flatnonzero(partners[:, 0] >= 0)
    return kept, partners[kept]


def _cells(values: NDArray[Any], edges: list[NDArray[np.float64]]) -> NDArray[np.int64]:
    cell = np.zeros(len(values), dtype=np.int64)
    for column, limits in enumerate(edges):
        cell = cell * (len(limits) + 1) + np.searchsorted(limits, values[:, column], side="left")
    return cell
