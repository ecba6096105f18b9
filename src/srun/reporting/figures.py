"""The figures, as PNG bytes. They are drawn without pyplot, so nothing global is touched and no display is needed."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from srun.judging.methods import Style, method_order, model_name, style
from srun.judging.records import KINDS, METRIC, SPLIT, Group, History
from srun.judging.verdict import headline, standing
from srun.metrics.forgetting import Interval
from srun.metrics.ranking import mean_and_spread

Point = tuple[float, float]
INK, FAINT = "#222222", "#D9D9D9"
DOTS_PER_INCH = 150


@dataclass(frozen=True)
class Figure:
    """A drawn figure: its file name, what it shows, and the PNG."""

    file: str
    title: str
    caption: str
    png: bytes


def draw(groups: Sequence[Group]) -> list[Figure]:
    """Curves and utility against suppression for every group; bars over the models of every request."""
    figures = []
    for group in groups:
        suffix = f"-{group.model}-{group.request}" if len(groups) > 1 else ""
        for make in (utility_vs_suppression, curves):
            figures.append(_figure(make(group), make.__name__ + suffix, *_about(make, group)))
    requests = dict.fromkeys(group.request for group in groups)
    for request in requests:
        members = [group for group in groups if group.request == request]
        suffix = f"-{request}" if len(requests) > 1 else ""
        title = f"Utility and suppression by method and model, request “{request}”"
        figures.append(_figure(bars(members), f"bars{suffix}", title, ABOUT["bars"]))
    return figures


ABOUT = {
    "utility_vs_suppression": "Every point is one seed of a method. The band is where a further Retrain would lie: "
    "left of it is over-unlearning, right of it too much is left. Higher is better; further left is not.",
    "without a band": "Every point is one seed of a method. Without Retrain's interval nothing says what is too low. "
    "Higher is better; further left is not.",
    "curves": "Left: training, a line a seed, the marker at the epoch that was kept. Middle and right: unlearning from "
    "epoch 0, which is Original; lines across are the levels of Original and Retrain, the band is where a further "
    "Retrain would lie.",
    "bars": "The form of figures 6 to 8 of the SRUGA thesis, by full ranking: means over seeds; a line on a bar is one "
    "standard deviation.",
}


def utility_vs_suppression(group: Group) -> Canvas:
    """Test NDCG@10 against forget Hit@10, every row a point, Retrain's interval a band."""
    canvas = Canvas(figsize=(7.6, 4.8), layout="constrained")
    axes = canvas.subplots()
    points = {method: _points(group, method) for method in group.methods}
    points = {method: found for method, found in points.items() if found}
    for method, found in points.items():
        _scatter(axes, style(method), found)
    _limits(axes, [point for found in points.values() for point in found])
    _band(axes, group)
    axes.set_title(standing(group), fontsize=9.5, color=INK, loc="left")
    _label(axes, axes.set_xlabel, "Forgotten events in the top 10: forget_report Hit@10")
    _label(axes, axes.set_ylabel, "Utility: test NDCG@10")
    canvas.draw_without_rendering()  # labels are placed in pixels, which are known only now
    _place_labels(canvas, axes, points)
    return canvas


def curves(group: Group) -> Canvas:
    """Training, and what unlearning does to utility and to forget hits, by epoch."""
    panels = ("Training", "Unlearning: utility", "Unlearning: suppression")
    canvas = Canvas(figsize=(11.5, 3.9), layout=ConstrainedLayoutEngine(w_pad=0.08))
    axes = canvas.subplots(1, 3)
    keys = ("validation/ndcg_10", "validation/recall_10", "forget_tune/hit_10")
    names = ("validation NDCG@10", "validation Recall@10", "forget_tune Hit@10")
    trained, unlearned = _histories(group)
    for panel, title, key, name in zip(axes, panels, keys, names, strict=True):
        training = panel is axes[0]
        for method, history in trained if training else unlearned:
            _curve(panel, style(method), history, key, training)
        if not training:
            _levels(panel, group, *key.split("/"))
        panel.set_title(title, fontsize=10.5, color=INK, loc="left")
        _label(panel, panel.set_xlabel, "epoch")
        _label(panel, panel.set_ylabel, name)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _legend(canvas, axes)
    return canvas


def bars(groups: Sequence[Group]) -> Canvas:
    """Bars by method, grouped by model: NDCG@10, forget Hit@10 and Recall@10 (figures 6 to 8 of the thesis)."""
    panels = (
        ("test", "ndcg_10", "Test NDCG@10"),
        (SPLIT, METRIC, "Forget Hit@10"),
        ("test", "recall_10", "Test Recall@10"),
    )
    canvas = Canvas(figsize=(11.5, 3.9), layout=ConstrainedLayoutEngine(w_pad=0.08))
    axes = canvas.subplots(1, 3)
    methods = sorted({method for group in groups for method in group.methods}, key=method_order)
    for panel, (split, metric, title) in zip(axes, panels, strict=True):
        for index, method in enumerate(methods):
            _bars(panel, groups, method, (split, metric), (index + 0.5) / len(methods) - 0.5)
        panel.set_xticks(range(len(groups)), [model_name(group.model) for group in groups])
        panel.set_xlim(-0.55, len(groups) - 0.45)
        panel.set_title(title, fontsize=10.5, color=INK, loc="left")
        panel.margins(y=0.14)
        _plain(panel)
    _legend(canvas, axes)
    return canvas


def _about(make: Callable[[Group], Canvas], group: Group) -> tuple[str, str]:
    titles = {"utility_vs_suppression": "Utility against suppression", "curves": "Curves"}
    where = f"{model_name(group.model)}, request “{group.request}”"
    banded = _interval(group) is not None
    caption = ABOUT[make.__name__] if banded or make is curves else ABOUT["without a band"]
    if make is utility_vs_suppression:
        caption += f" Verdicts: {headline(group)}."
    return f"{titles[make.__name__]}: {where}", caption


def _figure(canvas: Canvas, name: str, title: str, caption: str) -> Figure:
    out = io.BytesIO()
    canvas.savefig(out, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    return Figure(re.sub(r"[^\w.-]", "_", name) + ".png", title, caption, out.getvalue())


def _points(group: Group, method: str) -> list[Point]:
    pairs = ((row.value(SPLIT, METRIC), row.value("test", "ndcg_10")) for row in group.of(method))
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _scatter(axes: Axes, look: Style, points: Sequence[Point]) -> None:
    hollow = look.role == "control"  # a control is seen to be one without reading its name
    xs, ys = zip(*points, strict=True)
    axes.scatter(
        xs,
        ys,
        marker=look.marker,
        s=75,
        zorder=3,
        facecolors="white" if hollow else look.colour,
        edgecolors=look.colour if hollow else "white",
        linewidths=1.8 if hollow else 0.9,
    )


def _limits(axes: Axes, points: Sequence[Point]) -> None:
    """Room around all points; suppression starts at 0, which is where a mask ends up."""
    if not points:
        return
    xs, ys = zip(*points, strict=True)
    right = max(*xs, 1e-3) * 1.12
    margin = max(0.22 * (max(ys) - min(ys)), 0.02 * max(ys), 1e-4)
    axes.set_xlim(-0.06 * right, right)
    axes.set_ylim(min(ys) - margin, max(ys) + 1.6 * margin)  # more above: the band is named there


def _band(axes: Axes, group: Group) -> None:
    _plain(axes)
    interval = _interval(group)
    if interval is None:
        return
    mean, bound = interval.mean, interval.bound
    blue = style("retrain").colour
    axes.axvspan(mean - bound, mean + bound, color=blue, alpha=0.16, lw=0, zorder=0)
    axes.axvline(mean, color=blue, lw=1, alpha=0.7, zorder=1)
    text: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "va": "top", "fontsize": 8.5}
    side = "right" if mean > sum(axes.get_xlim()) / 2 else "left"
    sign = -1 if side == "right" else 1
    shift = 0.012 * (axes.get_xlim()[1] - axes.get_xlim()[0])
    axes.text(mean + sign * (bound + shift), 0.98, "Retrain's interval", color=blue, ha=side, **text)
    if mean - bound > 0.3 * axes.get_xlim()[1]:
        axes.text(
            mean - bound - shift, 0.02, "← over-unlearning", color="#A33B00", ha="right", **text | {"va": "bottom"}
        )


def _interval(group: Group) -> Interval | None:
    """Retrain's interval; None with too few Retrains and for a category, which is not judged by it."""
    return Interval.of(group.values("retrain", SPLIT, METRIC)) if group.first.kind in KINDS else None


def _place_labels(canvas: Canvas, axes: Axes, points: dict[str, list[Point]]) -> None:
    """Name each method beside its points, at the nearest place where no other name or point is."""
    pixels = {method: [tuple(axes.transData.transform(point)) for point in found] for method, found in points.items()}
    points_to_pixels = canvas.dpi / 72
    around = 5 * points_to_pixels
    dots = [
        Bbox.from_extents(x - around, y - around, x + around, y + around) for found in pixels.values() for x, y in found
    ]
    dots += [band.get_window_extent() for band in axes.patches]  # a name on Retrain's band reads as Retrain's
    inside, taken = axes.get_window_extent(), [text.get_window_extent() for text in axes.texts]
    for method, found in pixels.items():
        label = axes.annotate(style(method).name, (0, 0), xycoords="figure pixels", fontsize=9, color=INK, zorder=4)
        size = label.get_window_extent()
        boxes = [_box_at(dot, place, size, points_to_pixels) for place in PLACES for dot in found]
        best = min(boxes, key=lambda box: _clashes(box, inside, taken, dots))
        taken.append(best)
        x, y = axes.transAxes.inverted().transform((best.x0, best.y0))  # keeps its place at any resolution
        label.remove()
        axes.text(x, y, style(method).name, transform=axes.transAxes, fontsize=9, color=INK, zorder=4)


def _box_at(dot: Point, place: tuple[int, int, int], size: Bbox, scale: float) -> Bbox:
    """The box of a text of some size beside a dot; all in pixels, the place's distance in points."""
    distance, right, up = place
    x = dot[0] + right * distance * scale + (right - 1) / 2 * size.width
    y = dot[1] + up * distance * scale + (up - 1) / 2 * size.height
    return Bbox.from_bounds(x, y, size.width, size.height)


def _clashes(box: Bbox, inside: Bbox, taken: Sequence[Bbox], dots: Sequence[Bbox]) -> int:
    """How bad a place for a name is: outside the axes is worst, then another name, then a point."""
    outside = not (inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1))
    return 10 * outside + 3 * sum(box.overlaps(other) for other in taken) + sum(box.overlaps(dot) for dot in dots)


PLACES = [
    (distance, right, up)
    for distance in (7, 14, 24, 36)
    for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
]
"""Where a name may stand: its distance from the dot in points, to the right (-1: left), up (-1: down)."""


def _histories(group: Group) -> tuple[list[tuple[str, History]], list[tuple[str, History]]]:
    """(method, history) of what was trained from scratch, and of what started from Original."""
    found = [("original", trained.history) for trained in group.originals]
    found += [(record.method, record.history) for record in group.records]
    # a shard validates on its own users, so its curve cannot stand beside the others
    found = [(method, history) for method, history in found if not any("shard" in row for row in history)]
    scratch = [any(name.startswith("train/") for row in history for name in row) for _, history in found]
    trained = [pair for pair, from_scratch in zip(found, scratch, strict=True) if from_scratch]
    return trained, [pair for pair, from_scratch in zip(found, scratch, strict=True) if not from_scratch]


def _curve(axes: Axes, look: Style, history: History, key: str, training: bool) -> None:
    points = [(row["epoch"], row[key]) for row in history if key in row]
    if not points:
        return
    best = max(range(len(points)), key=lambda index: points[index][1])
    kept = best if training else len(points) - 1  # early stop returns the best epoch, unlearning the last
    epochs, values = zip(*points, strict=True)
    axes.plot(
        epochs,
        values,
        "--" if look.role in ("control", "original") else "-",
        color=look.colour,
        lw=1.6,
        label=look.name,
        marker=look.marker,
        markersize=6.5,
        markevery=[kept],
        alpha=0.8 if training else 1.0,
    )


def _levels(axes: Axes, group: Group, split: str, metric: str) -> None:
    for method, dash in (("original", ":"), ("retrain", "-")):
        values = group.values(method, split, metric)
        if not values:
            continue
        mean = mean_and_spread(values)[0]
        axes.axhline(mean, color=style(method).colour, ls=dash, lw=1.3, label=f"{style(method).name}'s level", zorder=1)
        interval = Interval.of(values) if method == "retrain" else None
        if interval is not None:
            axes.axhspan(interval.low, interval.high, color=style(method).colour, alpha=0.14, lw=0, zorder=0)


def _bars(axes: Axes, groups: Sequence[Group], method: str, what: tuple[str, str], shift: float) -> None:
    look = style(method)
    width = 0.8 / len({name for group in groups for name in group.methods})
    for index, group in enumerate(groups):
        values = group.values(method, *what)
        if not values:
            continue
        mean, spread = mean_and_spread(values)
        error = None if len(values) < 2 else spread
        fill = "white" if look.role == "control" else look.colour
        axes.bar(
            index + 0.8 * shift,
            mean,
            width * 0.9,
            color=fill,
            edgecolor=look.colour,
            lw=1.4,
            label=look.name,
            hatch="////" if look.role == "control" else None,
            yerr=error,
            capsize=3,
            ecolor=INK,
        )
        if len(groups) * 0.8 / width <= 8:  # more numbers would run into each other
            top = mean + (error or 0)
            axes.annotate(
                f"{mean:.3f}",
                (index + 0.8 * shift, top),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=INK,
            )


def _legend(canvas: Canvas, axes: Sequence[Axes]) -> None:
    """One legend for all panels, each name once."""
    named: dict[str, Any] = {}
    for panel in axes:
        _plain(panel)
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    canvas.legend(
        named.values(), named.keys(), loc="outside lower center", ncols=min(len(named), 8), frameon=False, fontsize=9
    )


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(colors="#444444", labelsize=8.5)
    axes.grid(axis="y", color=FAINT, lw=0.6, zorder=0)
    axes.set_axisbelow(True)


def _label(axes: Axes, put: Callable[..., Any], text: str) -> None:
    put(text, fontsize=9.5, color=INK)
