"""How much of a category a recommender no longer recommends, from ranks and lists before and after ([A] Table 3).

Shapes: Q queries, K places of a list, V catalogue. [A] does not define its removal rate; these two are ours.
"""

import math

import numpy as np
from numpy.typing import NDArray

from srun.metrics.ranking import Ranks, hit


def removal_rate(before: Ranks, after: Ranks, k: int = 10) -> float:
    """1 - hit_k after / hit_k before, over the targets of a category; ranks (Q,) of the same queries.

    At most 1; negative where the category is recommended better than before. NaN without queries or hits before.
    """
    hits = hit(before, k)
    return 1 - hit(after, k) / hits if hits > 0 else math.nan


def list_removal_rate(before: NDArray[np.integer], after: NDArray[np.integer], items: NDArray[np.bool_]) -> float:
    """1 - entries of a category in the lists after / in the lists before; lists (Q, K) of items, ``items`` (V+1,).

    Entries are counted net: an item of the category that gives way to another one of it has not been removed. 0 marks
    an empty place. At most 1, negative where there are more than before; NaN when there was none before.
    """
    inside = items.copy()
    inside[0] = False
    entries = int(inside[before].sum())
    return 1 - int(inside[after].sum()) / entries if entries else math.nan


def kept_rate(before: Ranks, after: Ranks, k: int = 10) -> float:
    """hit_k after / hit_k before, over targets outside the category; NaN without queries or hits before."""
    return 1 - removal_rate(before, after, k)
