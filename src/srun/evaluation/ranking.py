"""Ranks of targets in the whole catalogue and among sampled candidates.

Shapes: Q queries, B batch, L length, V catalogue, C context positions, S sampled candidates. No Q x V matrix is kept.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srun.data.dataset import Dataset, user_items
from srun.data.sequences import Queries, ragged_rows
from srun.metrics.ranking import EventRanks
from srun.models.scorer import Scorer
from srun.rng import derive
from srun.system import distributed

NUM_SAMPLED = 100
CHUNK = 3 * 2**20  # scores kept at a time on a CPU: more than its cache has room for, fewer read the items too often
ROWS = 32  # of scores compared at a time on a CPU, so that what comes of it stays in the cache


def recall_name(split: str) -> str:
    """Recall on held-out targets, hit on forgotten and never-seen events and in categories: one formula ([T])."""
    return "recall" if split.startswith(("validation", "test")) else "hit"


@dataclass(frozen=True)
class RankingTask:
    """Queries as tensors on the device, made once and ranked as often as needed."""

    queries: Queries  # (Q,) in the order they were given
    histories: Tensor  # (Q, L)
    users: Tensor  # (Q,)
    targets: Tensor  # (Q,)
    context_row: Tensor  # (C,) ascending
    context_item: Tensor  # (C,) items of the full contexts, which are no candidates
    sampled: Tensor | None  # (Q, S) further candidates of the sampled protocol; 0 fills up
    batch_size: int
    order: Tensor  # (Q,) where each row stood among the queries given
    lengths: list[int]  # (Q,) of the histories, ascending: so that little is padded

    @classmethod
    def make(
        cls,
        queries: Queries,
        max_length: int,
        device: torch.device,
        batch_size: int,
        sampled: NDArray[np.int64] | None = None,
    ) -> "RankingTask":
        lengths = np.minimum(queries.stop - queries.start, max_length)
        order = np.argsort(lengths, kind="stable")
        ordered, sampled = queries.select(order), None if sampled is None else sampled[order]
        row, position = ragged_rows(ordered.start, ordered.stop)

        def tensor(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array.astype(np.int64)).to(device)

        return cls(
            queries=queries,
            histories=tensor(ordered.histories(max_length)),
            users=tensor(ordered.user),
            targets=tensor(ordered.target),
            context_row=tensor(row),
            context_item=tensor(ordered.items[position]),
            sampled=None if sampled is None else tensor(sampled),
            batch_size=batch_size,
            order=tensor(order),
            lengths=lengths[order].tolist(),
        )

    def __len__(self) -> int:
        return len(self.targets)

    @torch.inference_mode()
    def ranks(self, scorer: Scorer) -> EventRanks:
        """Ranks in the whole catalogue without the own context, and among the sampled candidates, if any."""
        size = self.batch_size
        if self.targets.is_cpu:
            size = min(size, max(CHUNK // scorer.num_items, 64))
        ranks = torch.zeros(2, len(self), dtype=torch.float64, device=self.targets.device)
        starts = range(0, len(self), size)
        edges = torch.arange(0, len(self) + size, size, device=self.targets.device)
        splits = torch.searchsorted(self.context_row, edges).tolist()
        # several processes take whole batches each, so that the ranks are those of one process to the bit
        for index in range(*distributed.share(len(starts))):
            start = starts[index]
            part = slice(start, start + size)
            width = self.lengths[part][-1]
            scores = scorer.scores(self.histories[part, -width:], self.users[part])
            target = scores.gather(1, self.targets[part, None])  # (B, 1)
            if self.sampled is not None:
                others = scores.gather(1, self.sampled[part])
                others[self.sampled[part] == 0] = float("nan")
                ranks[1, part] = _rank(others, target) + 1
            inside = slice(splits[index], splits[index + 1])
            # NaN is neither higher than the target nor equal to it: padding, the context and the target drop out
            scores[self.context_row[inside] - start, self.context_item[inside]] = float("nan")
            scores.scatter_(1, self.targets[part, None], float("nan"))
            scores[:, 0] = float("nan")
            ranks[0, part] = _rank(scores, target) + 1
        distributed.add_up(ranks)
        in_order = torch.empty_like(ranks).index_copy_(1, self.order, ranks).cpu().numpy()
        sampled = None if self.sampled is None else in_order[1]
        return EventRanks(self.queries.event, self.queries.user, in_order[0], sampled)

    @torch.inference_mode()
    def top(self, scorer: Scorer, k: int) -> NDArray[np.int64]:
        """(Q, K) the best candidates after every history; 0 fills up. The context is no candidate, the target is."""
        k = min(k, scorer.num_items)
        lists = np.zeros((len(self), k), dtype=np.int64)
        for start in range(0, len(self), self.batch_size):
            part = slice(start, start + self.batch_size)
            scores = scorer.scores(self.histories[part], self.users[part])
            target = scores.gather(1, self.targets[part, None])
            inside = (self.context_row >= start) & (self.context_row < start + self.batch_size)
            scores[self.context_row[inside] - start, self.context_item[inside]] = float("-inf")
            scores.scatter_(1, self.targets[part, None], target)
            scores[:, 0] = float("-inf")
            best = scores.topk(k, 1)
            items = best.indices.masked_fill(best.values == float("-inf"), 0)
            lists[self.order[part].cpu().numpy()] = items.cpu().numpy()
        return lists


def _rank(scores: Tensor, target: Tensor) -> Tensor:
    """(B,) number of ``scores`` (B, C) above ``target`` (B, 1), ties counted half.

    Comparisons go into a tensor of numbers: by way of bools it takes four times as long. Up to 2**24 ones are summed
    exactly in float32.
    """
    ranks = torch.empty(len(scores), dtype=torch.float64, device=scores.device)
    rows = ROWS if scores.is_cpu else len(scores)
    memory = torch.empty(min(rows, len(scores)), scores.shape[1], device=scores.device)
    for part, own, rank in zip(scores.split(rows), target.split(rows), ranks.split(rows), strict=True):
        compared = memory[: len(part)]
        higher = torch.gt(part, own, out=compared).sum(1).double()
        rank.copy_((higher + torch.ge(part, own, out=compared).sum(1)) / 2)
    return ranks


def sample_candidates(
    data: Dataset, queries: Queries, seed: int, number: int = NUM_SAMPLED, known: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """(Q, S) items for the sampled protocol, drawn without replacement from those nowhere in the user's raw sequence.

    The draw depends on the seed and the event alone, so every model, split and batch sees the same candidates.
    Users who know almost every item get fewer; 0 fills up. ``known`` are the ``known_pairs`` of the data, where they
    are at hand.
    """
    known = known_pairs(data) if known is None else known
    users = queries.user.astype(np.int64)
    base = data.num_items + 1
    start, stop = (np.searchsorted(known, edge * base) for edge in (users, users + 1))  # (Q,) what the user knows
    wanted = np.minimum(number, data.num_items - (stop - start))
    table = np.zeros((len(queries), number), dtype=np.int64)
    open_rows, width = np.flatnonzero(wanted > 0), number + number // 8 + 1
    while len(open_rows):
        for rows in np.array_split(open_rows, max(1, len(open_rows) * width // 4_000_000)):
            row, position = ragged_rows(start[rows], stop[rows])
            drawn = _hashed_items(queries.event[rows], width, derive(seed, "sampled"), data.num_items)  # (R, width)
            _keep_first(table, rows, drawn, wanted, row * base + known[position] % base, base)
        open_rows = open_rows[(table[open_rows] > 0).sum(1) < wanted[open_rows]]
        width *= 2
    return table


def known_pairs(data: Dataset) -> NDArray[np.int64]:
    """(K,) who has what in the raw sequences, as sorted keys: see ``dataset.user_items``."""
    return user_items(data, np.ones(data.num_events, dtype=bool))


def _keep_first(
    table: NDArray[np.int64],
    rows: NDArray[np.int64],
    drawn: NDArray[np.int64],
    wanted: NDArray[np.int64],
    forbidden: NDArray[np.int64],
    base: int,
) -> None:
    """Put into ``rows`` of ``table`` the first of the items ``drawn`` (R, width) that are new and not ``forbidden``.

    ``forbidden`` are keys row * base + item. The draws are sorted by item, so that equal ones lie side by side and
    what a user knows is looked up among the draws: it is less than the other way round.
    """
    width = drawn.shape[1]
    bits = width.bit_length()
    keys = drawn << bits | np.arange(width)  # by item, then by column
    keys.sort(axis=1)
    items, column = keys >> bits, keys & ((1 << bits) - 1)
    bad = np.zeros(items.shape, dtype=bool)
    bad[:, 1:] = items[:, 1:] == items[:, :-1]
    flat = (items + np.arange(len(rows))[:, None] * base).ravel()
    place = np.minimum(np.searchsorted(flat, forbidden), len(flat) - 1)
    bad.ravel()[place[flat[place] == forbidden]] = True  # the first of equals; the others are bad already
    good = np.empty_like(bad)
    np.put_along_axis(good, column, ~bad, 1)
    rank = np.cumsum(good, axis=1) - 1
    good &= rank < wanted[rows][:, None]
    table[rows] = 0
    line, column = np.nonzero(good)
    table[rows[line], rank[line, column]] = drawn[line, column]


def _hashed_items(events: NDArray[np.int64], width: int, seed: int, num_items: int) -> NDArray[np.int64]:
    """(R, width) items 1..V from a counter-based generator (splitmix64): column j of an event is always the same."""
    golden, first, second = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
    with np.errstate(over="ignore"):
        state = (events.astype(np.uint64) * first + np.uint64(seed))[:, None]
        state = state + np.arange(1, width + 1, dtype=np.uint64) * golden
        state = (state ^ (state >> np.uint64(30))) * first
        state = (state ^ (state >> np.uint64(27))) * second
        state ^= state >> np.uint64(31)
    return (state % np.uint64(num_items)).astype(np.int64) + 1
