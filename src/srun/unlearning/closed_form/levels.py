"""Levels: where each forgotten event would stand, had it never been trained on, predicted event by event.

A regression of z_rank of events that nobody trained on, under Original, on what is known without the event: features of
data, and where it stands under a cross-fitted model that never saw its user. Features of an event set aside are of what
Original was trained on, which made it stand where it does; those of a forgotten one are of retained data, which are all
that a Retrain would have. The two differ for items that lose much of their data. Shapes: F forgotten events, P
events set aside, X features.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srun.data.sequences import Queries
from srun.errors import DataError
from srun.models.base import SequenceModel
from srun.requests.partition import Partition
from srun.rng import numpy_stream
from srun.unlearning.closed_form.features import RetainedFeatures
from srun.unlearning.closed_form.regression import Regression
from srun.unlearning.closed_form.retained import filled
from srun.unlearning.closed_form.standing import last_states, questions, standing
from srun.unlearning.crossfit import CrossFit
from srun.unlearning.prepared import Prepared

LevelFrom = Literal["crossfit", "retained"]
"""``crossfit``: the private table of cross-fitted models, and retained data. ``retained``: retained data alone."""
NEAR = 200  # events set aside that were predicted alike, of which one's error is drawn
DRAWS = 4  # errors drawn for each forgotten event
MIN_USERS = 2  # of events set aside, to learn from
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """What is aimed at, in z_rank, for every forgotten event with a context."""

    queries: Queries  # F
    items: Tensor  # (F, n+1)
    predicted: Floats
    """(F,) what the regression says."""
    wanted: Tensor
    """(F,) the same spread out as true levels are: each prediction has the error of an event set aside that was
    predicted alike, and the order of the predictions is kept."""
    info: dict[str, float]
    """How well events set aside were predicted, by folds of users."""
    positions: int
    """Real input positions that were passed forward."""
    scored: int
    """Events for which the whole catalogue was scored."""


def predict_level(
    model: SequenceModel,
    request: Partition,
    crossfit: CrossFit | None,
    seed: int,
    device: torch.device,
    prepared: Prepared | None = None,
) -> Level:
    """Predict the level of every forgotten event with a context; ``model`` is Original, or the last of a chain.

    ``prepared`` is of ``model``, or None to ask it for everything. The rest is as of ``LevelPredictor``.
    """
    return LevelPredictor(request, crossfit, seed, device).predict(model, prepared)


class LevelPredictor:
    """What is known of forgotten events and of events set aside, whatever model is asked where these stand."""

    def __init__(self, request: Partition, crossfit: CrossFit | None, seed: int, device: torch.device) -> None:
        """``crossfit`` is None to know retained data alone.

        Of a category it is not used, for no model was trained without the category: what is aimed at there is where an
        event of an item stands that as few users keep, which for an item that nobody keeps is the bottom of what
        retained data can tell. Raises DataError without events to learn from.
        """
        self.request, self.seed, self.device = request, seed, device
        self.forgotten, self.aside = request.forget_queries(), request.never_trained(audit=False)
        if not len(self.forgotten):
            raise DataError(
                "no forgotten event has a context, so there is no level to aim at; use retrain for this request"
            )
        if len(np.unique(self.aside.user)) < MIN_USERS:
            raise DataError(
                "a level by event is learned from events set aside, and there are none of two users or more; set "
                "prepare.calibration_events above 0 and run again from `srun prepare`"
            )
        table = None if request.kind == "category" else crossfit
        trained_on = request.retain | request.forget
        self.known_forgotten = _known(self.forgotten, RetainedFeatures(request, seed), table)
        self.known_aside = _known(self.aside, RetainedFeatures(request, seed, trained_on), table)

    def predict(self, model: SequenceModel, prepared: Prepared | None = None) -> Level:
        """The level that events set aside of ``model`` tell; ``prepared`` is of it, or None to ask it for all."""
        max_length = self.request.data.max_length
        items = questions(self.aside, max_length).to(self.device)
        event = torch.from_numpy(self.aside.event).to(self.device)
        at_hand = None if prepared is None else prepared.aside
        truth, asked = filled(items, event, at_hand, lambda part: z_of(model, part))
        predicted, wanted, info = _regress(
            self.known_forgotten, self.known_aside, truth.double().cpu().numpy(), self.aside.user, self.seed
        )
        return Level(
            self.forgotten,
            questions(self.forgotten, max_length).to(self.device),
            predicted,
            torch.from_numpy(wanted).to(self.device, torch.float32),
            info,
            int((items[asked][:, :-1] != 0).sum()),
            int(asked.sum()),
        )


def _known(queries: Queries, features: RetainedFeatures, table: CrossFit | None) -> Floats:
    """(Q, X) what is known of events without a model that saw them."""
    own = features(queries)
    if table is None:
        return own
    numbers = table.of(queries)
    if np.isnan(numbers).any():
        raise DataError(
            "the table of cross-fitted models has no number for some events of this request, which were erased "
            "from it: make it anew with `srun levels`, or predict the level without it (level_from=retained)"
        )
    return np.column_stack([own, numbers])


def z_of(model: SequenceModel, items: Tensor) -> Tensor:
    """(N,) z_rank of the last of ``items`` (N, n+1) under ``model``."""
    return standing(last_states(model, items), model.output_weight[1:].detach(), items[:, -1])[0]


def _regress(
    forgotten: Floats, aside: Floats, truth: Floats, users: NDArray[np.int32], seed: int
) -> tuple[Floats, Floats, dict[str, float]]:
    """Predictions (F,), what is wanted (F,) and how good they are, from features (F, X) and (P, X), truth and users."""
    regression, by_others = Regression.fit_crossed(aside, truth, users, numpy_stream(seed, "level_folds"))
    predicted, error = regression.predict(forgotten), truth - by_others
    spread = _with_errors(predicted, by_others, error, numpy_stream(seed, "level_errors"))
    wanted = np.empty(len(predicted))
    wanted[predicted.argsort(kind="stable")] = np.quantile(spread, (np.arange(len(predicted)) + 0.5) / len(predicted))
    by_user = np.bincount(np.unique(users, return_inverse=True)[1], error)
    info = {
        "level_events": float(len(truth)),
        "level_r2": float(1 - error.var() / truth.var()) if truth.var() else 0.0,
        "level_standard_error": float(np.sqrt((by_user**2).sum()) / len(truth)),
    }
    return predicted, wanted, info


def _with_errors(predicted: Floats, known: Floats, error: Floats, rng: np.random.Generator) -> Floats:
    """(F * DRAWS,) ``predicted`` (F,), each with the ``error`` (P,) of events predicted alike (``known``, P)."""
    order = np.argsort(known, kind="stable")
    width = min(NEAR, len(order))
    middle = sum(np.searchsorted(known[order], predicted, side) for side in ("left", "right")) // 2
    first = np.clip(middle - width // 2, 0, len(order) - width)
    drawn = order[first[:, None] + rng.integers(0, width, (len(predicted), DRAWS))]
    return np.asarray(predicted[:, None] + error[drawn]).ravel()
