"""A made-up log of the shape of Steam's, for scale and for trying commands out: items are drawn, nobody chose them.

Popularity falls by Zipf's law; the next item is of the same category, of the one that follows it, or of any.
Shapes: U users, E events. No loop over users: one over the steps of the longest sequence.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from srun.data.raw import RawData, canonical
from srun.rng import numpy_stream

STEAM = "synthetic-steam"
USERS, ITEMS, PER_USER, SHORTEST = 429_339, 13_040, 7.9, 5  # [T] Table 2
CATEGORIES, STAY, FOLLOW = 20, 0.6, 0.25


def steam_like(size: float, seed: int) -> RawData:
    """A log of ``size`` times as many users as Steam has, and about its items; the same at every call with a seed."""
    rng = numpy_stream(seed, STEAM)
    users = round(USERS * size)
    length = SHORTEST - 1 + rng.geometric(1 / (PER_USER - SHORTEST + 1), users)  # (U,)
    category = np.sort(rng.integers(CATEGORIES, size=ITEMS))
    edge = np.concatenate([[0.0], np.cumsum(1 / rng.permutation(np.arange(1, ITEMS + 1)))])
    item = _walks(length, category, edge, rng)
    user = np.repeat(np.arange(users, dtype=np.int32), length)
    step = np.arange(len(user)) - np.repeat(np.cumsum(length) - length, length)
    time = np.repeat(rng.integers(1_300_000_000, 1_500_000_000, size=users), length) + 86_400 * step
    names = np.char.add("category ", category.astype(str))
    items = pd.DataFrame({"item_id": np.arange(1, ITEMS + 1), "title": "", "categories": names})
    log = pd.DataFrame({"user_id": _numbered(user, users), "item_id": _numbered(item, ITEMS), "timestamp": time})
    return canonical(log, items, name=STEAM, licence="none: synthetic, of the shape of Steam")


def _numbered(codes: NDArray[np.int32], number: int) -> pd.Categorical:
    """Ids 1 to ``number`` as text, each kept once."""
    return pd.Categorical.from_codes(codes, categories=pd.Index(np.arange(1, number + 1).astype(str)))


def _walks(
    length: NDArray[np.int64], category: NDArray[np.int64], edge: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int32]:
    """(E,) the items of all users one after the other; an item's share of the line ``edge`` is its popularity."""
    low, high = (edge[np.searchsorted(category, np.arange(CATEGORIES), side)] for side in ("left", "right"))
    first = np.cumsum(length) - length
    items = np.empty(int(length.sum()), dtype=np.int32)
    active, now = np.arange(len(length)), rng.integers(CATEGORIES, size=len(length))
    for step in range(int(length.max())):
        alive = length[active] > step
        active, now = active[alive], now[alive]
        anywhere = category[_at(edge, rng.random(len(active)) * edge[-1])]
        draw = rng.random(len(active))
        now = np.where(draw < STAY, now, np.where(draw < STAY + FOLLOW, (now + 1) % CATEGORIES, anywhere))
        items[first[active] + step] = _at(edge, low[now] + rng.random(len(active)) * (high - low)[now])
    return items


def _at(edge: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.int64]:
    """The item whose share of the line a point falls into."""
    return np.minimum(np.searchsorted(edge, point, "right") - 1, len(edge) - 2)
