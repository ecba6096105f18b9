"""The contract of a sequential recommender, and the blocks that several share.

Shapes: B batch, L length, D hidden, H heads, V catalogue, T targets. Items 1..V, padding 0 (at the front), mask V+1.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor

from srun.config import config
from srun.models.products import Linear, linear, product

NARROW = 16  # columns of a softmax, below which a CPU takes them one by one


@config
class ModelConfig:
    """What every recommender has."""

    hidden: Annotated[int, Field(ge=1)]
    """D: width of embeddings and states."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    tie_embeddings: bool
    """Score with the input embeddings; false gives [T]'s separate output embedding."""


class SequenceModel(nn.Module):
    """A recommender: the score of item v after a history is state . embedding(v).

    A subclass implements ``hidden`` and, when it is no next-item model, ``training_pairs`` and ``prediction_inputs``;
    ``last_state`` too where the states before the last need not be computed to the end.
    """

    Config: ClassVar[type[ModelConfig]] = ModelConfig
    title: ClassVar[str]
    """Its name in tables, figures and on the page, as its paper writes it."""
    next_item: ClassVar[bool] = True
    """Whether the last state of a training pass predicts the last item of the window from the ones before it."""
    has_neurons: ClassVar[bool] = False
    """Whether it has ``neuron_blocks``."""
    causal: ClassVar[bool] = True
    """Whether no state depends on what comes after its position."""

    def __init__(self, settings: ModelConfig, num_items: int, max_length: int) -> None:
        super().__init__()
        self.settings, self.num_items, self.max_length = settings, num_items, max_length
        self.embedding = nn.Embedding(num_items + 2, settings.hidden, padding_idx=0)
        self.output = None if settings.tie_embeddings else nn.Embedding(num_items + 1, settings.hidden, padding_idx=0)
        self.dropout = Dropout(settings.dropout)

    def hidden(self, inputs: Tensor) -> Tensor:
        """States (B, L, D) at every position of ``inputs`` (B, L), L <= max_length, padded at the front."""
        raise NotImplementedError(type(self).__name__)  # abstract: every entry of MODELS overrides it

    def last_state(self, inputs: Tensor) -> Tensor:
        """States (B, D) at the last position of ``inputs`` (B, L): ``hidden(inputs)[:, -1]``, perhaps for less work."""
        return self.hidden(inputs)[:, -1]

    @property
    def neuron_blocks(self) -> "Sequence[FeedForwardBlock]":
        """The blocks with feed-forward neurons, lowest first; empty for a recommender that has none."""
        return ()

    @property
    def state_writers(self) -> "Sequence[nn.Linear | nn.Embedding]":
        """What is projected to take a direction out of the states: modules whose outputs add up to one, and to scores.

        Where a norm comes after the sum, as it does here unless a model says otherwise, only the table that states are
        compared with can be: scores then no longer depend on the direction, but states still have it.
        """
        return [self.embedding if self.output is None else self.output]

    def final(self, x: Tensor) -> Tensor:
        """States of what the last of ``neuron_blocks`` gives; shapes are the same."""
        return x

    def training_pairs(self, windows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Turn windows (B, n+1) into inputs (B, L) and targets (B, L), 0 where nothing is predicted.

        The default is next-item prediction: at each item, the one that follows.
        """
        inputs, targets = windows[:, :-1], windows[:, 1:]
        return inputs, targets * (inputs != 0)

    def prediction_inputs(self, histories: Tensor) -> Tensor:
        """Inputs (B, L) whose last position predicts what follows ``histories`` (B, n)."""
        return histories

    def last_item_inputs(self, windows: Tensor) -> Tensor:
        """Inputs (B, L) whose last position predicts the last item of ``windows`` (B, n+1) from the ones before it."""
        return self.prediction_inputs(windows[:, :-1])

    @property
    def output_table(self) -> Tensor:
        """The parameter that holds ``output_weight``, perhaps with further rows: its gradient needs no copy."""
        return (self.embedding if self.output is None else self.output).weight

    @property
    def output_weight(self) -> Tensor:
        """(V+1, D) embeddings that states are compared with; row 0 is padding."""
        return self.output_table[: self.num_items + 1]

    def scores(self, state: Tensor) -> Tensor:
        """Scores (T, V+1) of the whole catalogue for states (T, D); column 0 means nothing."""
        if torch.is_grad_enabled():
            return state @ self.output_weight.T
        return product(state, self.output_weight)

    def item_scores(self, state: Tensor, items: Tensor) -> Tensor:
        """Scores (T,) or (T, N) of the given ``items`` for states (T, D)."""
        embedded = nn.functional.embedding(items, self.output_table, sparse=self.embedding.sparse)
        return (embedded * (state if items.dim() == 1 else state[:, None])).sum(-1)

    @contextmanager
    def sparse_gradients(self, wanted: bool) -> Iterator[None]:
        """Give the item tables sparse gradients, of the rows looked up, for what is computed inside."""
        self.embedding.sparse = wanted
        try:
            yield
        finally:
            self.embedding.sparse = False

    def use_generator(self, generator: torch.Generator) -> None:
        """Draw all dropout masks from ``generator`` from now on."""
        for module in self.modules():
            if isinstance(module, Dropout):
                module.generator = generator

    def take_part(self, part: tuple[int, int, int] | None) -> None:
        """Inputs are rows start to stop of a batch of so many from now on; None: they are the whole batch."""
        for module in self.modules():
            if isinstance(module, Dropout):
                module.part = part

    def initialise(self, generator: torch.Generator) -> None:
        """Set every weight: Xavier normal for matrices and filters, 1 for norms, 0 for biases and padding rows."""
        norms = {id(module.weight) for module in self.modules() if isinstance(module, nn.LayerNorm)}
        for parameter in self.parameters():
            if parameter.dim() > 1:
                fan_out, fan_in = parameter.shape[0], parameter[0].numel()
                nn.init.normal_(parameter, std=math.sqrt(2.0 / (fan_in + fan_out)), generator=generator)
            else:
                nn.init.constant_(parameter, 1.0 if id(parameter) in norms else 0.0)
        with torch.no_grad():
            self.embedding.weight[0] = 0
            if self.output is not None:
                self.output.weight[0] = 0


def require_divisible(hidden: int, heads: int) -> None:
    """Raise ValueError unless the heads share the hidden width evenly."""
    if hidden % heads:
        raise ValueError(f"hidden {hidden} is no multiple of heads {heads}")


class Dropout(nn.Module):
    """Inverted dropout whose masks come from a given generator, eight positions from each random 64-bit integer.

    The rate is rounded to a multiple of 1/256, at most 255/256; what is kept is scaled by the exact inverse.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.threshold = min(round(rate * 256), 255)
        self.generator: torch.Generator | None = None
        self.part: tuple[int, int, int] | None = None
        """First row, last and number of rows of a batch of which the input is a part: its mask is that of the whole."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.threshold == 0:
            return x
        if self.part is None:
            return (x * self.mask(x.shape, x.device)).to(x.dtype)
        start, stop, rows = self.part
        each = len(x) // (stop - start)  # heads, in attention
        mask = self.mask(torch.Size([rows * each, *x.shape[1:]]), x.device)[start * each : stop * each]
        return (x * mask).to(x.dtype)

    def mask(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Draw what an input of ``shape`` is multiplied with: 0, or the scale of what is kept."""
        words = torch.empty((shape.numel() + 7) // 8, dtype=torch.int64, device=device)
        words.random_(-(2**63), None, generator=self.generator)  # None: up to and with the largest integer
        draws = words.view(torch.uint8)[: shape.numel()].view(shape)
        mask = torch.empty(shape, device=device)
        torch.ge(draws, self.threshold, out=mask)  # by way of a tensor of bools it takes four times as long
        return mask.mul_(256 / (256 - self.threshold))


class FeedForwardBlock(nn.Module):
    """A block of attention and feed-forward with a middle that can be reached: its neurons are what enters ``outer``.

    Shapes: Q queries, U neurons. Everything but attention works position by position.
    """

    attention: "Attention"
    outer: nn.Linear

    def attend(self, query: Tensor, memory: Tensor, blocked: Tensor) -> Tensor:
        """Attention with its residual: ``query`` (B, Q, D) over ``memory`` (B, L, D) -> (B, Q, D)."""
        raise NotImplementedError(type(self).__name__)  # abstract: every block overrides it

    def neurons(self, attended: Tensor) -> Tensor:
        """Activations (B, Q, U) of the feed-forward's middle."""
        raise NotImplementedError(type(self).__name__)  # abstract: every block overrides it

    def output(self, attended: Tensor, neurons: Tensor) -> Tensor:
        """What the block gives for the neurons, (B, Q, D)."""
        raise NotImplementedError(type(self).__name__)  # abstract: every block overrides it

    def forward(self, x: Tensor, blocked: Tensor, last: bool = False) -> Tensor:
        """Map states (B, L, D) to states (B, L, D), or (B, 1, D) of the ``last`` position."""
        attended = self.attend(x[:, -1:], x, blocked[..., -1:, :]) if last else self.attend(x, x, blocked)
        return self.output(attended, self.neurons(attended))


class Attention(nn.Module):
    """Multi-head scaled dot-product attention with the parameters of torch.nn.MultiheadAttention."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (Linear(hidden, hidden) for _ in range(3))
        self.out = Linear(hidden, hidden)
        self.dropout = Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor, blocked: Tensor) -> Tensor:
        """Attend from ``query`` (B, Q, D) to ``memory`` (B, L, D); ``blocked`` is additive, (B, Q, L) or broadcast."""
        if self.heads == 1:
            return self._one_head(query, memory, blocked)
        batch, _, hidden = query.shape

        def split(x: Tensor, parts: int) -> Tensor:  # (parts, B H, L, D/H)
            return x.view(batch, -1, parts, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4).flatten(1, 2)

        if memory is query:  # one wide product takes less time than three narrow ones
            weight = torch.cat([self.query.weight, self.key.weight, self.value.weight])
            bias = torch.cat([self.query.bias, self.key.bias, self.value.bias])
            q, k, v = split(linear(memory, weight, bias), 3)
        else:
            pairs = ((self.query, query), (self.key, memory), (self.value, memory))
            q, k, v = (split(layer(x), 1)[0] for layer, x in pairs)
        if blocked.dim() == 3:
            blocked = blocked.repeat_interleave(self.heads, 0)
        scale = 1 / math.sqrt(hidden // self.heads)
        weights = torch.baddbmm(blocked.to(q.dtype), q, k.transpose(1, 2), alpha=scale)  # (B H, Q, L)
        mixed = torch.bmm(self._shares(weights), v)
        mixed = mixed.view(batch, self.heads, -1, hidden // self.heads).transpose(1, 2).flatten(2)
        out: Tensor = self.out(mixed)
        return out

    def _one_head(self, query: Tensor, memory: Tensor, blocked: Tensor) -> Tensor:
        """The same with half the products: a weight that meets another before the data is multiplied by it first.

        The key's bias adds the same to all scores of a query, which changes no share; it is kept for the checkpoints.
        """
        scale = 1 / math.sqrt(query.shape[2])
        by_key, by_out = self.key.weight.T * scale, self.out.weight  # (D, D) each
        q = linear(query, by_key @ self.query.weight, by_key @ self.query.bias)
        v = linear(memory, by_out @ self.value.weight, by_out @ self.value.bias)
        weights = self._shares(torch.baddbmm(blocked.to(q.dtype), q, memory.transpose(1, 2)))  # (B, Q, L)
        return torch.baddbmm(self.out.bias.to(q.dtype), weights, v)

    def _shares(self, scores: Tensor) -> Tensor:
        """Softmax and dropout of ``scores`` (B, Q, L).

        Fewer than 16 columns are filled up to 16: torch's kernel for a CPU takes up to ten times as long for those.
        """
        length = scores.shape[-1]
        wide = length >= NARROW or not scores.is_cpu
        filled = scores if wide else nn.functional.pad(scores, (0, NARROW - length), value=float("-inf"))
        shares: Tensor = self.dropout(filled.softmax(-1)[..., :length])
        return shares


def attention_block(inputs: Tensor, causal: bool) -> Tensor:
    """Additive mask that broadcasts to (B, L, L) for ``inputs`` (B, L): what keeps a query from looking at an item.

    Padding counts -1e30, which leaves it no share beside any item; a padded query, which sees nothing else, shares
    itself out among the padding. With -inf its row would be NaN, and that would spread.
    """
    length = inputs.shape[1]
    block = torch.zeros(length, length, device=inputs.device)
    if causal:
        block = torch.full_like(block, float("-inf")).triu_(1)
    # most batches of windows of one length; elsewhere to ask takes longer, and vmap cannot
    if inputs.is_cpu and not is_batchedtensor(inputs) and bool(inputs.all()):
        return block
    return block + ((inputs == 0) * -1e30)[:, None]
