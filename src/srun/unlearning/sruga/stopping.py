"""When to stop unlearning: after a fixed time, at a plateau of suppression, or where forgotten ranks look unseen."""

import math
from typing import Any, Literal

import numpy as np

from srun.metrics.forgetting import ks_distance, superiority
from srun.metrics.ranking import hit, ndcg
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.rng import numpy_stream
from srun.unlearning.base import Context
from srun.unlearning.sruga.comparable import comparable

Stop = Literal["plateau", "fixed", "match"]
TUNE = "forget_tune"
PARTNERS = 2
"""Never-seen events beside each forgotten one: more cost a look more and tell little more."""


class StopRule:
    """``fixed``: never before the cap on epochs. The other rules look at the model, at the cost of the method."""

    looks = False
    """Whether it looks at the model at all; else a look of others at forget_tune is for the curves only."""
    positions = 0
    """Real input positions that a look passes forward."""
    queries = 0
    """Queries that a look scores the whole catalogue for."""
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
        self.positions, self.queries = context.probe.positions(TUNE), context.probe.queries(TUNE)
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

    What is comparable: see ``comparable``. Two figures, both of ranks under the model as it is now, so that what
    unlearning does to the model as a whole is in both samples:

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
        rng = numpy_stream(context.seed, "match")
        self.rows, self.unseen = comparable(request, request.queries(TUNE), PARTNERS, rng)
        self.positions = context.probe.positions(TUNE) + sum(map(context.probe.positions, self.unseen))
        self.queries = context.probe.queries(TUNE) + sum(map(len, self.unseen))
        self.lowest, self.reached = math.inf, False

    def look(self, scorer: Scorer, epoch: int) -> dict[str, float]:
        tune = self.probe.ranks(scorer, TUNE).rank
        never = np.concatenate([self.probe.ranks(scorer, queries).rank for queries in self.unseen])
        forgotten = tune[self.rows]
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
    A category has none: its items go as a whole, so events of others are not comparable (``SRUGA.faults``).
    """
    if stop == "fixed" or not len(request.queries(TUNE)):
        return StopRule()
    if stop == "plateau":
        return Plateau(patience, context)
    rule = Match(request, context)
    return rule if len(rule.rows) else StopRule()
