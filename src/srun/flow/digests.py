"""Digests of the code of each stage and of the request files, as small files: DVC alone would not see these change."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from srun.files import write_folder
from srun.flow.cells import Cell
from srun.flow.code import DIGITS, code_digests
from srun.flow.freshness import digest
from srun.flow.layout import Layout
from srun.flow.params import Params
from srun.flow.partition import digests
from srun.judging.styles import MASKS, ORIGINAL, REFERENCE, method_order, model_name, style
from srun.models import MODELS
from srun.unlearning import UNLEARNERS

PLAIN = ("prepare", "partition")
"""Stages whose code is the same whatever they are done for."""
SHOWING = ("judge", "report")
"""Stages that show methods and models as their classes say."""


def plain_code(stage: str) -> dict[str, str]:
    """Digests of the code of one of the plain stages."""
    return code_digests(f"srun.flow.{stage}")


def show_code(stage: str, params: Params) -> dict[str, str]:
    """Digests of the code of a stage that shows, and of how it shows the methods and models of the cells."""
    return plain_code(stage) | _looks(params)


def audit_code(params: Params, cell: Cell) -> dict[str, str]:
    """Digests of the code that a cell's model is audited by."""
    model = MODELS[params.original(cell.original).model].__module__
    return code_digests("srun.flow.audit", model) | _looks(params)


def _looks(params: Params) -> dict[str, str]:
    """Digests of how the methods and models of the cells are shown."""
    methods = {ORIGINAL, REFERENCE, *(cell.method for cell in params.cells.values())}
    models = {params.original(cell.original).model for cell in params.cells.values()}
    looks: dict[str, Any] = {name: [asdict(style(name)), name in MASKS] for name in sorted(methods)}
    looks |= {name: model_name(name) for name in sorted(models)}
    shown = {f"the looks of {name}": look for name, look in looks.items()}
    shown["the order of methods"] = sorted(methods, key=method_order)
    return {name: digest({name: value})[:DIGITS] for name, value in shown.items()}


def train_code(model: str) -> dict[str, str]:
    """Digests of the code that an Original of a model is made by."""
    return code_digests("srun.flow.train", MODELS[model].__module__)


def crossfit_code(model: str) -> dict[str, str]:
    """Digests of the code that the table of an Original's cross-fitted models is made by."""
    return code_digests("srun.flow.crossfit", MODELS[model].__module__)


def draw_code(params: Params, original: str) -> dict[str, str]:
    """Digests of the code that an Original draws requests by, and its private table is made by; empty for none."""
    if not params.drawn_by(original):
        return {}
    name = params.original(original).model
    return code_digests("srun.flow.draw", MODELS[name].__module__) | crossfit_code(name)


def unlearn_code(params: Params, cell: Cell) -> dict[str, str]:
    """Digests of the code that a cell's model is made by, and its private table where it needs one."""
    name, method = params.original(cell.original).model, UNLEARNERS[cell.method]
    code = code_digests("srun.flow.unlearn", MODELS[name].__module__, method.__module__)
    return code | (crossfit_code(name) if method(params.method_settings(cell.method)).needs_crossfit else {})


def evaluate_code(params: Params, cell: Cell) -> dict[str, str]:
    """Digests of the code that a cell is evaluated by."""
    return code_digests("srun.flow.evaluate", MODELS[params.original(cell.original).model].__module__)


def stage_code(params: Params) -> dict[str, dict[str, str]]:
    """The same of every stage, by the name of its file: ``train/sasrec-0``, ``unlearn/sasrec-sruga``."""
    code = {stage: plain_code(stage) for stage in PLAIN} | {stage: show_code(stage, params) for stage in SHOWING}
    for name, original in params.originals.items():
        code |= {f"train/{name}": train_code(original.model), f"levels/{name}": crossfit_code(original.model)}
        code[f"draw/{name}"] = draw_code(params, name)
        if drawn := params.drawn_by(name):  # what they say counts as code: dvc.yaml cannot name parameters of some only
            asked = {"levels": asdict(params.levels), **{request: block.rule for request, block in drawn.items()}}
            code[f"draw/{name}"]["requests"] = digest(asked)[:DIGITS]
    for name, cell in params.cells.items():
        code |= {f"unlearn/{name}": unlearn_code(params, cell), f"evaluate/{name}": evaluate_code(params, cell)}
        if UNLEARNERS[cell.method](params.method_settings(cell.method)).needs_crossfit:
            code[f"unlearn/{name}"]["levels"] = digest(asdict(params.levels))[:DIGITS]  # a parameter of such cells only
    return code | {f"audit/{name}": audit_code(params, params.cells[name]) for name in params.audits}


def write_digests(layout: Layout, params: Params) -> Path:
    """Write what outputs depend on beside parameters and data, as a folder of small files that dvc.yaml names.

    The folder of audits is made too: DVC wants what judge reads to be there, also where nothing is audited.
    """
    layout.audits.mkdir(parents=True, exist_ok=True)
    contents = {f"code/{name}": code for name, code in stage_code(params).items()}
    contents |= {f"requests/{name}": digests(params.request(name)) for name in params.requests}
    with write_folder(layout.digests) as new:
        for name, values in contents.items():
            file = new / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return layout.digests
