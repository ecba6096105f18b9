"""Sequences, windows and histories as arrays: cutting, padding at the front, and the queries that are ranked.

Shapes: E events, U users, W windows, Q queries, n maximum length. No loop over users anywhere.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def cut(
    offsets: NDArray[np.int64], max_length: int, drop_short: bool, singles: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Cut sequences into windows of at most ``max_length`` + 1 items, from the most recent backwards.

    Neighbouring windows share one item, so that every transition is a target exactly once and the most recent
    window is full ([T] 3.2.1). ``offsets`` is (U+1,); returned are start (W,) and stop (W,) into the same array,
    by user, oldest first, and how many windows were dropped. ``drop_short``: left-overs of two items or fewer
    from longer sequences are dropped. Sequences of one item have no transition and give no window, unless
    ``singles``.
    """
    length = np.diff(offsets)
    transitions = np.maximum(length - 1, 0)
    count = -(-transitions // max_length)
    if singles:
        count = np.where(length == 1, 1, count)
    owner = np.repeat(np.arange(len(length)), count)
    first = np.cumsum(count) - count
    age = np.repeat(count, count) - 1 - (np.arange(len(owner)) - first[owner])  # 0 is the most recent
    last = offsets[owner + 1] - age * max_length
    start = np.maximum(last - max_length - 1, offsets[owner])
    keep = np.ones(len(owner), dtype=bool)
    if drop_short:
        keep = ~((last - start <= 2) & (count[owner] > 1))
    return start[keep], last[keep], int((~keep).sum())


def pad(items: NDArray[np.int32], start: NDArray[np.int64], stop: NDArray[np.int64], width: int) -> NDArray[np.int32]:
    """Return the last ``width`` of items[start:stop] for every row, padded with 0 at the front: (rows, width)."""
    index = stop[:, None] - width + np.arange(width)
    inside = index >= start[:, None]
    return np.where(inside, items[np.where(inside, index, 0)] if len(items) else 0, 0).astype(np.int32)


@dataclass(frozen=True)
class Windows:
    """Training windows: W rows of n+1 items, padded at the front, whose they are, and the event they end with."""

    items: NDArray[np.int32]  # (W, n+1)
    user: NDArray[np.int32]  # (W,)
    event: NDArray[np.int64]  # (W,)


@dataclass(frozen=True)
class Queries:
    """Ranking questions: which item follows this history? The history of query q is items[start[q]:stop[q]]."""

    items: NDArray[np.int32]  # base items that the slices point into
    start: NDArray[np.int64]  # (Q,)
    stop: NDArray[np.int64]  # (Q,)
    target: NDArray[np.int32]  # (Q,) the item that was next
    user: NDArray[np.int32]  # (Q,)
    event: NDArray[np.int64]  # (Q,) event id of the target

    def __len__(self) -> int:
        return len(self.target)

    def histories(self, width: int) -> NDArray[np.int32]:
        """(Q, width) the last ``width`` items of every history, padded at the front."""
        return pad(self.items, self.start, self.stop, width)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> "Queries":
        """Return the queries chosen by a mask or an index."""
        return Queries(
            self.items, self.start[keep], self.stop[keep], self.target[keep], self.user[keep], self.event[keep]
        )


def make_queries(
    item: NDArray[np.int32],
    user: NDArray[np.int32],
    offsets: NDArray[np.int64],
    context: NDArray[np.bool_],
    targets: NDArray[np.bool_],
) -> Queries:
    """Ask for every event in ``targets``, with the user's events before it that are in ``context`` as history.

    All masks are (E,). Targets without any history are left out.
    """
    before = np.concatenate(([0], np.cumsum(context)))
    event = np.flatnonzero(targets)
    start, stop = before[offsets[user[event]]], before[event]
    queries = Queries(item[context], start, stop, item[event], user[event], event)
    return queries.select(stop > start)


def ragged_rows(start: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Expand slices: (row, position) for every position of every start[row]:stop[row], in order."""
    size = stop - start
    row = np.repeat(np.arange(len(size)), size)
    position = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size - start, size)
    return row, position
