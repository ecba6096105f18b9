"""What is the same for all requests to one Original, worked out before any is known.

It is made of Original and of every training event, so that it stays private as the table of cross-fitted models does:
it is in no published folder, and whoever has carried out a request makes it anew or erases it.

Shapes: N rows, Q asked for, n maximum length, D hidden.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Known:
    """Rows of items, found again by the event that they end with, and what one model says of each."""

    event: Tensor  # (N,) rising
    items: Tensor  # (N, n+1)
    values: Tensor  # (N, ...)

    @classmethod
    def of(cls, event: Tensor, items: Tensor, values: Tensor) -> "Known":
        """The rows in any order."""
        order = event.argsort()
        return cls(event[order], items[order], values[order])

    def find(self, event: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Values (Q, ...) of rows ``items`` (Q, n+1) that end with ``event`` (Q,), and which (Q,) of them are known.

        A row is known if all of its items are the same. Values of the others mean nothing.
        """
        place = torch.searchsorted(self.event, event).clamp(max=len(self.event) - 1)
        known = (self.event[place] == event) & (self.items[place] == items).all(1)
        return self.values[place], known


@dataclass(frozen=True)
class Prepared:
    """What the closed form and levels by event look up instead of asking Original again.

    Features of retained data are no part of it: worked out from all data they would hold what a request forgets.
    """

    aside: Known
    """z_rank (N,) of the events set aside that methods learn from."""
    windows: Known
    """(N, D + 1) state that predicts the last item of a training window, and log of the sum of exp(scores) there."""

    @property
    def num_bytes(self) -> int:
        """Of all that is kept."""
        parts = [getattr(known, part.name) for known in (self.aside, self.windows) for part in fields(known)]
        return sum(part.nbytes for part in parts)
