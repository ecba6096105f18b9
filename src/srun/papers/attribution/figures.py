"""Figure 3 of the attribution paper by our models, and the front of removal against loss; as PNG bytes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from srun.judging.records import Group, Record
from srun.judging.styles import style
from srun.papers.attribution.category import CategoryFigures
from srun.papers.attribution.findings import Findings, compared, figures_of
from srun.papers.attribution.tables import RATIOS
from srun.papers.attribution.texts import CUT_OFFS, RANKINGS
from srun.papers.drawing import to_png
from srun.reporting.figures import INK


def draw(findings: Findings) -> dict[str, bytes]:
    """PNG by file name: the paper's figure by both rankings, and the front of removal against loss."""
    drawn = {}
    for group in findings.groups:
        drawn[f"figure-3-{group.request}.png"] = _bars(group, findings.others)
        if findings.categories[group.request].front:
            drawn[f"front-{group.request}.png"] = _front(group, findings.categories[group.request])
    return drawn


def _bars(group: Group, others: Sequence[Record]) -> bytes:
    """HR@k and NDCG@k of all targets, means over seeds, sampled above and full below."""
    rows = compared(group, others)
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    for line, (ending, ranking) in zip(panels, RANKINGS.items(), strict=True):
        for axes, (metric, title) in zip(line, RATIOS.items(), strict=True):
            width = 0.8 / max(len(rows), 1)
            for index, (name, records) in enumerate(rows):
                heights = [_height(records, f"{metric}_{k}{ending}") for k in CUT_OFFS]
                places = [k + (index - (len(rows) - 1) / 2) * width for k in range(len(CUT_OFFS))]
                axes.bar(places, heights, width, label=name)
            axes.set_xticks(range(len(CUT_OFFS)), [f"{title}@{k}" for k in CUT_OFFS])
            axes.set_title(f"{title}, {ranking} ranking")
    panels[0, 0].legend(frameon=False, fontsize=8)
    figure.suptitle(f"Figure 3 by our models: request “{group.request}”, all targets of report users")
    return to_png(figure)


def _height(records: Sequence[Record], metric: str) -> float:
    """Mean of all targets; 0, which is no bar, where a figure was not measured."""
    values = [value for value in figures_of(records, "all_targets", metric) if value is not None]
    return float(np.mean(values)) if values else 0.0


def _front(group: Group, figures: CategoryFigures) -> bytes:
    """Removal against Hit@10 kept elsewhere: neurons by dose, and the methods."""
    figure = Figure(figsize=(8.5, 6), layout="constrained")
    axes = figure.subplots()
    for name, rows in figures.front.items():
        points = [(row["hit_10_kept"], row["removal_rate_10"]) for row in rows]
        axes.plot(*zip(*points, strict=True), marker=".", label=f"neurons, {name} first", linewidth=1)
    for record in group.records:
        kept = record.value("out_of_category", "hit_10_kept")
        removal = record.value("in_category", "removal_rate_10")
        look = style(record.method)
        if kept is None or removal is None or look.role == "raw":
            continue
        label = look.name if record.seed == 0 else None
        axes.plot(kept, removal, look.marker, color=look.colour, markersize=9, markeredgecolor="white", label=label)
    axes.axhline(0, color=INK, linewidth=0.5)
    axes.set(xlabel="Hit@10 kept out of the category (1: as Original)", ylabel="removal rate of the category")
    axes.set_title(f"Removal against loss: request “{group.request}”, test targets of report users")
    axes.legend(frameon=False, fontsize=8)
    return to_png(figure)
