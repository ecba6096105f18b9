"""base_models.json, .md and .png: the base models' figures beside printed ones and a peer's."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from records import markdown_table, write_json

PRINTED = {  # NDCG@10, full ranking, leave one out, and its source
    "ml-1m-sasrec": (0.182, "SASRec, full CE: Klenitskiy and Vasilev, 2023"),
    "ml-1m-gru4rec": (0.141, "GRU4Rec: public replications"),
    "ml-1m-bert4rec": (0.152, "BERT4Rec: Petrov and Macdonald, 2022"),
    "beauty-sasrec-10": None,  # peer_quality.json, a peer trained beside them
    "beauty-sasrec": None,
}
TITLES = (
    *("preset", "seed", "NDCG@10", "Recall@10", "best epoch", "minutes, 1 thread"),
    "printed, or a peer's NDCG@10",
)


def printed(preset: str) -> tuple[float, str]:
    """The NDCG@10 that stands beside a preset, and whose it is."""
    figure = PRINTED[preset.removeprefix("base-")]
    if figure is not None:
        return figure
    peer = json.loads(Path(__file__).with_name("peer_quality.json").read_text())
    return peer["test/ndcg_10"], f"{peer['peer']}, L={peer['length']}, {len(peer['curve']) * 2} epochs"


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """base_models.json, .md and .png of all rows."""
    write_json(rows, out / "base_models.json")
    lines = [
        "# Base models",
        "",
        "Made by `python benchmarks/base_models.py` from presets/base-*.yaml: leave one out, the whole catalogue",
        "ranked without the history, figures of the last item of every user. Validation stops the training.",
        "",
        *markdown_table(TITLES, [_cells(row) for row in rows]),
    ]
    (out / "base_models.md").write_text("\n".join([*lines, "", "![validation curves](base_models.png)", ""]))
    _draw(rows, out / "base_models.png")


def _cells(row: dict[str, Any]) -> list[str]:
    value, source = printed(row["preset"])
    cut = "" if row["finished"] else f" (cut off after {row['curve'][-1][0]} epochs)"
    return [
        row["preset"],
        str(row["seed"]),
        f"{row['test/ndcg_10']:.4f}{cut}",
        f"{row['test/recall_10']:.4f}",
        str(row["best_epoch"]),
        f"{row['minutes']:.0f}",
        f"{value:.4g} ({source})",
    ]


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    presets = list(dict.fromkeys(row["preset"] for row in rows))
    figure = Figure(figsize=(3.6 * len(presets), 3), layout="tight")
    axes = figure.subplots(1, len(presets), squeeze=False)
    for axis, preset in zip(axes[0], presets, strict=True):
        for row in rows:
            if row["preset"] == preset:
                axis.plot(*zip(*row["curve"], strict=True), label=f"seed {row['seed']}")
        axis.axhline(printed(preset)[0], color="0.5", linestyle="--", linewidth=1, label="printed, or peer, test")
        axis.set(title=preset.removeprefix("base-"), xlabel="epoch", ylabel="validation NDCG@10")
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
