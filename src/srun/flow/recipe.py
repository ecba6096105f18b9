"""`srun audit --ensemble`: a recipe, judged by its runs from many Originals beside as many Retrains."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from srun.errors import DataError
from srun.files import write_text
from srun.flow.cells import Cell
from srun.flow.judge import read_original, read_records
from srun.flow.layout import Layout
from srun.judging.recipe import RecipeJudgement, judge_recipe, runs_of
from srun.judging.records import KINDS, Group, group_records
from srun.judging.styles import REFERENCE, style
from srun.metrics.klom import LEAST

JUDGED = ("method", "control")


def run(layout: Layout, cells: Mapping[str, Cell], options: Sequence[str] = ()) -> list[RecipeJudgement]:
    """Judge every method and control of ``cells`` that has an evaluated run; no request of a category.

    Writes reports/audit/ensemble-MODEL-REQUEST-METHOD.json of each. Raises DataError where there is none.
    """
    records, missing = read_records(layout, cells, options)
    wanted = [record for record in records if record.kind in KINDS]
    originals = [read_original(layout, name) for name in dict.fromkeys(record.original for record in wanted)]
    groups = group_records(wanted, originals) if wanted else []
    recipes = [
        replace(judged, run=_command(group, method, options) if judged.lacks else "")
        for group in groups
        for method in group.methods
        if style(method).role in JUDGED and runs_of(group, method)
        for judged in [judge_recipe(group, method)]
    ]
    if not recipes:
        why = next(iter(missing.values()), "the preset has no cell of a method on a request of interactions or users")
        raise DataError(f"no run of a recipe is evaluated: {why}")
    for recipe in recipes:
        name = f"ensemble-{recipe.model}-{recipe.request}-{recipe.method}"
        write_text(layout.audit(name), json.dumps(as_json(recipe), indent=1) + "\n")
    return recipes


def as_json(recipe: RecipeJudgement) -> dict[str, Any]:
    """A recipe's figures as JSON."""
    return {**asdict(recipe), "pass_share": recipe.pass_share}


def _command(group: Group, method: str, options: Sequence[str]) -> str:
    """What makes one run more, from another Original; or one more Retrain where only these are too few."""
    taken = {record.seed for record in group.retrains} | {int(one.info["seed"]) for one in group.originals}
    seed = next(number for number in range(len(taken) + 1) if number not in taken)
    start, request = group.originals[0].name, group.request
    words = ["srun", "run", *options]
    if len(runs_of(group, method)) >= LEAST:
        cell = f"{{request: {request}, original: {start}, method: {REFERENCE}, seed: {seed}}}"
        return shlex.join([*words, "--set", f"cells.{start}-{request}-{REFERENCE}-{seed}={cell}"])
    original = f"{group.model}-{seed}"
    cell = f"{{request: {request}, original: {original}, method: {method}, seed: {seed}}}"
    words += ["--set", f"originals.{original}={{model: {group.model}, seed: {seed}, shards: 1}}"]
    return shlex.join([*words, "--set", f"cells.{original}-{request}-{method}={cell}"])
