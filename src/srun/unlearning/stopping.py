"""When to stop unlearning: after a fixed time, at a plateau of suppression, or where forgotten ranks look never seen.

Shapes: U users, F forgotten events, M matched ones, K partners of each, Q queries.
"""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from srun.data.partition import Partition
from srun.data.sequences import Queries
from srun.errors import DataError
from srun.metrics.forgetting import ks_distance, superiority
from srun.metrics.matching import match
from srun.metrics.ranking import hit, ndcg
from srun.models.scorer import Scorer
from srun.rng import numpy_stream
from srun.unlearning.base import Context

Stop = Literal["plateau", "fixed", "match"]
TUNE, NEVER_SEEN, VALIDATION = "forget_tune", "never_seen_tune", "validation"
PARTNERS = 2
"""Never-seen events beside each forgotten one: more cost a look more and tell little more."""


class StopRule:
    """``fixed``: never before the cap on epochs. The other rules look at the model, at the cost of the method."""

    looks = False
    """Whether it looks at the model at all; else a look of others at forget_tune is for the curves only."""
    positions = 0
    """Real input positions that a look passes forward."""
    improved = False
    """Whether the last look is the best so far; a rule that says so once makes the best look the result."""

    def look(self, scorer: Scorer, epoch: int) -> dict[str, float]:
        """Measure the model after an epoch; returns figures for the curves."""
        return {}

    def done(self, epoch: int) -> str:
        """Why to stop after an epoch; empty as long as there is no reason."""
        return ""

    def state(self) -> dict[str, Any]:
        """What must survive a kill, as JSON."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what ``state`` returned."""


class Plateau(StopRule):
    """[T] 3.4.4: forget_tune Hit@10 has not fallen for ``patience`` epochs. The result is the model at the stop."""

    looks = True

    def __init__(self, patience: int, context: Context) -> None:
        self.patience, self.probe = patience, context.probe
        self.positions = context.probe.positions(TUNE)
        self.lowest, self.lowest_epoch = math.inf, 0

    def look(self, scorer: Scorer, epoch: int) -> dict[str, float]:
        row = self.probe(scorer, TUNE)
        if row[f"{TUNE}/hit_10"] < self.lowest:
            self.lowest, self.lowest_epoch = row[f"{TUNE}/hit_10"], epoch
        return row

    def done(self, epoch: int) -> str:
        return "plateau" if epoch - self.lowest_epoch >= self.patience else ""

    def state(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "lowest_epoch": self.lowest_epoch}

    def restore(self, state: dict[str, Any]) -> None:
        self.lowest, self.lowest_epoch = state["lowest"], state["lowest_epoch"]


class Match(StopRule):
    """Stop once forgotten events rank no better than comparable events that were never trained on.

    Comparable: of ``never_seen_tune`` or validation, with the same context length (as much of it as a model sees) and
    popularity of the item in the retain set, in groups (see ``metrics.matching``). Two figures, both of ranks under
    the model as it is now, so that what unlearning does to the model as a whole is in both samples:

    - superiority A = P(a forgotten event ranks better than a comparable one), the Mann-Whitney statistic. It is above
      1/2 while memory is left and falls as the ascent goes on; the run stops at the first look with A <= 1/2. It has a
      sign, so one look is enough to know that the aim is passed, where a distance would have to rise again first.
    - D, the two-sample KS distance of the same ranks: the form in which the result is judged (evaluation.md 1a). The
      result is the look with the smallest D up to the stop (the first of equals; the original itself is the look at
      epoch 0), since an epoch may step far past A = 1/2. What comes after it counts as patience.

    No Retrain is needed, and nothing of the report half or of the test is looked at.
    """

    looks = True

    def __init__(self, request: Partition, context: Context) -> None:
        self.probe = context.probe
        tune, unseen = request.queries(TUNE), [request.queries(split) for split in (NEVER_SEEN, VALIDATION)]
        features = _features(request, tune), np.concatenate([_features(request, queries) for queries in unseen])
        rng = numpy_stream(context.seed, "match")
        self.rows, partners = match(*features, PARTNERS, rng)  # (M,), (M, K)
        chosen = np.unique(partners[partners >= len(unseen[0])]) - len(unseen[0])
        self.users = np.zeros(request.data.num_users, dtype=bool)
        self.users[unseen[1].user[chosen]] = True  # only their validation events are ranked
        ranked = np.flatnonzero(self.users[unseen[1].user]) + len(unseen[0])
        everything = np.concatenate([np.arange(len(unseen[0])), ranked])
        self.partners = np.searchsorted(everything, partners)  # (M, K) rows of the ranks that a look takes
        looks = ((TUNE, None), (NEVER_SEEN, None), (VALIDATION, self.users))
        self.positions = sum(context.probe.positions(split, users) for split, users in looks)
        self.lowest, self.reached = math.inf, False

    def look(self, scorer: Scorer, epoch: int) -> dict[str, float]:
        tune = self.probe.ranks(scorer, TUNE)
        unseen = [self.probe.ranks(scorer, NEVER_SEEN), self.probe.ranks(scorer, VALIDATION, self.users)]
        forgotten, never = tune[self.rows], np.concatenate(unseen)[self.partners].ravel()
        distance, better = ks_distance(forgotten, never), superiority(forgotten, never)
        self.improved = distance < self.lowest
        self.lowest = min(distance, self.lowest)
        self.reached = better <= 0.5
        figures = {"hit_10": hit(tune, 10), "ndcg_10": ndcg(tune, 10), "match_ks": distance, "match_better": better}
        return {f"{TUNE}/{name}": value for name, value in figures.items()}

    def done(self, epoch: int) -> str:
        return "match" if self.reached else ""

    def state(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "reached": self.reached}

    def restore(self, state: dict[str, Any]) -> None:
        self.lowest, self.reached = state["lowest"], state["reached"]


def make_stop(stop: Stop, patience: int, request: Partition, context: Context) -> StopRule:
    """The rule that the settings name; ``fixed`` where there is nothing that a choice may look at.

    That is so without a tune half, and for ``match`` where no never-seen event is comparable to a forgotten one.
    Raises DataError for ``match`` on a category: its items go as a whole, so events of others are not comparable.
    """
    if stop == "match" and request.kind == "category":
        raise DataError(
            "unlearn.sruga.stop: match needs never-seen events comparable to the forgotten ones, but those of other "
            "categories are not; use plateau or fixed"
        )
    if stop == "fixed" or not len(request.queries(TUNE)):
        return StopRule()
    if stop == "plateau":
        return Plateau(patience, context)
    rule = Match(request, context)
    return rule if len(rule.rows) else StopRule()


def _features(request: Partition, queries: Queries) -> NDArray[np.int64]:
    """(Q, 2) context length as far as a model sees it, and popularity of the target in the retain set."""
    data = request.data
    popularity = np.bincount(data.item[request.retain], minlength=data.num_items + 1)
    length = np.minimum(queries.stop - queries.start, data.max_length)
    return np.stack([length, popularity[queries.target]], axis=1).astype(np.int64)
