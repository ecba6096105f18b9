"""BERT4Rec: bidirectional self-attention trained by filling in masked items (Sun et al., 2019).

Shapes: B batch, L length, D hidden, n maximum length of a history.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

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

EPSILON = 1e-12  # of the norms, as the authors have it


@config
class BERT4RecConfig(ModelConfig):
    blocks: Annotated[int, Field(ge=1)]
    heads: Annotated[int, Field(ge=1)]
    mask_probability: Annotated[float, Field(gt=0, le=1)]
    """Chance of an item of a training window to be masked; at least one is."""
    norm_first: bool
    """false: norm of the embeddings, then norms after each residual (the authors, RecBole). true: none of the
    embeddings, and norms before attention and feed-forward only (the implementation that [T] used)."""
    gelu: Literal["exact", "tanh"]
    """``exact``: by the error function (the authors). ``tanh``: its approximation (the implementation of [T])."""

    def __post_init__(self) -> None:
        require_divisible(self.hidden, self.heads)


class Block(FeedForwardBlock):
    """Attention and feed-forward of four times the width, each with dropout, a residual and a norm."""

    def __init__(self, settings: BERT4RecConfig) -> None:
        super().__init__()
        hidden = settings.hidden
        self.norm_first = settings.norm_first
        self.attention_norm, self.feed_forward_norm = (nn.LayerNorm(hidden, eps=EPSILON) for _ in range(2))
        self.attention = Attention(hidden, settings.heads, settings.dropout)
        self.inner, self.outer = Linear(hidden, 4 * hidden), Linear(4 * hidden, hidden)
        self.activation = nn.GELU("tanh" if settings.gelu == "tanh" else "none")
        self.dropout = Dropout(settings.dropout)

    def attend(self, query: Tensor, memory: Tensor, blocked: Tensor) -> Tensor:
        attended: Tensor
        if self.norm_first:
            normed = self.attention_norm(query)
            memory = normed if memory is query else self.attention_norm(memory)
            attended = query + self.dropout(self.attention(normed, memory, blocked))
        else:
            attended = self.attention_norm(query + self.dropout(self.attention(query, memory, blocked)))
        return attended

    def neurons(self, attended: Tensor) -> Tensor:
        if self.norm_first:
            attended = self.feed_forward_norm(attended)
        middle: Tensor = self.activation(self.inner(attended))  # (B, L, 4D)
        return middle

    def output(self, attended: Tensor, neurons: Tensor) -> Tensor:
        x: Tensor = attended + self.dropout(self.outer(neurons))
        x = x if self.norm_first else self.feed_forward_norm(x)
        return x


class BERT4Rec(SequenceModel):
    """Item + learned position embedding, bidirectional blocks; targets are the masked items of a window.

    Deviation: scores have no output transform and no bias of items, which the authors' model has: [T] 3.3.1 takes the
    dot product with an item embedding for all models alike. No training sample masks the last item alone, either.
    """

    Config = BERT4RecConfig
    title = "BERT4Rec"
    next_item = False
    has_neurons = True
    causal = False

    def __init__(self, settings: BERT4RecConfig, num_items: int, max_length: int) -> None:
        super().__init__(settings, num_items, max_length)
        self.mask, self.mask_probability = num_items + 1, settings.mask_probability
        self.position = nn.Embedding(max_length + 1, settings.hidden)
        self.norm_first = settings.norm_first
        self.norm = nn.Identity() if settings.norm_first else nn.LayerNorm(settings.hidden, eps=EPSILON)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.blocks))

    @property
    def neuron_blocks(self) -> Sequence[FeedForwardBlock]:
        return list(self.blocks)  # type: ignore[arg-type]  # a ModuleList is typed as of any modules

    @property
    def state_writers(self) -> Sequence[nn.Linear | nn.Embedding]:
        tables = super().state_writers
        if not self.norm_first:
            return tables
        layers = [layer for block in self.neuron_blocks for layer in (block.attention.out, block.outer)]
        return [*tables, *([] if self.output is None else [self.embedding]), self.position, *layers]

    def hidden(self, inputs: Tensor) -> Tensor:
        """States (B, L, D) of ``inputs`` (B, L), L <= n+1; those of padding mean nothing."""
        return self._states(inputs, False)

    def last_state(self, inputs: Tensor) -> Tensor:
        return self._states(inputs, True)[:, 0]

    def _states(self, inputs: Tensor, last: bool) -> Tensor:
        """States (B, L, D), or (B, 1, D) of the ``last`` position."""
        # positions count from the end, so that trimming padding at the front changes nothing
        position = self.position.weight[self.max_length + 1 - inputs.shape[1] :]
        x: Tensor = self.dropout(self.norm(self.embedding(inputs) + position))
        blocked = attention_block(inputs, causal=False)
        for number, block in enumerate(self.blocks, 1):
            x = block(x, blocked, last and number == len(self.blocks))
        return x

    def training_pairs(self, windows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The cloze task: windows with masks for inputs, and the masked items for targets, both (B, n+1).

        Each item is masked with ``mask_probability``; the one with the lowest draw of its window is masked always.
        """
        real = windows != 0
        draws = torch.rand(windows.shape, generator=generator, device=windows.device).masked_fill_(~real, 2.0)
        masked = real & ((draws < self.mask_probability) | (draws == draws.amin(1, keepdim=True)))
        return windows.masked_fill(masked, self.mask), windows * masked

    def prediction_inputs(self, histories: Tensor) -> Tensor:
        """The last n items of ``histories`` and the mask, (B, L+1)."""
        mask = histories.new_full((len(histories), 1), self.mask)
        return torch.cat([histories[:, -self.max_length :], mask], 1)
