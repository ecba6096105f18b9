"""The base models: the Originals of presets/base-*.yaml, trained in a project, and their figures as rows."""

import argparse
import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import engine  # first: torch reads what it sets
import torch
from engine import ROOT
from safetensors.torch import load_file

from srun.data.dataset import Dataset
from srun.flow.cells import Cell
from srun.flow.layout import Layout
from srun.flow.params import Params
from srun.flow.project import Project
from srun.flow.stages import evaluate_step, partition_step, prepare_step, train_step, unlearn_step
from srun.metrics.ranking import hit, ndcg
from srun.models.scorer import Scorer, new_model
from srun.training.checkpoint import unpack

KEY = "validation/ndcg_10"


@dataclass(frozen=True)
class Base:
    """A preset of base models in a project."""

    name: str
    project: Path
    """Its data/raw has the log; its out/ gets the models."""
    overrides: tuple[str, ...]
    """Of params.yaml, for all models alike."""
    variant: tuple[str, ...] = ()
    """More of them, such as ``train.loss=bce``, which lead to a folder of their own."""

    @cached_property
    def params(self) -> Params:
        preset = ROOT / "presets" / f"base-{self.name}.yaml"
        return engine.settings(*self.overrides, *self.variant, presets=[preset])

    @property
    def folder(self) -> Path:
        parts = [f"base-{self.name}", *(text.partition(".")[2] for text in self.variant)]
        return self.project / "out" / "-".join(parts)

    @property
    def layout(self) -> Layout:
        return Layout(self.project, self.folder)


def train_all(base: Base, originals: list[str] | None) -> None:
    """Train and rank every Original of a preset that is not done yet, or only those named."""
    project = Project(base.params, base.layout)
    prepare_step(project).run()
    partition_step(project, "interactions").run()
    for cell in base.params.cells.values():
        wanted = originals is None or cell.original in originals
        if wanted and not base.layout.cell(cell).evaluation.is_dir():
            for step in (train_step(project, cell.original), unlearn_step(project, cell), evaluate_step(project, cell)):
                step.run()


def collect(base: Base) -> list[dict[str, Any]]:
    """A row for each Original of a preset: its figures and its curve, as far as it is trained."""
    rows = []
    for cell in base.params.cells.values():
        about: dict[str, Any] = {"preset": f"base-{base.name}", "original": cell.original, "seed": cell.seed}
        states = sorted(base.layout.original(cell.original).resume.glob("shard-0/*/state.json"))
        if base.layout.cell(cell).evaluation.is_dir():
            row = _finished(base.layout, cell)
        elif states:
            row = _cut_off(base, base.params.original(cell.original).model, states[-1])
        else:
            continue
        row["curve"] = [[int(epoch), round(value, 5)] for epoch, value in row["curve"]]
        rows.append(about | row)
    return rows


def _finished(layout: Layout, cell: Cell) -> dict[str, Any]:
    original = layout.original(cell.original)
    report = json.loads((layout.cell(cell).evaluation / "report.json").read_text())
    test = report["metrics"]["test_raw"]  # the whole history: no request has been carried out
    info = json.loads((original.model / "model.json").read_text())
    cost = json.loads(original.run.read_text())["cost"]
    return {
        **{"test/ndcg_10": test["ndcg_10"], "test/recall_10": test["recall_10"], "finished": True},
        **{"best_epoch": info["best_epoch"][0], "minutes": (cost["seconds"] + cost["seconds_patience"]) / 60},
        "curve": _curve((original.model / "history.csv").read_text().splitlines()),
    }


def _cut_off(base: Base, model: str, file: Path) -> dict[str, Any]:
    """Of a training that has not ended: figures of the best weights so far."""
    state = json.loads(file.read_text())
    return {
        **{"finished": False, "best_epoch": state["best_cost"]["epochs"], "minutes": state["cost"]["seconds"] / 60},
        **_rank_best(base, model, file.with_suffix(".safetensors")),
        "curve": [[row["epoch"], row[KEY]] for row in state["history"] if KEY in row],
    }


def _rank_best(base: Base, name: str, file: Path) -> dict[str, float]:
    data = Dataset.load(base.layout.prepared)
    model = new_model(engine.describe(base.params, name, data.num_items, data.max_length))
    model.load_state_dict(unpack("best", load_file(file)))
    ranks = engine.test_task(data, torch.device("cpu")).ranks(Scorer([model.eval()])).rank
    return {"test/ndcg_10": ndcg(ranks, 10), "test/recall_10": hit(ranks, 10)}


def _curve(lines: list[str]) -> list[list[float]]:
    return [[float(row["epoch"]), float(row[KEY])] for row in csv.DictReader(lines) if row[KEY]]


def add_base_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``base`` reads."""
    parser.add_argument("--project", type=Path, default=ROOT, help="whose data/raw has the logs and out/ the models")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one of params.yaml")


def base(name: str, options: argparse.Namespace) -> Base:
    """The preset of a name as the options say."""
    return Base(name, options.project, tuple(options.set))
