"""The recommenders themselves beside public replications: benchmarks/base_models.md, .json and .png.

`python benchmarks/base_models.py NAME ...` trains the Originals of experiments/base-NAME.yaml, ranks the whole
catalogue for every user's last item, and lays the figures beside published ones. A run that was stopped goes on where
it was; models lie in out/base-NAME, what is written here is small: figures, curves, seeds, seconds.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
PUBLISHED = {  # NDCG@10, full ranking, leave one out; what each is, and its source
    "ml-1m-sasrec": (0.182, "SASRec, full CE: Klenitskiy and Vasilev, 2023"),
    "ml-1m-gru4rec": (0.141, "GRU4Rec: public replications"),
    "ml-1m-bert4rec": (0.152, "BERT4Rec: Petrov and Macdonald, 2022"),
    "beauty-sasrec-10": None,  # peer_quality.json, a peer trained beside them
    "beauty-sasrec": None,
}


def published(preset: str) -> tuple[float, str]:
    """What stands beside a preset: NDCG@10, and of whom."""
    found = PUBLISHED[preset.removeprefix("base-")]
    if found is None:
        peer = json.loads((HERE / "peer_quality.json").read_text())
        found = peer["test/ndcg_10"], f"{peer['peer']}, L={peer['length']}, {len(peer['curve']) * 2} epochs"
    return found


def train(name: str, threads: int, originals: list[str] | None, overrides: tuple[str, ...] = ()) -> None:
    """Train and rank every Original of a preset that is not done yet, or only those named.

    ``overrides`` of params.yaml, such as ``train.loss=bce``, lead to a folder of their own.
    """
    from srun.params import load
    from srun.pipeline import Pipeline

    preset = ROOT / "experiments" / f"base-{name}.yaml"
    settings = [f"runtime.threads={threads}", "runtime.tracking=false", *overrides]
    pipeline = Pipeline(params := load(ROOT / "params.yaml", [preset], settings), ROOT, folder(name, overrides))
    pipeline.prepare()
    pipeline.partition("interactions")
    for cell in params.cells.values():
        wanted = originals is None or cell.original in originals
        if wanted and not pipeline.layout.cell(cell).evaluation.is_dir():
            pipeline.train(cell.original)
            pipeline.unlearn(cell)
            pipeline.evaluate(cell)


def folder(name: str, overrides: tuple[str, ...] = ()) -> Path:
    """Where the models of a preset lie."""
    return ROOT / "out" / "-".join([f"base-{name}", *(text.partition(".")[2] for text in overrides)])


def collect(name: str, overrides: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """A row for each Original of a preset: its figures and its curve, as far as it is trained."""
    from srun.params import load
    from srun.stages.layout import Layout

    params = load(ROOT / "params.yaml", [ROOT / "experiments" / f"base-{name}.yaml"])
    layout = Layout(ROOT, folder(name, overrides))
    rows = []
    for cell in params.cells.values():
        paths, original = layout.cell(cell), layout.original(cell.original)
        row: dict[str, Any] = {"preset": f"base-{name}", "original": cell.original, "seed": cell.seed}
        if paths.evaluation.is_dir():
            found = json.loads((paths.evaluation / "report.json").read_text())
            test = found["metrics"]["test_raw"]  # the whole history: no request has been carried out
            info = json.loads((original.model / "model.json").read_text())
            cost = json.loads(original.run.read_text())["cost"]
            row |= {"test/ndcg_10": test["ndcg_10"], "test/recall_10": test["recall_10"], "finished": True}
            row |= {"best_epoch": info["best_epoch"][0], "minutes": (cost["seconds"] + cost["seconds_patience"]) / 60}
            row["curve"] = _curve((original.model / "history.csv").read_text().splitlines())
        else:
            states = sorted(original.resume.glob("shard-0/*/state.json"))
            if not states:
                continue
            state = json.loads(states[-1].read_text())
            row |= {"finished": False, "best_epoch": state["best_epoch"], "minutes": state["seconds"] / 60}
            row |= _rank_best(params, layout, params.original(cell.original), states[-1].with_suffix(".safetensors"))
            row["curve"] = [[r["epoch"], r[KEY]] for r in state["history"] if KEY in r]
        row["curve"] = [[int(epoch), round(value, 5)] for epoch, value in row["curve"]]
        rows.append(row)
    return rows


KEY = "validation/ndcg_10"


def _rank_best(params: Any, layout: Any, original: Any, file: Path) -> dict[str, float]:
    """Test figures of the best weights so far of a training that has not ended."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    from srun.data.interactions import Dataset, Role
    from srun.data.sequences import make_queries
    from srun.evaluation.ranking import RankingTask
    from srun.metrics.ranking import hit, ndcg
    from srun.models.scorer import Scorer, new_model
    from srun.training.checkpoint import unpack

    data = Dataset.load(layout.prepared)
    settings = dict(vars(params.model_settings(original.model)))
    sizes = {"num_items": data.num_items, "max_length": data.max_length}
    model = new_model({"name": original.model, "settings": settings, **sizes})
    model.load_state_dict(unpack("best", load_file(file)))
    everything = np.ones(data.num_events, dtype=bool)
    queries = make_queries(data.item, data.user, data.offsets, everything, data.role == Role.TEST)
    ranks = RankingTask.make(queries, data.max_length, torch.device("cpu"), 512).ranks(Scorer([model.eval()]))[0]
    return {"test/ndcg_10": ndcg(ranks, 10), "test/recall_10": hit(ranks, 10)}


def _curve(lines: list[str]) -> list[list[float]]:
    return [[float(row["epoch"]), float(row[KEY])] for row in csv.DictReader(lines) if row[KEY]]


def write(rows: list[dict[str, Any]]) -> None:
    """base_models.json, .md and .png of all rows."""
    (HERE / "base_models.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        "# Base models",
        "",
        "Made by `python benchmarks/base_models.py` from experiments/base-*.yaml: leave one out, the whole catalogue",
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
    (HERE / "base_models.md").write_text("\n".join([*lines, "", "![validation curves](base_models.png)", ""]))
    _draw(rows)


def _draw(rows: list[dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    presets = list(dict.fromkeys(row["preset"] for row in rows))
    figure, axes = pyplot.subplots(1, len(presets), figsize=(3.6 * len(presets), 3), squeeze=False)
    for axis, preset in zip(axes[0], presets, strict=True):
        for row in rows:
            if row["preset"] == preset:
                axis.plot(*zip(*row["curve"], strict=True), label=f"seed {row['seed']}")
        axis.axhline(published(preset)[0], color="0.5", linestyle="--", linewidth=1, label="published, or peer, test")
        axis.set(title=preset.removeprefix("base-"), xlabel="epoch", ylabel="validation NDCG@10")
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(HERE / "base_models.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *PUBLISHED], help="what to train; none: only write the table")
    parser.add_argument("--originals", nargs="+", metavar="ORIGINAL", help="only these of the preset, e.g. sasrec-1")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for name in arguments.names:
        train(name, arguments.threads, arguments.originals)
    file = HERE / "base_models.json"
    rows = {(row["preset"], row["original"]): row for row in json.loads(file.read_text() if file.is_file() else "[]")}
    for name in PUBLISHED:  # what is not trained in this checkout stays as it was written
        rows |= {(row["preset"], row["original"]): row for row in collect(name)}
    order = [f"base-{name}" for name in PUBLISHED]
    write(sorted(rows.values(), key=lambda row: (order.index(row["preset"]), row["original"])))


if __name__ == "__main__":
    main()
