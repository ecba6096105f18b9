"""The picture of `srun neurons`, as PNG bytes, from the study it prints."""

import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

LAYERS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito
DOTS_PER_INCH = 150


def draw_neurons(study: Mapping[str, Any]) -> bytes:
    """Attributions by layer and unit, dose and response, and the two matrices of categories."""
    canvas = Canvas(figsize=(13, 10.5), layout="constrained")
    axes = canvas.subplots(2, 2)
    _attributions(axes[0, 0], study)
    _dose(axes[0, 1], study["dose"])
    _matrix(axes[1, 0], study["overlap"], "Share of the row's neurons that the column has too", "Blues", (0.0, 1.0))
    title = "Loss of Hit@10 in the column when the row's neurons are scaled"
    _matrix(axes[1, 1], study["collateral_loss"], title, "RdBu_r", (-0.5, 0.5))
    names = ", ".join(study["categories"])
    canvas.suptitle(f"Neurons of {names} in {study['original']} (users of the find part, validation targets)")
    png = io.BytesIO()
    canvas.savefig(png, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return png.getvalue()


def _attributions(axes: Axes, study: Mapping[str, Any]) -> None:
    lines = ("-", "--", ":", "-.")
    for index, (category, mean) in enumerate(study["mean_attribution"].items()):
        for layer, values in enumerate(mean):
            colour, line = LAYERS[layer % len(LAYERS)], lines[index % len(lines)]
            axes.plot(sorted(values, reverse=True), line, color=colour, label=f"{category}, layer {layer}")
    axes.set(xlabel="unit, by rank in its layer", ylabel="mean attribution", title="Attributions by layer")
    axes.legend(frameon=False)


def _dose(axes: Axes, rows: list[dict[str, float]]) -> None:
    doses = [row["num_neurons"] for row in rows]
    for key, label, colour in (
        ("removal_rate_10", "removal rate, Hit@10", LAYERS[1]),
        ("list_removal_rate_10", "removed from top 10 lists", LAYERS[3]),
        ("hit_10_kept", "Hit@10 kept, other targets", LAYERS[0]),
        ("ndcg_10_kept", "NDCG@10 kept, other targets", LAYERS[2]),
    ):
        axes.plot(doses, _numbers(row[key] for row in rows), marker="o", color=colour, label=label)
    axes.set(xlabel="neurons, the most shared first", ylabel="share", title="Dose and response")
    axes.axhline(0, color="#D9D9D9", zorder=0)
    axes.legend(frameon=False)


def _matrix(
    axes: Axes, table: Mapping[str, Mapping[str, float]], title: str, colours: str, limits: tuple[float, float]
) -> None:
    names = list(table)
    values = [_numbers(table[row][column] for column in names) for row in names]
    image = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1])
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_title(title, fontsize=10)
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


def _numbers(values: Iterable[float | None]) -> list[float]:
    """What is not known is left white."""
    return [math.nan if value is None else value for value in values]
