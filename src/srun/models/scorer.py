"""What is ranked: one or more models, with what must never be recommended.

Shapes: B batch, L length, V catalogue.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from srun.config import build
from srun.errors import CheckpointError
from srun.models import MODELS
from srun.models.base import SequenceModel


@dataclass
class Aggregation:
    """How the scores of several models become one, where it is not their mean.

    ``probabilities``: the mean of their softmax over the catalogue, as its logarithm. ``similarity``: a mean of scores
    with weights softmax(cosine / ``temperature``), of the history's mean item embedding to each model's row of
    ``centroids`` (S, D), both in that model's own space.
    """

    kind: str
    temperature: float
    centroids: Tensor | None = None

    def weights(self, models: Sequence[SequenceModel], histories: Tensor) -> Tensor:
        """(B, S) the share of every model after ``histories`` (B, L); equal shares for an empty history."""
        assert self.centroids is not None
        real = (histories != 0).unsqueeze(2)  # (B, L, 1)
        cosines = [
            torch.cosine_similarity(
                (model.embedding(histories) * real).sum(1) / real.sum(1).clamp(min=1), centroid[None]
            )
            for model, centroid in zip(models, self.centroids, strict=True)
        ]
        return torch.softmax(torch.stack(cosines, 1) / self.temperature, 1)


class Scorer:
    """Histories in, scores out: the mean over ``models``, or what ``aggregation`` makes of them; -inf for what
    ``catalogue`` and ``masked`` forbid.

    ``catalogue`` (V+1,) bool: items that were trained; the others have no learned score and get -inf.
    ``masked`` (M, 2): pairs of user and item that are never shown; user -1 means everybody.
    """

    def __init__(
        self,
        models: Sequence[SequenceModel],
        catalogue: Tensor | None = None,
        masked: Tensor | None = None,
        aggregation: Aggregation | None = None,
    ) -> None:
        self.models, self.catalogue, self.aggregation = list(models), catalogue, aggregation
        self.masked = None if masked is None else masked[masked[:, 0].argsort(stable=True)]
        for model in self.models:
            model.eval()

    @property
    def model(self) -> SequenceModel:
        """The only model; raises CheckpointError for an ensemble, which has no single one."""
        if len(self.models) != 1:
            raise CheckpointError(f"expected one model, found an ensemble of {len(self.models)}")
        return self.models[0]

    @property
    def num_items(self) -> int:
        return self.models[0].num_items

    @property
    def max_length(self) -> int:
        return self.models[0].max_length

    @property
    def names_users(self) -> bool:
        """Whether it says of single users what they must not be shown: then it tells who forgot what."""
        return self.masked is not None and bool((self.masked[:, 0] != -1).any())

    @property
    def device(self) -> torch.device:
        return self.models[0].embedding.weight.device

    def untrained_raw(self) -> "Scorer":
        """The same without the rule that untrained items get -inf."""
        return Scorer(self.models, None, self.masked, self.aggregation)

    def to(self, device: torch.device | str) -> "Scorer":
        """Move everything to a device."""
        for model in self.models:
            model.to(device)
        self.catalogue = None if self.catalogue is None else self.catalogue.to(device)
        self.masked = None if self.masked is None else self.masked.to(device)
        if self.aggregation is not None and self.aggregation.centroids is not None:
            self.aggregation.centroids = self.aggregation.centroids.to(device)
        return self

    @torch.inference_mode()
    def scores(self, histories: Tensor, users: Tensor) -> Tensor:
        """Scores (B, V+1) of all items after ``histories`` (B, L), for ``users`` (B,); column 0 means nothing."""
        scores = self._aggregated(histories)
        if self.catalogue is not None:
            scores[:, ~self.catalogue] = float("-inf")
        if self.masked is not None:
            everybody = self.masked[self.masked[:, 0] == -1, 1]
            scores[:, everybody] = float("-inf")
            row, position = _matches(self.masked[:, 0].contiguous(), users)
            scores[row, self.masked[position, 1]] = float("-inf")
        return scores

    def _aggregated(self, histories: Tensor) -> Tensor:
        """Scores (B, V+1) of the models as one, before anything is forbidden."""
        if self.aggregation is None or len(self.models) == 1:
            return self._sum(histories, None)
        if self.aggregation.kind == "similarity":
            return self._sum(histories, self.aggregation.weights(self.models, histories))
        first, *others = self.models
        total = self._log_probabilities(first.scores(_last_state(first, histories)))
        for model in others:
            total = torch.logaddexp(total, self._log_probabilities(model.scores(_last_state(model, histories))))
        return total - math.log(len(self.models))

    def _sum(self, histories: Tensor, weights: Tensor | None) -> Tensor:
        """The sum of scores weighted by ``weights`` (B, S), or their mean."""
        first, *others = self.models
        scores = first.scores(_last_state(first, histories))
        if weights is not None:
            scores *= weights[:, :1]
        for index, model in enumerate(others, 1):
            part = model.scores(_last_state(model, histories))
            scores += part if weights is None else part * weights[:, index : index + 1]
        return scores / len(self.models) if others and weights is None else scores

    def _log_probabilities(self, scores: Tensor) -> Tensor:
        scores[:, 0] = float("-inf")
        if self.catalogue is not None:  # what was not trained takes no share
            scores[:, ~self.catalogue] = float("-inf")
        return scores.log_softmax(1)


def _last_state(model: SequenceModel, histories: Tensor) -> Tensor:
    state = model.last_state(model.prediction_inputs(histories))
    if not torch.isfinite(state).all():
        raise CheckpointError("the model gives states that are not numbers: training diverged; lower its learning rate")
    return state


def _matches(sorted_users: Tensor, users: Tensor) -> tuple[Tensor, Tensor]:
    """(row, position) of every entry of ``sorted_users`` that equals users[row]."""
    first = torch.searchsorted(sorted_users, users)
    size = torch.searchsorted(sorted_users, users, right=True) - first
    row = torch.repeat_interleave(torch.arange(len(users), device=users.device), size)
    within = torch.arange(len(row), device=users.device) - torch.repeat_interleave(size.cumsum(0) - size, size)
    return row, first[row] + within


def clone_model(model: SequenceModel) -> SequenceModel:
    """A copy with its own weights; nothing done to it reaches the one it came from."""
    copy = new_model(model_description(model))
    copy.load_state_dict(model.state_dict())
    return copy.to(model.embedding.weight.device)


def untied_copy(model: SequenceModel) -> SequenceModel:
    """A copy that gives the same scores by an output embedding of its own, equal to the input embedding so far."""
    description = model_description(model)
    description["settings"]["tie_embeddings"] = False
    copy = new_model(description)
    copy.load_state_dict({**model.state_dict(), "output.weight": model.output_weight.detach()})
    return copy.to(model.embedding.weight.device)


def model_description(model: SequenceModel) -> dict[str, Any]:
    """Name, settings and sizes: what ``new_model`` needs."""
    name = next(name for name in MODELS if MODELS[name] is type(model))
    return {
        "name": name,
        "settings": dict(vars(model.settings)),
        "num_items": model.num_items,
        "max_length": model.max_length,
    }


def new_model(description: dict[str, Any]) -> SequenceModel:
    """An untrained model of a description; its weights are not set yet."""
    kind = MODELS[description["name"]]
    settings = build(kind.Config, description["settings"], f"model.{description['name']}")
    return kind(settings, description["num_items"], description["max_length"])
