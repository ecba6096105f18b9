"""Figures 6 to 8 of the SRUGA thesis: bars of every model and method, printed beside ours, as PNG."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from srun.judging.styles import model_name, style
from srun.metrics.ranking import mean_and_spread
from srun.papers.drawing import to_png
from srun.papers.printed import printed_rows
from srun.papers.thesis.measured import Measured, Runs, models_of
from srun.papers.thesis.tables import METHODS
from srun.reporting.figures import INK

FIGURES = {
    "figure-6.png": ("test_raw/ndcg_10", "Figure 6: NDCG@10 on D_raw"),
    "figure-7.png": ("forget_report/hit_10", "Figure 7: Hit@10 on D_fgt"),
    "figure-8.png": ("test/recall_10", "Figure 8: Recall@10 on D_rem"),
}
"""File name -> the figure it shows, ours among sampled candidates, and its title."""


def draw(dataset: str, measured: Measured) -> dict[str, bytes]:
    """PNG by file name; none where nothing was measured."""
    models = models_of(measured)
    return {file: _bars(dataset, models, measured, key, title) for file, (key, title) in FIGURES.items() if models}


def _bars(dataset: str, models: Sequence[str], measured: Measured, key: str, title: str) -> bytes:
    figure = Figure(figsize=(2.2 + 2.6 * len(models), 3.9), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / (2 * len(METHODS))
    for place, (method, is_ours) in enumerate((method, is_ours) for method in METHODS for is_ours in (False, True)):
        look, spots = style(method), [index - 0.4 + (place + 0.5) * width for index in range(len(models))]
        if is_ours:
            heights = [_our_height(measured.get((model, method), Runs()), key) for model in models]
            name, colour, hatch = f"{look.name}, ours (100 sampled)", look.colour, None
        else:
            heights = [_printed_height(dataset, model, method, key) for model in models]
            name, colour, hatch = f"{look.name}, printed", "white", "////"
        axes.bar(spots, heights, width * 0.9, color=colour, edgecolor=look.colour, hatch=hatch, label=name)
    axes.set_xticks(range(len(models)), [model_name(model) for model in models])
    axes.set_title(title, fontsize=10.5, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=min(4, 2 * len(models)), frameon=False, fontsize=7.5)
    return to_png(figure)


def _our_height(runs: Runs, key: str) -> float:
    """The mean over seeds; 0, which is no bar, where nothing was run."""
    values = runs.of(f"{key}_sampled")
    return mean_and_spread(values)[0] if values else 0.0


def _printed_height(dataset: str, model: str, method: str, key: str) -> float:
    [row] = printed_rows("thesis-table-4", dataset=dataset, model=model, method=method)
    return float(row[key])
