"""Training data on the device: windows as one tensor, shuffled batches, exact negatives.

Shapes: W windows, n maximum length, B batch, T targets, N negatives, V catalogue, K known (user, item) pairs.
"""

from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from srun.data.dataset import Dataset, Mask, training_windows, user_items
from srun.errors import DataError, RunError

MAX_ROUNDS = 20_000  # of rejection before a user is said to have no negative
GROUP = 32  # batches within which windows are sorted by length
MAX_BITMAP = 2**28  # bytes, of eight pairs of user and item each; where there are more, known ones are searched for


class TrainingData:
    """The windows of a set of events, with what is needed to draw negatives for their users.

    ``catalogue`` (V+1,) restricts softmax and negatives to some items; None means all.
    """

    def __init__(self, data: Dataset, events: Mask, catalogue: Mask | None, device: torch.device) -> None:
        windows = training_windows(data, events)
        if not len(windows.items):
            raise DataError(f'data set "{data.info["name"]}": no training sequence has two items or more')
        self.num_items, self.device = data.num_items, device
        self.windows = _tensor(windows.items, device)  # (W, n+1)
        self.user = _tensor(windows.user, device)  # (W,)
        self.length = (self.windows != 0).sum(1)  # (W,)
        self.known = torch.from_numpy(user_items(data, events)).to(device)  # (K,) sorted user * (V + 1) + item
        self.bitmap: Tensor | None = None
        size = data.num_users * (data.num_items + 1) // 8 + 1
        if size <= MAX_BITMAP:
            bits = (1 << (self.known & 7)).to(torch.uint8)  # no pair occurs twice, so that sums are unions
            self.bitmap = torch.zeros(size, dtype=torch.uint8, device=device).index_add_(0, self.known >> 3, bits)
        self.catalogue = None if catalogue is None else torch.from_numpy(catalogue).to(device)
        self.candidates = torch.arange(1, data.num_items + 1, device=device)
        if self.catalogue is not None:
            self.candidates = torch.nonzero(self.catalogue)[:, 0]

    def __len__(self) -> int:
        return len(self.windows)

    def epoch(self, batch_size: int, generator: torch.Generator, group_by_length: bool = False) -> Iterator[Tensor]:
        """Yield the row numbers (B,) of one shuffled pass over all windows.

        ``group_by_length``: windows are sorted by length within every ``GROUP`` batches of the shuffled order, so that
        those of a batch are about equally long and little is padded, and the batches are shuffled in turn. Each has
        the same share of real positions, thus more windows than ``batch_size`` if they are short and fewer if long:
        with as many of each, targets in short windows would weigh more.
        """
        order = torch.randperm(len(self), generator=generator, device=generator.device).to(self.device)
        if not group_by_length:
            yield from torch.split(order, batch_size)
            return
        batches = [
            batch
            for group in torch.split(order, GROUP * batch_size)
            for batch in _equal_shares(group, self.length[group], -(-len(group) // batch_size))
        ]
        for index in torch.randperm(len(batches), generator=generator, device=generator.device).tolist():
            yield batches[index]

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Windows (B, L) and users (B,) of the given rows; columns that are padding in all of them are left out."""
        width = int(self.length[rows].max())
        return self.windows[rows][:, -width:], self.user[rows]

    def negatives(self, users: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """(T, N) items drawn uniformly from the catalogue without the users' own training items; ``users`` is (T,)."""
        keys = users[:, None] * (self.num_items + 1)
        drawn = self.draw((len(users), count), generator)
        for _ in range(MAX_ROUNDS):
            bad = self._is_known(keys + drawn).flatten().nonzero()[:, 0]
            if not len(bad):
                return drawn
            drawn.view(-1)[bad] = self.draw((len(bad),), generator)
        raise RunError(f"no negative item found for a user in {MAX_ROUNDS} draws; use train.loss=ce, which needs none")

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Items of a ``shape``, drawn uniformly from the catalogue, some more than once."""
        return self.candidates[torch.randint(len(self.candidates), shape, generator=generator, device=self.device)]

    def _is_known(self, keys: Tensor) -> Tensor:
        if self.bitmap is not None:
            return self.bitmap[keys >> 3] >> (keys & 7) & 1
        place = torch.searchsorted(self.known, keys).clamp_(max=len(self.known) - 1)
        return self.known[place] == keys


class Cycle:
    """Batches of row numbers without end, a new shuffle at each pass; ``order`` and ``position`` are its state."""

    def __init__(self, num_rows: int, batch_size: int, generator: torch.Generator) -> None:
        self.batch_size, self.generator = batch_size, generator
        self.order = torch.zeros(num_rows, dtype=torch.int64)
        self.position = num_rows

    def next(self) -> Tensor:
        """Row numbers (B,) of the next batch; the last of a pass may be smaller."""
        if self.position >= len(self.order):
            device = self.generator.device
            self.order = torch.randperm(len(self.order), generator=self.generator, device=device)
            self.position = 0
        rows = self.order[self.position : self.position + self.batch_size]
        self.position += self.batch_size
        return rows


def _equal_shares(rows: Tensor, lengths: Tensor, number: int) -> list[Tensor]:
    """Sort ``rows`` by their ``lengths`` and cut them into ``number`` batches of about the same length in sum."""
    lengths, place = lengths.sort(stable=True)
    middle = lengths.cumsum(0) - lengths / 2  # of each row on the line of all positions
    sizes = (middle * number / lengths.sum()).long().bincount(minlength=number).tolist()
    return [batch for batch in torch.split(rows[place], sizes) if len(batch)]


def _tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(array.astype("int64")).to(device)
