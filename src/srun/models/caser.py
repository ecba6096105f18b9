"""Caser: convolutions over the embeddings of the last items (Tang and Wang, 2018).

Shapes: B batch, L length, D hidden, W window, F filters, P = W-1+L places.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from srun.config import config
from srun.models.base import ModelConfig, SequenceModel


@config
class CaserConfig(ModelConfig):
    window: Annotated[int, Field(ge=1)]
    """W: how many of the last items are seen; time and memory grow with its square."""
    vertical_filters: Annotated[int, Field(ge=1)]
    horizontal_filters: Annotated[int, Field(ge=1)]
    """Filters of each height from 1 to ``window``."""


class Caser(SequenceModel):
    """Horizontal and vertical convolutions over the last W items, then a layer; next-item targets at every position.

    Deviation: no user embedding, since user ids are no input here ([T] 3.2.1), and no bias of items; the target is the
    next item only, not several.
    """

    Config = CaserConfig
    title = "Caser"

    def __init__(self, settings: CaserConfig, num_items: int, max_length: int) -> None:
        super().__init__(settings, num_items, max_length)
        hidden, self.window = settings.hidden, settings.window
        num_vertical, num_horizontal = settings.vertical_filters, settings.horizontal_filters
        self.vertical = nn.Parameter(torch.empty(num_vertical, self.window))
        self.vertical_bias = nn.Parameter(torch.empty(num_vertical))
        self.horizontal = nn.ParameterList(
            torch.empty(num_horizontal, hidden, height) for height in range(1, self.window + 1)
        )
        self.horizontal_bias = nn.Parameter(torch.empty(self.window * num_horizontal))
        self.linear = nn.Linear(num_vertical * hidden + self.window * num_horizontal, hidden)

    def hidden(self, inputs: Tensor) -> Tensor:
        """States (B, L, D): the one at a position comes from the W items that end there, zeros where there are none."""
        x = pad(self.embedding(inputs), (0, 0, self.window - 1, 0))  # (B, P, D)
        features = torch.cat([self._vertical(x), self._horizontal(x)], -1)
        return torch.relu(self.linear(self.dropout(features)))

    def _vertical(self, x: Tensor) -> Tensor:
        """(B, L, FD): weighted sums of the W embeddings that end at each position."""
        summed = x.unfold(1, self.window, 1) @ self.vertical.T + self.vertical_bias  # (B, L, D, F)
        return summed.transpose(2, 3).flatten(2)

    def _horizontal(self, x: Tensor) -> Tensor:
        """(B, L, WF): for each height and filter the largest response within the W items that end at each position.

        Windows overlap, so each place is convolved once. One product with the rows of all filters, added up with
        shifts, takes a fifth of the time of as many small convolutions on a CPU.
        """
        rows = [filters.permute(1, 2, 0).flatten(1) for filters in self.horizontal]  # (D, height * F) each
        parts = iter((x @ torch.cat(rows, 1)).split(len(self.horizontal[0]), -1))  # (B, P, F) each
        largest = []
        for height in range(1, self.window + 1):
            count = x.shape[1] - height + 1
            responses = torch.stack([next(parts)[:, row : row + count] for row in range(height)]).sum(0)
            # no max_pool1d: its gradient adds up in any order on a GPU
            largest.append(responses.unfold(1, self.window - height + 1, 1).amax(-1))  # (B, L, F)
        return torch.relu(torch.cat(largest, -1) + self.horizontal_bias)
