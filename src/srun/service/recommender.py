"""A published model as a service: raw item ids in, the best raw item ids and their scores out.

Shapes: B histories, K recommendations, V catalogue. The only other thing it needs is the model's own folder.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from srun.data.sequences import pad
from srun.errors import CheckpointError, DataError
from srun.models.published import load_items, load_published
from srun.models.scorer import Scorer

NOBODY = -2  # a user id that no mask names; -1 stands for everybody


def parse_history(text: str) -> list[str]:
    """Raw item ids out of ``ITEM,ITEM,...``, quoted where they hold commas; raises DataError for anything else."""
    if not text.isprintable():
        raise DataError("--history: expected item ids with commas between them, found a line break or other control")
    try:
        [items] = csv.reader([text], skipinitialspace=True, strict=True) if text else [[]]
    except csv.Error as error:
        raise DataError(f"--history: expected item ids with commas between them, quotes in pairs ({error})") from error
    return [item.strip() for item in items if item.strip()]


@dataclass(frozen=True)
class Recommendation:
    """The best items for one history, best first."""

    item_ids: list[str]
    scores: list[float]
    unknown: list[str]
    """Items of the history that the model does not know, each once; they were left out."""


class Recommender:
    """Recommends from histories of raw item ids; items of the history itself are never recommended.

    A history without a known item, an empty one included, has nothing to go by: it gets no recommendation.
    Masks that name single users do not apply, since a history does not say whose it is.
    """

    def __init__(self, scorer: Scorer, item_ids: Sequence[str]) -> None:
        if len(item_ids) != scorer.num_items:
            raise CheckpointError(f"the model has {scorer.num_items} items and its item table {len(item_ids)}")
        self.scorer = scorer
        self.item_ids = np.array(item_ids, dtype=object)
        self.code = {item_id: code for code, item_id in enumerate(item_ids, start=1)}

    @classmethod
    def load(cls, folder: Path) -> "Recommender":
        """Read a published folder; raises CheckpointError if it is none, is damaged, or has no item table."""
        scorer, _ = load_published(folder)
        return cls(scorer, load_items(folder, scorer.num_items)["item_id"].tolist())

    def recommend(self, histories: Sequence[Sequence[str]], k: int = 10) -> list[Recommendation]:
        """The ``k`` best items for every history, oldest item first; raises DataError unless 1 <= k <= V."""
        if not 1 <= k <= self.scorer.num_items:
            raise DataError(f"k is {k}; expected 1 to {self.scorer.num_items}, the number of items")
        known = [[self.code[item] for item in history if item in self.code] for history in histories]
        answers = {row: self._answer(codes, k) for row, codes in enumerate(known) if codes}
        return [
            Recommendation(
                *answers.get(row, ([], [])),
                unknown=list(dict.fromkeys(item for item in history if item not in self.code)),
            )
            for row, history in enumerate(histories)
        ]

    @torch.inference_mode()
    def _answer(self, codes: list[int], k: int) -> tuple[list[str], list[float]]:
        items = np.array(codes, dtype=np.int32)
        inputs = pad(items, np.array([0]), np.array([len(items)]), self.scorer.max_length)
        scores = self.scorer.scores(torch.from_numpy(inputs.astype(np.int64)), torch.tensor([NOBODY]))[0]
        scores[0] = float("-inf")
        scores[torch.from_numpy(items.astype(np.int64))] = float("-inf")
        best = scores.topk(k)
        shown = torch.isfinite(best.values)  # what is masked or was never trained is not recommended
        codes_out = best.indices[shown].numpy() - 1
        return self.item_ids[codes_out].tolist(), [round(float(score), 6) for score in best.values[shown]]
