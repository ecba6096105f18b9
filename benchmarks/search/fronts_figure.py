"""The figure of fronts.py: utility against suppression, each seed small and the mean large."""

from pathlib import Path
from typing import Any

import numpy as np
from compared import Group, Row
from matplotlib.figure import Figure

from srun.judging.styles import model_name, style
from srun.metrics.ranking import hit, ndcg


def draw(groups: dict[str, Group], path: Path) -> None:
    """Test NDCG@10 against forget_report Hit@10, each seed small and the mean large."""
    colours = {name: style(name).colour for name in ("original", "retrain", "sisa")} | {"thesis": "#CC79A7"}
    markers = {name: style(name).marker for name in ("original", "retrain", "sisa")} | {"thesis": "v"}
    names = {"original": "Original", "retrain": "Retrain", "sisa": "SISA", "thesis": "thesis' setting"}
    names |= {"utility": "front, most utility", "lead": "front, most lead", "match": "front, match"}
    colours |= {"utility": "#E69F00", "lead": "#D55E00", "match": "#009E73"}
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, (model, group) in zip(np.atleast_1d(figure.subplots(1, len(groups))), groups.items(), strict=True):
        for name in ("original", "retrain", "sisa", "thesis"):
            rows = group.retrains if name == "retrain" else list(group.others[name].values())
            _scatter(axes, rows, colours[name], markers[name], names[name])
        for (against, way), by_seed in group.chosen.items():
            if way == "match" and against == "sisa":
                continue  # the same as against the thesis' setting
            label = names[way] if way == "match" else f"{names[way]}, against {names[against]}"
            marker = "*" if way == "match" else {"thesis": "<", "sisa": ">"}[against]
            _scatter(axes, list(by_seed.values()), colours[way], marker, label)
        axes.set(title=model_name(model), xlabel="forget_report Hit@10 (lower: more forgotten)", ylabel="test NDCG@10")
        axes.locator_params(axis="x", nbins=6)
        axes.grid(color="#E5E5E5")
        axes.set_axisbelow(True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=110)


def _scatter(axes: Any, rows: list[Row], colour: str, marker: str, label: str) -> None:
    points = np.array([[hit(row.ranks("forget_report"), 10), ndcg(row.ranks("test"), 10)] for row in rows])
    axes.scatter(*points.T, color=colour, marker=marker, s=18, alpha=0.45, linewidths=0)
    axes.scatter(*points.mean(0), color=colour, marker=marker, s=130, edgecolors="white", label=label)
