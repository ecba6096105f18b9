"""A recommender to start from: copy it to src/srun/models/recent.py, list it in MODELS, give it a block.

The line in src/srun/models/__init__.py, with its import: "recent": Recent,
The block under ``model`` in params.yaml: recent: {hidden: 64, dropout: 0.2, tie_embeddings: true, last: 3}

Shapes: B batch, L length, D hidden.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from srun.config import config
from srun.models.base import ModelConfig, SequenceModel


@config
class RecentConfig(ModelConfig):  # hidden, dropout and tie_embeddings are every model's
    last: Annotated[int, Field(ge=1)]
    """Items that a state is the mean of, its own and those before it."""


class Recent(SequenceModel):
    """The state at a position is the mean embedding of the last items up to it."""

    Config = RecentConfig
    title = "Mean of recent items"  # in tables, figures and on the page

    def __init__(self, settings: RecentConfig, num_items: int, max_length: int) -> None:
        super().__init__(settings, num_items, max_length)  # makes self.embedding, self.output and self.dropout
        self.last = settings.last

    def hidden(self, inputs: Tensor) -> Tensor:
        embedded = self.dropout(self.embedding(inputs))  # (B, L, D), 0 at padding, which stands at the front
        before = pad(embedded, (0, 0, self.last - 1, 0))  # (B, L + last - 1, D)
        number = pad((inputs != 0).float(), (self.last - 1, 0)).unfold(1, self.last, 1).sum(-1)  # (B, L) real items
        return before.unfold(1, self.last, 1).sum(-1) / number.clamp_min(1)[..., None]  # (B, L, D)
