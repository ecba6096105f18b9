"""The recommenders themselves beside public replications: benchmarks/base_models.md, .json and .png.

`python benchmarks/base_models.py NAME ...` trains the Originals of presets/base-NAME.yaml, ranks the whole
catalogue for every user's last item, and lays the figures beside published ones. A run that was stopped goes on where
it was; models lie in out/base-NAME, what is written here is small: figures, curves, seeds, seconds.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import engine  # first: torch reads what it sets
import torch
from engine import ROOT
from matplotlib.figure import Figure
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

HERE = Path(__file__).parent
KEY = "validation/ndcg_10"
PUBLISHED = {  # NDCG@10, full ranking, leave one out; what each is, and its source
    "ml-1m-sasrec": (0.182, "SASRec, full CE: Klenitskiy and Vasilev, 2023"),
    "ml-1m-gru4rec": (0.141, "GRU4Rec: public replications"),
    "ml-1m-bert4rec": (0.152, "BERT4Rec: Petrov and Macdonald, 2022"),
    "beauty-sasrec-10": None,  # peer_quality.json, a peer trained beside them
    "beauty-sasrec": None,
}


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


def published(preset: str) -> tuple[float, str]:
    """What stands beside a preset: NDCG@10, and of whom."""
    found = PUBLISHED[preset.removeprefix("base-")]
    if found is None:
        peer = json.loads((HERE / "peer_quality.json").read_text())
        found = peer["test/ndcg_10"], f"{peer['peer']}, L={peer['length']}, {len(peer['curve']) * 2} epochs"
    return found


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
    found = json.loads((layout.cell(cell).evaluation / "report.json").read_text())
    test = found["metrics"]["test_raw"]  # the whole history: no request has been carried out
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
        **{"finished": False, "best_epoch": state["best_epoch"], "minutes": state["seconds"] / 60},
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


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """base_models.json, .md and .png of all rows."""
    (out / "base_models.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        "# Base models",
        "",
        "Made by `python benchmarks/base_models.py` from presets/base-*.yaml: leave one out, the whole catalogue",
        "ranked without the history, figures of the last item of every user. Validation stops the training.",
        "",
        "| preset | seed | NDCG@10 | Recall@10 | best epoch | minutes, 1 thread | published, or a peer's NDCG@10 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        value, what = published(row["preset"])
        figures = [f"{row['test/ndcg_10']:.4f}", f"{row['test/recall_10']:.4f}"]
        figures[0] += "" if row["finished"] else f" (cut off after {row['curve'][-1][0]} epochs)"
        shown = [row["preset"], str(row["seed"]), *figures, str(row["best_epoch"]), f"{row['minutes']:.0f}"]
        lines.append(f"| {' | '.join(shown)} | {value:.4g} ({what}) |")
    (out / "base_models.md").write_text("\n".join([*lines, "", "![validation curves](base_models.png)", ""]))
    _draw(rows, out / "base_models.png")


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    presets = list(dict.fromkeys(row["preset"] for row in rows))
    figure = Figure(figsize=(3.6 * len(presets), 3), layout="tight")
    axes = figure.subplots(1, len(presets), squeeze=False)
    for axis, preset in zip(axes[0], presets, strict=True):
        for row in rows:
            if row["preset"] == preset:
                axis.plot(*zip(*row["curve"], strict=True), label=f"seed {row['seed']}")
        axis.axhline(published(preset)[0], color="0.5", linestyle="--", linewidth=1, label="published, or peer, test")
        axis.set(title=preset.removeprefix("base-"), xlabel="epoch", ylabel="validation NDCG@10")
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def add_base_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``base`` reads."""
    parser.add_argument("--project", type=Path, default=ROOT, help="whose data/raw has the logs and out/ the models")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one of params.yaml")


def base(name: str, options: argparse.Namespace) -> Base:
    """The preset of a name as the options say."""
    return Base(name, options.project, tuple(options.set))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *PUBLISHED], help="what to train; none: only write the table")
    parser.add_argument("--originals", nargs="+", metavar="ORIGINAL", help="only these of the preset, e.g. sasrec-1")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the table; default benchmarks")
    add_base_options(parser)
    options = parser.parse_args(words)
    options.set.append(f"runtime.threads={options.threads}")
    for name in options.names:
        train_all(base(name, options), options.originals)
    kept = engine.read_rows(options.out / "base_models.json")  # of what is not trained in this project
    rows = {(row["preset"], row["original"]): row for row in kept}
    for name in PUBLISHED:
        rows |= {(row["preset"], row["original"]): row for row in collect(base(name, options))}
    order = [f"base-{name}" for name in PUBLISHED]
    options.out.mkdir(parents=True, exist_ok=True)
    write(sorted(rows.values(), key=lambda row: (order.index(row["preset"]), row["original"])), options.out)


if __name__ == "__main__":
    main()
