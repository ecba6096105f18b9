"""Figures 9 to 13 of the SRUGA thesis, and how far parameters moved; as PNG bytes, by file name."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from srun.reporting.figures import DOTS_PER_INCH, INK

Rows = Sequence[Mapping[str, Any]]
UTILITY, FORGET = (
    ("test_recall_10", "Recall@10 (test)", "#0072B2"),
    ("forget_report_hit_10", "Hit@10 (forgotten)", "#D55E00"),
)
WEIGHTS = {"ascent_weight": "η_GA", "finetune_weight": "η_FT", "kl_weight": "η_KL"}


def draw(rows: Mapping[str, Rows], curves: Rows, moved: Rows, level: Mapping[str, float]) -> dict[str, bytes]:
    """The figures for which there is anything to show. ``level``: Original's figures, dotted lines."""
    found = {}
    if rows.get("combinations"):
        found["figure-9.png"] = _combinations(rows["combinations"])
    if rows.get("sweeps"):
        found["figure-10-11.png"] = _sweeps(rows["sweeps"])
    if curves:
        found["figure-12.png"] = _lines(curves, {"retain/loss": "training loss on the retain set"}, level)
        names = {"validation/recall_10": "Recall@10 (validation)", "forget_tune/hit_10": "Hit@10 (forgotten, tune)"}
        found["figure-13.png"] = _lines(curves, names, level)
    shown = [row for row in moved if row["part"] == "combinations"] or list(moved)
    if shown:
        found["moved.png"] = _moved(shown)
    return found


def _combinations(rows: Rows) -> bytes:
    canvas, [axes] = _canvas(1)
    for shift, (key, name, colour) in ((-0.2, UTILITY), (0.2, FORGET)):
        axes.bar([i + shift for i in range(len(rows))], [row[key] for row in rows], 0.38, color=colour, label=name)
    axes.set_xticks(range(len(rows)), [row["variant"] for row in rows], fontsize=8)
    return _png(canvas, axes, "Figure 9: combinations of the three terms")


def _sweeps(rows: Rows) -> bytes:
    canvas, panels = _canvas(3)
    for axes, (key, sign) in zip(panels, WEIGHTS.items(), strict=True):
        own = [row for row in rows if key in row]
        for metric, name, colour in (UTILITY, FORGET):
            axes.plot([row[key] for row in own], [row[metric] for row in own], "o-", color=colour, label=name, ms=4)
        axes.set_xlabel(sign)
    return _png(canvas, panels[0], "Figures 10 and 11: each weight, the others fixed")


def _lines(curves: Rows, names: Mapping[str, str], level: Mapping[str, float]) -> bytes:
    canvas, panels = _canvas(len(names))
    for axes, (key, name) in zip(panels, names.items(), strict=True):
        for variant in dict.fromkeys(row["variant"] for row in curves):
            own = [row for row in curves if row["variant"] == variant]
            axes.plot([row["epoch"] for row in own], [row[key] for row in own], label=variant, lw=1.5)
        if key in level:
            axes.axhline(level[key], color="#333333", ls=":", lw=1.2, label="Original")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
    number = "12" if len(names) == 1 else "13"
    return _png(canvas, panels[0], f"Figure {number}: without early stop")


def _moved(rows: Rows) -> bytes:
    canvas, [axes] = _canvas(1)
    groups = [name for name in rows[0] if name not in ("part", "variant", "epochs")]
    width = 0.8 / len(rows)
    for index, row in enumerate(rows):
        spots = [place - 0.4 + (index + 0.5) * width for place in range(len(groups))]
        axes.bar(spots, [row[group] for group in groups], width * 0.9, label=row["variant"])
    axes.set_xticks(range(len(groups)), groups, rotation=30, ha="right", fontsize=8)
    axes.set_yscale("log")
    return _png(canvas, axes, "How far parameters moved: L2 of the change over L2 of what was there")


def _canvas(panels: int) -> tuple[Canvas, list[Axes]]:
    canvas = Canvas(figsize=(8 if panels == 1 else 4 * panels, 4.2), layout="constrained")
    return canvas, list(canvas.subplots(1, panels, squeeze=False)[0])


def _png(canvas: Canvas, first: Axes, title: str) -> bytes:
    canvas.suptitle(title, fontsize=10.5, color=INK, x=0.01, ha="left")
    for axes in canvas.axes:
        axes.spines[["top", "right"]].set_visible(False)
    handles, names = first.get_legend_handles_labels()
    canvas.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    out = io.BytesIO()
    canvas.savefig(out, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    return out.getvalue()
