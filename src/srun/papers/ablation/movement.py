"""How far parameters moved: which of them unlearning changes, a question that the thesis leaves open (its 5.2)."""

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srun.models.base import SequenceModel
from srun.training.checkpoint import copy_weights


def moved(before: SequenceModel, after: SequenceModel, forgotten: NDArray[np.int32]) -> dict[str, float]:
    """How far each group of parameters moved: the L2 norm of the change over that of what was there.

    Groups: embeddings, attention and feed-forward of each block, norms; and of the item embeddings the rows of the
    items that have a ``forgotten`` event, and all others.
    """
    old, new = copy_weights(before), copy_weights(after)
    groups: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name in old:
        groups.setdefault(_group(name), []).append((old[name], new[name]))
    old_items, new_items = old["embedding.weight"], new["embedding.weight"]
    rows = torch.zeros(len(old_items), dtype=torch.bool)
    rows[torch.from_numpy(forgotten).long()] = True
    rows = rows.to(old_items.device)
    groups["embeddings of forgotten items"] = [(old_items[rows], new_items[rows])]
    groups["embeddings of other items"] = [(old_items[~rows], new_items[~rows])]
    return {name: _relative(pairs) for name, pairs in groups.items()}


def _group(name: str) -> str:
    block = re.match(r"blocks\.(\d+)\.", name)
    if "norm" in name:
        return "norms"
    if block:
        return f"block {int(block[1]) + 1}, {'attention' if 'attention' in name else 'feed-forward'}"
    names = {"embedding": "item embeddings", "output": "output embeddings", "position": "position embeddings"}
    return names.get(name.split(".")[0], name.split(".")[0])


def _relative(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    change = sum(float((new - old).double().square().sum()) for old, new in pairs)
    size = sum(float(old.double().square().sum()) for old, _ in pairs)
    return (change / size) ** 0.5 if size else 0.0
