"""What a search is after, in words: ``minimize KEY from X`` and ``KEY >= X``, where X may be ``0.95 of original``.

Keys are result keys (``split/metric_k``). ``from`` states the reference point: an objective's worst figure of interest,
from which hypervolume is measured and beyond which a trial is hopeless.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from srun.errors import ConfigError
from srun.registry import suggest

Figures = Mapping[str, float]
NUMBER = r"(?P<number>[-+]?[\d.]+(?:e[-+]?\d+)?)(?: of (?P<reference>\w+))?"
OBJECTIVE = re.compile(rf"(?P<direction>minimize|maximize) (?P<key>\S+) from {NUMBER}")
CONSTRAINT = re.compile(rf"(?P<key>\S+) (?P<sign>>=|<=) {NUMBER}")
PENALTY = 10.0
"""What a unit of violation costs a single objective while a trial runs: more than any rate is worth."""


@dataclass(frozen=True)
class Objective:
    key: str
    direction: Literal["minimize", "maximize"]
    reference: float
    """Worst figure of interest: a coordinate of hypervolume's reference point."""

    def loss(self, value: float) -> float:
        """The figure such that less is better."""
        return value if self.direction == "minimize" else -value


@dataclass(frozen=True)
class Constraint:
    text: str
    key: str
    sign: Literal[">=", "<="]
    bound: float

    def violation(self, figures: Figures) -> float:
        """At most 0 where it holds."""
        value = _figure(figures, self.key)
        return self.bound - value if self.sign == ">=" else value - self.bound


@dataclass(frozen=True)
class Goal:
    """Objectives, in the order of the values of a trial, and constraints."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]

    @property
    def single(self) -> bool:
        return len(self.objectives) == 1

    def values(self, figures: Figures) -> list[float]:
        """One figure an objective; raises ConfigError for a key that a result does not have."""
        return [_figure(figures, objective.key) for objective in self.objectives]

    def violations(self, figures: Figures) -> dict[str, float]:
        """By constraint; at most 0 where it holds."""
        return {constraint.text: constraint.violation(figures) for constraint in self.constraints}

    def hopeless(self, row: Figures) -> bool:
        """The rule for several objectives: one that is maximised lies below its reference point after an epoch.

        What is maximised is utility, which unlearning takes away epoch by epoch; a model that lost so much adds no
        hypervolume as it is. What is minimised starts high, so the rule does not look at it.
        """
        maximised = [objective for objective in self.objectives if objective.direction == "maximize"]
        return any(row[one.key] < one.reference for one in maximised if one.key in row)

    def score(self, row: Figures) -> float | None:
        """A single objective's figure after an epoch, with a penalty for constraints; None where one is missing."""
        [objective] = self.objectives
        keys = {objective.key, *(constraint.key for constraint in self.constraints)}
        if not keys <= set(row):
            return None
        penalty = PENALTY * sum(max(0.0, violation) for violation in self.violations(row).values())
        return row[objective.key] + (penalty if objective.direction == "minimize" else -penalty)


def read_goal(texts: Sequence[str], references: Mapping[str, Figures]) -> Goal:
    """Read objectives and constraints; ``references`` has the figures that ``of NAME`` stands for.

    Raises ConfigError for a text that is neither, an unknown reference, a key named twice, and no objective at all.
    """
    objectives, constraints = [], []
    for text in dict.fromkeys(texts):
        check_text(text)
        if match := OBJECTIVE.fullmatch(text):
            direction: Literal["minimize", "maximize"] = "minimize" if match["direction"] == "minimize" else "maximize"
            objectives.append(Objective(match["key"], direction, _bound(text, match, references)))
        elif match := CONSTRAINT.fullmatch(text):
            sign: Literal[">=", "<="] = ">=" if match["sign"] == ">=" else "<="
            constraints.append(Constraint(text, match["key"], sign, _bound(text, match, references)))
    keys = [objective.key for objective in objectives]
    if not keys or len(set(keys)) < len(keys):
        raise ConfigError(f"objectives {', '.join(texts)}: expected at least one, and each key once")
    return Goal(tuple(objectives), tuple(constraints))


def check_text(text: str, names: Sequence[str] = ()) -> None:
    """Raise ConfigError for a text that is no objective and no constraint; ``names``: of objectives, for the nearest.

    Its key and reference are not looked at: which there are shows once a model is measured.
    """
    if not OBJECTIVE.fullmatch(text) and not CONSTRAINT.fullmatch(text):
        raise ConfigError(
            f'objective "{text}": expected a name of optimize.objectives, "minimize KEY from NUMBER", '
            f'"maximize KEY from NUMBER" or "KEY >= NUMBER"; NUMBER may be "0.95 of original"'
            f"{suggest(text, list(names))}"
        )


def _bound(text: str, match: re.Match[str], references: Mapping[str, Figures]) -> float:
    try:
        number = float(match["number"])
    except ValueError as error:
        raise ConfigError(f'objective "{text}": {match["number"]} is not a number') from error
    name = match["reference"]
    if name is None:
        return number
    if name not in references:
        raise ConfigError(f'objective "{text}": no reference "{name}"; there are {", ".join(references)}')
    return number * _figure(references[name], match["key"])


def _figure(figures: Figures, key: str) -> float:
    if key not in figures or math.isnan(figures[key]):
        raise ConfigError(f'no figure "{key}" for this request; there are {", ".join(figures)}{_near(key, figures)}')
    return float(figures[key])


def _near(key: str, figures: Figures) -> str:
    return suggest(key, list(figures))
