"""GRU4Rec: a gated recurrent layer over the history (Hidasi et al., 2016), as [T] 3.3.1 trains it.

Shapes: B batch, L length, D hidden.
"""

from typing import Self

import torch
from torch import Tensor, nn

from srun.config import config
from srun.models.base import ModelConfig, SequenceModel


@config
class GRU4RecConfig(ModelConfig):
    pass


class GRU4Rec(SequenceModel):
    """One GRU layer over item embeddings; next-item targets at every position.

    Deviation: the authors' session-parallel batches and ranking losses are left out, as in [T] 3.3.1.
    """

    Config = GRU4RecConfig
    title = "GRU4Rec"

    def __init__(self, settings: GRU4RecConfig, num_items: int, max_length: int) -> None:
        super().__init__(settings, num_items, max_length)
        self.gru = nn.GRU(settings.hidden, settings.hidden, batch_first=True)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but the recurrent layer: it has no dropout, and cuDNN has a gradient in training only."""
        super().train(mode)
        self.gru.train()
        return self

    def hidden(self, inputs: Tensor) -> Tensor:
        """States (B, L, D) of ``inputs`` (B, L) padded at the front; 0 at padding.

        The state is 0 until the first item: rows are moved to the left, so that padding comes after all items, where it
        reaches no state that is used, and moved back.
        """
        length = inputs.shape[1]
        real = inputs != 0
        padding = length - real.sum(1, keepdim=True)  # (B, 1)
        position = torch.arange(length, device=inputs.device)
        moved = inputs.gather(1, (position + padding) % length)  # (B, L)
        states: Tensor = self.gru(self.dropout(self.embedding(moved)))[0]
        back = ((position - padding) % length)[..., None].expand_as(states)
        return states.gather(1, back) * real[..., None]
