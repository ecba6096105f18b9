"""A search that needs no model: one trade-off with a known front. A script too: PLACE NAME TRIALS SECONDS."""

import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from srun.search.goals import Goal, read_goal
from srun.search.space import Choice, Range, Space
from srun.search.storage import open_storage
from srun.search.study import LimitsConfig, Search, Tell, open_study

BASE = {"ascent": 0.5, "kl": 1.0, "kind": "plain", "steps": 2}
LIMITS = LimitsConfig(trial=600.0, beat=0.2, silence=4.0, poll=0.1)


def toy_space(**changes: Any) -> Space:
    domains = {
        "ascent": Range(low=0.01, high=3.0, scale="log", zero=True, when={}),
        "kl": Range(low=0.01, high=3.0, scale="log", zero=False, when={}),
        "kind": Choice(of=("plain", "stepped"), when={}),
        "steps": Range(low=1, high=9, scale="linear", zero=False, when={"kind": ("stepped",)}),
    }
    return Space("unlearn.toy", BASE, {**domains, **changes})


def toy_goal(*more: str) -> Goal:
    return read_goal(["maximize utility from 0.2", "minimize forget from 1", *more], {})


def toy(overrides: Mapping[str, Any], tell: Tell | None = None) -> dict[str, float]:
    """Ascent forgets at the cost of utility, least at kl = 1 and with as many steps as there are."""
    values = {**BASE, **{key.rpartition(".")[2]: value for key, value in overrides.items()}}
    steps = values["steps"] if values["kind"] == "stepped" else 2
    waste = 0.1 * math.log(values["kl"]) ** 2 + 0.02 * abs(steps - 5)
    return {"utility": 1 - values["ascent"] ** 2 / 9 - waste, "forget": 1 / (1 + values["ascent"]) + waste / 2}


def work(place: str, name: str, trials: int, seconds: float) -> None:
    """One worker, until the study has its trials; each takes so many seconds."""

    def evaluate(overrides: Mapping[str, Any], tell: Tell) -> dict[str, float]:
        time.sleep(seconds)
        return toy(overrides)

    study = open_study(open_storage(place), name, toy_goal(), {"goal": "toy"})
    study.set_user_attr(f"worker-{os.getpid()}", os.environ.get("SLURM_PROCID", ""))
    Search(study, toy_space(), toy_goal(), LIMITS, "random", 0).run(evaluate, trials, None)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
