"""SASRec: causal self-attention over the history (Kang and McAuley, 2018)."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from srun.config import config
from srun.models.base import (
    Attention,
    Dropout,
    FeedForwardBlock,
    ModelConfig,
    SequenceModel,
    attention_block,
    require_divisible,
)
from srun.models.products import Linear


@config
class SASRecConfig(ModelConfig):
    blocks: Annotated[int, Field(ge=1)]
    heads: Annotated[int, Field(ge=1)]

    def __post_init__(self) -> None:
        require_divisible(self.hidden, self.heads)


class Block(FeedForwardBlock):
    """Attention and point-wise feed-forward, each with a residual, in the order of the authors' code."""

    def __init__(self, settings: SASRecConfig) -> None:
        super().__init__()
        hidden = settings.hidden
        self.attention_norm, self.feed_forward_norm = (nn.LayerNorm(hidden, eps=1e-8) for _ in range(2))
        self.attention = Attention(hidden, settings.heads, settings.dropout)
        self.inner, self.outer = Linear(hidden, hidden), Linear(hidden, hidden)
        self.dropout = Dropout(settings.dropout)

    def attend(self, query: Tensor, memory: Tensor, blocked: Tensor) -> Tensor:
        query = self.attention_norm(query)
        attended: Tensor = self.feed_forward_norm(query + self.attention(query, memory, blocked))
        return attended

    def neurons(self, attended: Tensor) -> Tensor:
        middle: Tensor = self.dropout(self.inner(attended))  # (B, L, D)
        return middle.relu()

    def output(self, attended: Tensor, neurons: Tensor) -> Tensor:
        change: Tensor = self.dropout(self.outer(neurons))
        return attended + change


class SASRec(SequenceModel):
    """Item + learned position embedding, causal attention blocks, layer norm; next-item targets at every position."""

    Config = SASRecConfig
    title = "SASRec"
    has_neurons = True

    def __init__(self, settings: SASRecConfig, num_items: int, max_length: int) -> None:
        super().__init__(settings, num_items, max_length)
        self.position = nn.Embedding(max_length, settings.hidden)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.blocks))
        self.norm = nn.LayerNorm(settings.hidden, eps=1e-8)

    @property
    def neuron_blocks(self) -> Sequence[FeedForwardBlock]:
        return list(self.blocks)  # type: ignore[arg-type]  # a ModuleList is typed as of any modules

    def final(self, x: Tensor) -> Tensor:
        states: Tensor = self.norm(x)
        return states

    def hidden(self, inputs: Tensor) -> Tensor:
        return self._states(inputs, False)

    def last_state(self, inputs: Tensor) -> Tensor:
        return self._states(inputs, True)[:, 0]

    def _states(self, inputs: Tensor, last: bool) -> Tensor:
        """States (B, L, D), or (B, 1, D) of the ``last`` position."""
        length = inputs.shape[1]
        # positions count from the end, so that trimming padding at the front changes nothing
        position = self.position.weight[self.max_length - length :]
        x = self.dropout(torch.add(position, self.embedding(inputs), alpha=self.settings.hidden**0.5))
        blocked = attention_block(inputs, causal=True)
        for number, block in enumerate(self.blocks, 1):
            x = block(x, blocked, last and number == len(self.blocks))
        return self.final(x)
