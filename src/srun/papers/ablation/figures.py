"""Figures 9 to 13 of the SRUGA thesis, and how far parameters moved; as PNG bytes, by file name."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srun.papers.drawing import to_png
from srun.reporting.figures import INK

Rows = Sequence[Mapping[str, Any]]
UTILITY, FORGET = (
    ("test_recall_10", "Recall@10 (test)", "#0072B2"),
    ("forget_report_hit_10", "Hit@10 (forgotten)", "#D55E00"),
)
WEIGHTS = {"ascent_weight": "η_GA", "finetune_weight": "η_FT", "kl_weight": "η_KL"}


def draw(rows: Mapping[str, Rows], curves: Rows, moved: Rows, originals: Mapping[str, float]) -> dict[str, bytes]:
    """The figures for which there is anything to show. ``originals``: Original's figures, dotted lines."""
    drawn = {}
    if rows.get("combinations"):
        drawn["figure-9.png"] = _combinations(rows["combinations"])
    if rows.get("sweeps"):
        drawn["figure-10-11.png"] = _sweeps(rows["sweeps"])
    if curves:
        drawn["figure-12.png"] = _lines(curves, {"retain/loss": "training loss on the retain set"}, originals)
        names = {"validation/recall_10": "Recall@10 (validation)", "forget_tune/hit_10": "Hit@10 (forgotten, tune)"}
        drawn["figure-13.png"] = _lines(curves, names, originals)
    combined = [row for row in moved if row["part"] == "combinations"] or list(moved)
    if combined:
        drawn["moved.png"] = _moved(combined)
    return drawn


def _combinations(rows: Rows) -> bytes:
    figure, [axes] = _panels(1)
    for shift, (key, name, colour) in ((-0.2, UTILITY), (0.2, FORGET)):
        axes.bar([i + shift for i in range(len(rows))], [row[key] for row in rows], 0.38, color=colour, label=name)
    axes.set_xticks(range(len(rows)), [row["variant"] for row in rows], fontsize=8)
    return _finish(figure, axes, "Figure 9: combinations of the three terms")


def _sweeps(rows: Rows) -> bytes:
    figure, panels = _panels(3)
    for axes, (key, sign) in zip(panels, WEIGHTS.items(), strict=True):
        own = [row for row in rows if key in row]
        for metric, name, colour in (UTILITY, FORGET):
            axes.plot([row[key] for row in own], [row[metric] for row in own], "o-", color=colour, label=name, ms=4)
        axes.set_xlabel(sign)
    return _finish(figure, panels[0], "Figures 10 and 11: each weight, the others fixed")


def _lines(curves: Rows, names: Mapping[str, str], originals: Mapping[str, float]) -> bytes:
    figure, panels = _panels(len(names))
    for axes, (key, name) in zip(panels, names.items(), strict=True):
        for variant in dict.fromkeys(row["variant"] for row in curves):
            own = [row for row in curves if row["variant"] == variant]
            axes.plot([row["epoch"] for row in own], [row[key] for row in own], label=variant, lw=1.5)
        if key in originals:
            axes.axhline(originals[key], color="#333333", ls=":", lw=1.2, label="Original")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
    number = "12" if len(names) == 1 else "13"
    return _finish(figure, panels[0], f"Figure {number}: without early stop")


def _moved(rows: Rows) -> bytes:
    figure, [axes] = _panels(1)
    groups = [name for name in rows[0] if name not in ("part", "variant", "epochs")]
    width = 0.8 / len(rows)
    for index, row in enumerate(rows):
        spots = [place - 0.4 + (index + 0.5) * width for place in range(len(groups))]
        axes.bar(spots, [row[group] for group in groups], width * 0.9, label=row["variant"])
    axes.set_xticks(range(len(groups)), groups, rotation=30, ha="right", fontsize=8)
    axes.set_yscale("log")
    return _finish(figure, axes, "How far parameters moved: L2 of the change over L2 of what was there")


def _panels(panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8 if panels == 1 else 4 * panels, 4.2), layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _finish(figure: Figure, first: Axes, title: str) -> bytes:
    figure.suptitle(title, fontsize=10.5, color=INK, x=0.01, ha="left")
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    handles, names = first.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return to_png(figure)
