"""What is said of a recipe, a method with its settings: how its runs from many Originals rank events, who passes."""

from dataclasses import dataclass

import numpy as np

from srun.judging.records import SPLIT, Group, Record
from srun.judging.verdict import tally, verdict
from srun.metrics.klom import Klom, klom, lacks
from srun.metrics.memory import z_rank
from srun.rng import numpy_stream


@dataclass(frozen=True)
class RecipeJudgement:
    """KLoM of a method's runs beside the null, and the verdicts of these runs."""

    method: str
    model: str
    request: str
    num_runs: int
    """One from each Original that has one."""
    num_retrains: int
    passed: int
    """Runs whose verdict passes."""
    verdicts: str
    """All of them, counted."""
    klom: Klom | None
    """None where the ensemble is too small."""
    lacks: str
    """What it lacks then, such as ``5 of 32 runs``."""
    run: str = ""
    """A command that makes one model more of what it lacks."""

    @property
    def pass_share(self) -> float:
        """Share of the runs that pass."""
        return self.passed / self.num_runs


def runs_of(group: Group, method: str) -> list[Record]:
    """The first run from each Original, by seed of the run; only those that have ranks of forgotten events."""
    first: dict[str, Record] = {}
    for record in group.of(method):
        if SPLIT in record.events:
            first.setdefault(record.original, record)
    return list(first.values())


def judge_recipe(group: Group, method: str) -> RecipeJudgement:
    """Judge a method of a group by its runs; it has one or more."""
    runs = runs_of(group, method)
    retrains = [row for row in group.retrains if SPLIT in row.events]
    judged = [said for run in runs if (said := verdict(group, run)) is not None]
    return RecipeJudgement(
        method=method,
        model=group.model,
        request=group.request,
        num_runs=len(runs),
        num_retrains=len(retrains),
        passed=sum(said.word == "passes" for said in judged),
        verdicts=tally(judged),
        klom=_klom(group, method, runs, retrains),
        lacks=lacks(len(runs), len(retrains)),
    )


def _klom(group: Group, method: str, runs: list[Record], retrains: list[Record]) -> Klom | None:
    if not retrains or group.num_items is None:
        return None
    rng = numpy_stream(int(group.first.partition["request"]["seed"]), f"klom/{method}")
    of_runs, of_retrains = (
        np.stack([z_rank(row.events[SPLIT].rank, group.num_items) for row in rows]) for rows in (runs, retrains)
    )
    return klom(of_runs, of_retrains, rng)
