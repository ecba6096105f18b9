"""Events that are alike: forgotten ones beside never-seen ones of the same context length and item popularity.

Shapes: F forgotten events, P never-seen events, M matched ones, K partners of each.
"""

import numpy as np
from numpy.typing import NDArray

GROUPS = (3, 8)
"""Groups of context lengths and of popularities; their edges are quantiles of the forgotten events."""


def match(
    wanted: NDArray[np.int64], pool: NDArray[np.int64], number: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw ``number`` partners from ``pool`` (P, 2) for each of the events ``wanted`` (F, 2), within its group.

    The columns are context length and popularity. Returned are the rows of ``wanted`` that have a partner at all
    (M,), ascending, and the partners' rows of ``pool`` (M, K). A group with too few of them gives each equally often.
    """
    if not len(wanted):
        return np.zeros(0, dtype=np.int64), np.zeros((0, number), dtype=np.int64)
    edges = [np.quantile(wanted[:, c], np.arange(1, n) / n) for c, n in enumerate(GROUPS)]
    cell, other = (_cells(values, edges) for values in (wanted, pool))
    partners = np.full((len(wanted), number), -1, dtype=np.int64)
    for group in np.unique(cell):
        rows, found = np.flatnonzero(cell == group), np.flatnonzero(other == group)
        if len(found):
            times = -(-len(rows) * number // len(found))
            order = np.concatenate([rng.permutation(found) for _ in range(times)])
            partners[rows] = order[: len(rows) * number].reshape(len(rows), number)
    kept = np.flatnonzero(partners[:, 0] >= 0)
    return kept, partners[kept]


def _cells(values: NDArray[np.int64], edges: list[NDArray[np.float64]]) -> NDArray[np.int64]:
    length, popularity = (np.searchsorted(edges[c], values[:, c], side="left") for c in range(2))
    return length * GROUPS[1] + popularity
