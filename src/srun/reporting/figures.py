"""The figures, as PNG bytes. They are drawn without pyplot, so nothing global is touched and no display is needed."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from srun.judging.judgement import Across, Band, Comparison, Curve, Judgement, MethodFigures, Point, Series
from srun.judging.styles import ORIGINAL, REFERENCE, Style, method_order, model_name, style
from srun.reporting.summary import title

Place = tuple[float, float]
INK, FAINT = "#222222", "#D9D9D9"
DOTS_PER_INCH = 150


@dataclass(frozen=True)
class Figure:
    """A drawn figure: its file name, what it shows, and the PNG."""

    file: str
    title: str
    caption: str
    png: bytes


def draw(judgement: Judgement) -> list[Figure]:
    """Curves and utility against suppression for every comparison; bars over the models of every request."""
    figures, comparisons = [], judgement.comparisons
    for comparison in comparisons:
        suffix = f"-{comparison.model}-{comparison.request}" if len(comparisons) > 1 else ""
        where = title(comparison)
        drawn, caption = utility_vs_suppression(comparison), _about_suppression(comparison)
        figures.append(
            _figure(drawn, f"utility_vs_suppression{suffix}", f"Utility against suppression: {where}", caption)
        )
        figures.append(_figure(curves(comparison), f"curves{suffix}", f"Curves: {where}", ABOUT["curves"]))
    requests = dict.fromkeys(comparison.request for comparison in comparisons)
    for request in requests:
        members = [comparison for comparison in comparisons if comparison.request == request]
        suffix = f"-{request}" if len(requests) > 1 else ""
        over = f"Utility and suppression by method and model, request “{request}”"
        figures.append(_figure(bars(members), f"bars{suffix}", over, ABOUT["bars"]))
    return figures


ABOUT = {
    "utility_vs_suppression": "Every point is one seed of a method. The band is where a further Retrain would lie: "
    "left of it is over-unlearning, right of it too much is left. Higher is better; further left is not.",
    "without a band": "Every point is one seed of a method. Without Retrain's interval nothing says what is too low. "
    "Higher is better; further left is not.",
    "curves": "Left: training, a line a seed, the marker at the epoch that was kept. Middle and right: unlearning from "
    "epoch 0, which is Original; lines across are the means of Original and Retrain, the band is where a further "
    "Retrain would lie.",
    "bars": "The form of figures 6 to 8 of the SRUGA thesis, by full ranking: means over seeds; a line on a bar is one "
    "standard deviation.",
}


def utility_vs_suppression(comparison: Comparison) -> Canvas:
    """Test NDCG@10 against forget Hit@10, every row a point, Retrain's interval a band."""
    canvas = Canvas(figsize=(7.6, 4.8), layout="constrained")
    axes = canvas.subplots()
    points = {method.method: _places(method.points) for method in comparison.methods if method.points}
    for method, places in points.items():
        _scatter(axes, style(method), places)
    _limits(axes, [place for places in points.values() for place in places])
    _band(axes, comparison.interval)
    axes.set_title(comparison.standing, fontsize=9.5, color=INK, loc="left")
    _label(axes, axes.set_xlabel, "Forgotten events in the top 10: forget_report Hit@10")
    _label(axes, axes.set_ylabel, "Utility: test NDCG@10")
    canvas.draw_without_rendering()  # labels are placed in pixels, which are known only now
    _place_labels(canvas, axes, points)
    return canvas


def curves(comparison: Comparison) -> Canvas:
    """Training, and what unlearning does to utility and to forget hits, by epoch."""
    panels = ("Training", "Unlearning: utility", "Unlearning: suppression")
    canvas = Canvas(figsize=(11.5, 3.9), layout=ConstrainedLayoutEngine(w_pad=0.08))
    axes = canvas.subplots(1, 3)
    keys = ("validation/ndcg_10", "validation/recall_10", "forget_tune/hit_10")
    names = ("validation NDCG@10", "validation Recall@10", "forget_tune Hit@10")
    for panel, about, key, name in zip(axes, panels, keys, names, strict=True):
        training = panel is axes[0]
        for curve in comparison.curves:
            if curve.from_scratch == training and key in curve.series:
                _curve(panel, curve, curve.series[key])
        if not training:
            _across(panel, comparison.across[key])
        panel.set_title(about, fontsize=10.5, color=INK, loc="left")
        _label(panel, panel.set_xlabel, "epoch")
        _label(panel, panel.set_ylabel, name)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _legend(canvas, axes)
    return canvas


def bars(comparisons: Sequence[Comparison]) -> Canvas:
    """Bars by method, grouped by model: NDCG@10, forget Hit@10 and Recall@10 (figures 6 to 8 of the thesis)."""
    panels = (
        ("test", "ndcg_10", "Test NDCG@10"),
        ("forget_report", "hit_10", "Forget Hit@10"),
        ("test", "recall_10", "Test Recall@10"),
    )
    canvas = Canvas(figsize=(11.5, 3.9), layout=ConstrainedLayoutEngine(w_pad=0.08))
    axes = canvas.subplots(1, 3)
    methods = sorted({m.method for comparison in comparisons for m in comparison.methods}, key=method_order)
    for panel, (split, metric, about) in zip(axes, panels, strict=True):
        for index, method in enumerate(methods):
            shift = 0.8 * ((index + 0.5) / len(methods) - 0.5)
            for place, comparison in enumerate(comparisons):
                figures = comparison.method(method)
                if figures is not None:
                    _bar(panel, figures, split, metric, place + shift, 0.8 / len(methods), len(comparisons))
        panel.set_xticks(range(len(comparisons)), [model_name(comparison.model) for comparison in comparisons])
        panel.set_xlim(-0.55, len(comparisons) - 0.45)
        panel.set_title(about, fontsize=10.5, color=INK, loc="left")
        panel.margins(y=0.14)
        _plain(panel)
    _legend(canvas, axes)
    return canvas


def _about_suppression(comparison: Comparison) -> str:
    caption = ABOUT["without a band" if comparison.interval is None else "utility_vs_suppression"]
    return f"{caption} Verdicts: {comparison.headline}."


def _figure(canvas: Canvas, name: str, about: str, caption: str) -> Figure:
    out = io.BytesIO()
    canvas.savefig(out, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    return Figure(re.sub(r"[^\w.-]", "_", name) + ".png", about, caption, out.getvalue())


def _places(points: Sequence[Point]) -> list[Place]:
    return [(point.suppression, point.utility) for point in points]


def _scatter(axes: Axes, look: Style, points: Sequence[Place]) -> None:
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


def _limits(axes: Axes, points: Sequence[Place]) -> None:
    """Room around all points; suppression starts at 0, which is where a mask ends up."""
    if not points:
        return
    xs, ys = zip(*points, strict=True)
    right = max(*xs, 1e-3) * 1.12
    margin = max(0.22 * (max(ys) - min(ys)), 0.02 * max(ys), 1e-4)
    axes.set_xlim(-0.06 * right, right)
    axes.set_ylim(min(ys) - margin, max(ys) + 1.6 * margin)  # more above: the band is named there


def _band(axes: Axes, interval: Band | None) -> None:
    _plain(axes)
    if interval is None:
        return
    mean, bound = interval.mean, interval.bound
    blue = style(REFERENCE).colour
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


def _place_labels(canvas: Canvas, axes: Axes, points: Mapping[str, Sequence[Place]]) -> None:
    """Name each method beside its points, at the nearest place where no other name or point is."""
    pixels = {method: [tuple(axes.transData.transform(place)) for place in places] for method, places in points.items()}
    points_to_pixels = canvas.dpi / 72
    around = 5 * points_to_pixels
    dots = [
        Bbox.from_extents(x - around, y - around, x + around, y + around) for own in pixels.values() for x, y in own
    ]
    dots += [band.get_window_extent() for band in axes.patches]  # a name on Retrain's band reads as Retrain's
    inside, taken = axes.get_window_extent(), [text.get_window_extent() for text in axes.texts]
    for method, own in pixels.items():
        label = axes.annotate(style(method).name, (0, 0), xycoords="figure pixels", fontsize=9, color=INK, zorder=4)
        size = label.get_window_extent()
        boxes = [_box_at(dot, place, size, points_to_pixels) for place in PLACES for dot in own]
        best = min(boxes, key=lambda box: _clashes(box, inside, taken, dots))
        taken.append(best)
        x, y = axes.transAxes.inverted().transform((best.x0, best.y0))  # keeps its place at any resolution
        label.remove()
        axes.text(x, y, style(method).name, transform=axes.transAxes, fontsize=9, color=INK, zorder=4)


def _box_at(dot: Place, place: tuple[int, int, int], size: Bbox, scale: float) -> Bbox:
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


def _curve(axes: Axes, curve: Curve, series: Series) -> None:
    look = style(curve.method)
    axes.plot(
        series.epochs,
        series.values,
        "--" if look.role in ("control", "original") else "-",
        color=look.colour,
        lw=1.6,
        label=look.name,
        marker=look.marker,
        markersize=6.5,
        markevery=[series.kept],
        alpha=0.8 if curve.from_scratch else 1.0,
    )


def _across(axes: Axes, across: Across) -> None:
    for method, mean, dash in ((ORIGINAL, across.original, ":"), (REFERENCE, across.retrain, "-")):
        if mean is not None:
            look = style(method)
            axes.axhline(mean, color=look.colour, ls=dash, lw=1.3, label=f"{look.name}'s mean", zorder=1)
    if across.interval is not None:
        blue = style(REFERENCE).colour
        axes.axhspan(across.interval.low, across.interval.high, color=blue, alpha=0.14, lw=0, zorder=0)


def _bar(axes: Axes, method: MethodFigures, split: str, metric: str, x: float, width: float, num_groups: int) -> None:
    """One method's bar at ``x``, with its number where there is room for all."""
    look, estimate = style(method.method), method.figure(split, metric)
    if estimate is None or estimate.mean is None:
        return
    control = look.role == "control"
    axes.bar(
        x,
        estimate.mean,
        width * 0.9,
        color="white" if control else look.colour,
        edgecolor=look.colour,
        lw=1.4,
        label=look.name,
        hatch="////" if control else None,
        yerr=estimate.spread,
        capsize=3,
        ecolor=INK,
    )
    if num_groups * 0.8 / width <= 8:  # more numbers would run into each other
        top = x, estimate.mean + (estimate.spread or 0)
        number = f"{estimate.mean:.3f}"
        axes.annotate(number, top, (0, 3), textcoords="offset points", ha="center", fontsize=8, color=INK)


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
