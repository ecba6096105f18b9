"""A study as plain values: its trials, their front, hypervolume over time, and what mattered."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from srun.errors import RunError
from srun.search.front import Points, front, hypervolume_over_time
from srun.search.goals import Constraint, Goal, Objective
from srun.search.study import ABOUT, BEAT, OVERRIDES, OWN_SETTINGS, RESULT

if TYPE_CHECKING:
    from optuna import Study

STATES = {"COMPLETE": "complete", "PRUNED": "discarded", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
MIN_TRIALS = 8
"""With fewer, importances are noise."""


@dataclass(frozen=True)
class TrialResult:
    number: int
    state: str
    """complete, discarded (by rule), failed, running or waiting."""
    own_settings: bool
    """Whether it is the method as params.yaml has it."""
    overrides: Mapping[str, Any]
    """By dotted key; none for the method's own settings."""
    values: tuple[float, ...] = ()
    """Figures of the objectives; none unless complete."""
    violations: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
    seconds: float = math.nan
    search_seconds: float = math.nan
    """What its worker spent on the search itself before it was told: storage and sampling."""
    finished: float = math.inf
    """Seconds since the study's first trial began."""
    why: str = ""
    """Why it failed."""

    @property
    def feasible(self) -> bool:
        return self.state == "complete" and all(violation <= 0 for violation in self.violations.values())


@dataclass(frozen=True)
class StudyResult:
    name: str
    about: Mapping[str, Any]
    goal: Goal
    trials: tuple[TrialResult, ...]
    begun: str
    """When its first trial began: tells it from another study that had its name."""

    @property
    def num_finished(self) -> int:
        return sum(trial.state in ("complete", "discarded") for trial in self.trials)

    @cached_property
    def feasible(self) -> list[TrialResult]:
        """Complete trials that keep the constraints, in the order they finished."""
        kept = [trial for trial in self.trials if trial.feasible]
        return sorted(kept, key=lambda trial: (trial.finished, trial.number))

    @cached_property
    def front(self) -> list[TrialResult]:
        """The trials that no other dominates, by the first objective, best first."""
        if not self.feasible:
            return []
        kept = [trial for trial, best in zip(self.feasible, front(self._losses()), strict=True) if best]
        return sorted(kept, key=lambda trial: self.goal.objectives[0].loss(trial.values[0]))

    @property
    def hypervolumes(self) -> list[float]:
        """After each feasible trial, in the order they finished."""
        reference = np.array([objective.loss(objective.reference) for objective in self.goal.objectives])
        return [float(volume) for volume in hypervolume_over_time(self._losses(), reference)]

    def trial(self, number: int) -> TrialResult:
        """A complete trial by number; RunError for another."""
        for trial in self.trials:
            if trial.number == number and trial.state == "complete":
                return trial
        raise RunError(f'study "{self.name}" has no complete trial {number}; `srun optimize show` lists them')

    def _losses(self) -> Points:
        rows = [
            [objective.loss(value) for objective, value in zip(self.goal.objectives, trial.values, strict=True)]
            for trial in self.feasible
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.goal.objectives))


def describe_goal(goal: Goal) -> dict[str, Any]:
    """As plain values, for ``about``."""
    return asdict(goal)


def read_study(study: "Study") -> StudyResult:
    """Everything a report shows of a study; raises RunError where its storage holds what no search wrote."""
    from srun.search.journal import DAMAGE, said

    try:
        return _read(study)
    except DAMAGE as error:
        raise RunError(
            f'study "{study.study_name}": damaged, its storage holds what no search wrote ({said(error)}); restore a'
            " copy of the storage, or begin a new study with --study"
        ) from error


def _read(study: "Study") -> StudyResult:
    about = study.user_attrs[ABOUT]
    goal = Goal(
        tuple(Objective(**values) for values in about["goal"]["objectives"]),
        tuple(Constraint(**values) for values in about["goal"]["constraints"]),
    )
    trials = study.get_trials(deepcopy=False)
    starts = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    results = []
    for trial in trials:
        attrs = {key: value for key, value in trial.user_attrs.items() if key != BEAT}
        result = dict(attrs.get(RESULT, {}))
        result["history"] = tuple(result.get("history", ()))
        done = trial.datetime_complete
        results.append(
            TrialResult(
                number=trial.number,
                state=STATES[trial.state.name],
                own_settings=OWN_SETTINGS in attrs,
                overrides=attrs.get(OVERRIDES, {}),
                values=tuple(trial.values or ()) if trial.state.name == "COMPLETE" else (),
                finished=math.inf if done is None else (done - min(starts)).total_seconds(),
                **result,
            )
        )
    begun = min(starts).isoformat() if starts else ""
    return StudyResult(study.study_name, about, goal, tuple(results), begun)


def importances(study: "Study", goal: Goal) -> list[Mapping[str, float]]:
    """By objective: what share of its variation a parameter explains (fANOVA); empty where that cannot be told."""
    import optuna

    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    shares: list[Mapping[str, float]] = []
    for index in range(len(goal.objectives)):
        values = {trial.values[index] for trial in complete}
        # what all trials have in common: with conditions that may be nothing
        common = set.intersection(*(set(trial.params) for trial in complete)) if complete else set()
        if len(complete) < MIN_TRIALS or len(values) < 2 or not common:
            shares.append({})
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            importances = optuna.importance.get_param_importances(
                study, evaluator=evaluator, target=lambda trial, index=index: trial.values[index]
            )
        shares.append({name: float(share) for name, share in importances.items()})
    return shares
