"""How much memory of every training event is to be expected, by features that no model gives.

An event's lift is how far it stands above its level under a model that was trained on it. Lifts of all events are
regressed on features of retained data, and what is predicted for an event comes of other users' lifts: a lift itself
would also choose what any model ranks high. Shapes: E events, N training events with a context, X features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from srun.data.dataset import Dataset, Mask, Role
from srun.models.base import SequenceModel
from srun.requests.partition import Partition
from srun.rng import numpy_stream
from srun.unlearning.closed_form.features import BLOCK, RetainedFeatures
from srun.unlearning.closed_form.levels import predict_level
from srun.unlearning.closed_form.regression import FOLDS, Regression
from srun.unlearning.closed_form.standing import last_states, standing
from srun.unlearning.crossfit import CrossFit

PARTS = 10
"""Parts of the events, each of which is looked at as a request would: its features and contexts are of the others."""
MAX_KNOWN = 50_000  # lifts that a regression is fitted to: memory ends with it
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ExpectedMemory:
    """What is expected, and how well."""

    expected: Floats
    """(E,) predicted lift in z_rank; NaN for what is no training event, or has no context."""
    lift: Floats
    """(E,) the lift itself, by which no request is drawn."""

    @property
    def correlation(self) -> float:
        """Of what is expected with the lifts, over all events."""
        there = np.isfinite(self.expected)
        return float(np.corrcoef(self.expected[there], self.lift[there])[0, 1])


def expected_memory(
    model: SequenceModel, data: Dataset, crossfit: CrossFit | None, seed: int, device: torch.device
) -> ExpectedMemory:
    """Predict the lift of every training event with a context under ``model``, an Original.

    ``crossfit`` and the errors are those of ``predict_level``. ``seed`` draws the parts, the folds of users, and the
    space of items.
    """
    lift, rows, events = np.full(data.num_events, np.nan), [], []
    for removed in _parts(data, seed):
        part = Partition.by_mask(data, removed)
        level = predict_level(model, part, crossfit, seed, device)
        z, _ = standing(last_states(model, level.items), model.output_weight[1:].detach(), level.items[:, -1])
        lift[level.queries.event] = z.double().cpu().numpy() - level.predicted
        rows.append(RetainedFeatures(part, seed)(level.queries))
        events.append(level.queries.event)
    event = np.concatenate(events)
    expected = np.full(data.num_events, np.nan)
    expected[event] = _by_other_users(np.concatenate(rows), lift[event], data.user[event], seed)
    return ExpectedMemory(expected, lift)


def _parts(data: Dataset, seed: int) -> Iterator[Mask]:
    """(E,) masks of the training events, each of which is in one of them."""
    train = np.flatnonzero(data.has_role(Role.TRAIN))
    order = numpy_stream(seed, "expected_parts").permutation(train)
    for part in np.array_split(order, PARTS):
        removed = np.zeros(data.num_events, dtype=bool)
        removed[part] = True
        yield removed


def _by_other_users(features: Floats, lift: Floats, users: NDArray[np.int32], seed: int) -> Floats:
    """(N,) predicted from ``features`` (N, X) by regressions of the ``lift`` (N,) of other folds of users."""
    rng = numpy_stream(seed, "expected_folds")
    known, owner = np.unique(users, return_inverse=True)
    fold = rng.permutation(len(known))[owner] % FOLDS
    predicted = np.empty(len(lift))
    for number in range(FOLDS):
        others, own = rng.permutation(np.flatnonzero(fold != number))[:MAX_KNOWN], np.flatnonzero(fold == number)
        regression = Regression.fit(features[others], lift[others])
        for block in np.array_split(own, len(own) // BLOCK + 1):
            predicted[block] = regression.predict(features[block])
    return predicted
