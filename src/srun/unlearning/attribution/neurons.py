"""Neurons by (layer, unit): which the sequences of a category share, and how they are edited and restored ([A] 4.2).

Shapes: Q sequences, U neurons of a layer, T thresholds. Layers and units are counted from 0.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srun.errors import CheckpointError, ConfigError
from srun.models.base import SequenceModel
from srun.unlearning.attribution.integrated_gradients import require_neurons

PrivacyMode = Literal["adjust", "fixed"]
FEWEST, MOST = 4, 8  # neurons of a category that ``adjust`` looks for ([A] 5.1)
SHARES = range(5, 100, 5)  # P in per cent
THRESHOLDS = tuple(round(step / 20, 2) for step in range(1, 20))
"""Attribution thresholds whose counts are kept, so that another one needs no new attribution."""


@dataclass(frozen=True, order=True)
class Neuron:
    """A unit between the two linear layers of a feed-forward block."""

    layer: int
    unit: int


@dataclass(frozen=True, order=True)
class Edit:
    """Multiply the activation of a neuron by ``scale``, at every position; 0 erases it."""

    layer: int
    unit: int
    scale: float


@dataclass(frozen=True)
class Shared:
    """In how many of the sequences each neuron is kept, by attribution threshold."""

    thresholds: tuple[float, ...]  # (T,)
    counts: NDArray[np.int64]  # (T, layers, U)
    num_sequences: int

    def at(self, threshold: float) -> NDArray[np.int64]:
        """(layers, U) counts at one of the thresholds; raises ConfigError for another."""
        if threshold not in self.thresholds:
            known = ", ".join(f"{value:g}" for value in self.thresholds)
            raise ConfigError(f"attribution_threshold {threshold:g}: counts are kept for {known} only; attribute again")
        counts: NDArray[np.int64] = self.counts[self.thresholds.index(threshold)]
        return counts

    def describe(self) -> dict[str, Any]:
        """As plain values: of every threshold the neurons that some sequence keeps, as ``layer.unit:count``."""
        kept = {
            f"{threshold:g}": " ".join(f"{layer}.{unit}:{counts[layer, unit]}" for layer, unit in np.argwhere(counts))
            for threshold, counts in zip(self.thresholds, self.counts, strict=True)
        }
        return {"num_sequences": self.num_sequences, "shape": list(self.counts.shape[1:]), "kept": kept}

    @classmethod
    def read(cls, values: dict[str, Any]) -> "Shared":
        """What ``describe`` wrote."""
        thresholds = tuple(float(key) for key in values["kept"])
        counts = np.zeros((len(thresholds), *values["shape"]), dtype=np.int64)
        for table, kept in zip(counts, values["kept"].values(), strict=True):
            for word in kept.split():
                layer, unit, count = re.split("[.:]", word)
                table[int(layer), int(unit)] = int(count)
        return cls(thresholds, counts, int(values["num_sequences"]))


def kept(attributions: Tensor, threshold: float) -> Tensor:
    """(Q, layers, U) neurons above ``threshold`` times the maximum over all units of all layers of the sequence.

    Deviation: a sequence in which no attribution is positive keeps none; [A] gives no rule for it.
    """
    top = attributions.flatten(1).amax(1)[:, None, None]
    return (attributions > threshold * top) & (top > 0)


def share(attributions: Tensor, thresholds: Iterable[float] = THRESHOLDS) -> Shared:
    """Count by neuron the sequences that keep it, for every one of ``thresholds``."""
    ordered = tuple(sorted(set(thresholds)))
    counts = [kept(attributions, threshold).sum(0).numpy().astype(np.int64) for threshold in ordered]
    return Shared(ordered, np.stack(counts), len(attributions))


@dataclass(frozen=True)
class Selection:
    """The privacy neurons of a category, and the P that gave them."""

    neurons: tuple[Neuron, ...]
    privacy_threshold: int
    within: bool
    """Whether there are 4 to 8; ``fixed`` takes any number."""
    counts_by_share: dict[int, int]
    """P -> number of neurons kept in more than P % of the sequences."""


def select(counts: NDArray[np.int64], num_sequences: int, mode: PrivacyMode, privacy_threshold: int) -> Selection:
    """Take the neurons that more than P % of the sequences share, from counts (layers, U).

    ``fixed``: P is ``privacy_threshold``. ``adjust``: the P of 5, 10, .. 95 nearest to it that gives 4 to 8 neurons;
    without one, the P whose number is nearest to those. Ties go to the P nearest to ``privacy_threshold``, then to the
    larger.
    """
    by_share = {p: int(_shared_by(counts, num_sequences, p).sum()) for p in SHARES}
    chosen = privacy_threshold
    if mode == "adjust":
        chosen = min(by_share, key=lambda p: (_outside(by_share[p]), abs(p - privacy_threshold), -p))
    is_shared = _shared_by(counts, num_sequences, chosen)
    neurons = tuple(Neuron(int(layer), int(unit)) for layer, unit in np.argwhere(is_shared))
    return Selection(neurons, chosen, _outside(len(neurons)) == 0, by_share)


def _shared_by(counts: NDArray[np.int64], num_sequences: int, p: int) -> NDArray[np.bool_]:
    return np.asarray(counts * 100 > p * num_sequences)


def _outside(number: int) -> int:
    """How far a number of neurons is from 4 to 8."""
    return max(FEWEST - number, number - MOST, 0)


def most_shared(counts: NDArray[np.int64], mean: NDArray[np.floating]) -> list[Neuron]:
    """All neurons, the most shared first; of equals the one with the larger mean attribution; both are (layers, U)."""
    order = np.lexsort((-mean.ravel(), -counts.ravel()))
    return [Neuron(*divmod(int(index), counts.shape[1])) for index in order]


def as_edits(neurons: Iterable[Neuron], scale: float) -> list[Edit]:
    """An edit of every neuron."""
    return [Edit(neuron.layer, neuron.unit, scale) for neuron in neurons]


def merge(*lists: Sequence[Edit]) -> list[Edit]:
    """The edits of several categories as one list: a neuron that several share gets the lowest scale, once."""
    lowest: dict[tuple[int, int], Edit] = {}
    for edit in sorted(edit for edits in lists for edit in edits):  # by layer, unit, then scale
        lowest.setdefault((edit.layer, edit.unit), edit)
    return list(lowest.values())


def apply(model: SequenceModel, edits: Sequence[Edit]) -> list[Tensor]:
    """Scale the column of every edited neuron in the second linear layer, in place; returns the columns as they were.

    Raises ConfigError for a neuron that the model does not have, one named twice, and a scale outside [0, 1].
    """
    _check(model, edits)
    columns = [_column(model, edit) for edit in edits]
    before = [column.clone() for column in columns]
    for column, edit in zip(columns, edits, strict=True):
        column *= edit.scale
    return before


def undo(model: SequenceModel, edits: Sequence[Edit], before: Sequence[Tensor]) -> None:
    """Put back the columns that ``apply`` returned: the same bits."""
    for edit, column in zip(edits, before, strict=True):
        _column(model, edit).copy_(column)


@contextmanager
def edited(model: SequenceModel, edits: Sequence[Edit]) -> Iterator[SequenceModel]:
    """The model with ``edits``, as it was again afterwards, errors or not."""
    before = apply(model, edits)
    try:
        yield model
    finally:
        undo(model, edits, before)


def restore(model: SequenceModel, original: SequenceModel, edits: Sequence[Edit]) -> None:
    """Undo the edits of a published model, in place, with the columns of the Original it was made from.

    What was multiplied by 0 cannot be divided back; info names the Original by ``original_sha256``. Raises
    CheckpointError when ``original`` with the edits is not ``model``, so that nothing foreign is copied in.
    """
    with edited(original, edits):
        mine, theirs = model.state_dict(), original.state_dict()
        if mine.keys() != theirs.keys() or not all(torch.equal(mine[name], theirs[name]) for name in mine):
            raise CheckpointError(
                "these edits of that Original do not give this model, so they cannot be undone with it"
            )
    model.load_state_dict(original.state_dict())


def describe_edits(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """As plain values, for model.json."""
    return [asdict(edit) for edit in edits]


def read_edits(info: dict[str, Any]) -> list[Edit]:
    """The edits that a published model's info lists; none for a model without."""
    return [Edit(**values) for values in info.get("edits", [])]


def _column(model: SequenceModel, edit: Edit) -> Tensor:
    return model.neuron_blocks[edit.layer].outer.weight.detach()[:, edit.unit]


def _check(model: SequenceModel, edits: Sequence[Edit]) -> None:
    blocks = require_neurons(model)
    if len({(edit.layer, edit.unit) for edit in edits}) < len(edits):
        raise ConfigError("an edit names a neuron twice; merge the lists first")
    for edit in edits:
        width = blocks[0].outer.in_features
        if not (0 <= edit.layer < len(blocks) and 0 <= edit.unit < width):
            raise ConfigError(
                f"no neuron ({edit.layer}, {edit.unit}): layers 0..{len(blocks) - 1}, units 0..{width - 1}"
            )
        if not 0 <= edit.scale <= 1:
            raise ConfigError(f"edit of neuron ({edit.layer}, {edit.unit}): scale {edit.scale:g} is not within 0 and 1")
