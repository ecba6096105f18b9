"""reports/pareto/<study>: tables, a PNG, and a page that opens from disk and lets a trial be chosen."""

import base64
import csv
import io
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srun.files import write_bytes, write_text
from srun.judging.styles import REFERENCE, model_name, style
from srun.judging.trials import Beside, Mark, Reference
from srun.judging.verdict import OVER
from srun.reporting.texts import NONE
from srun.search.results import StudyResult, TrialResult
from srun.tables import harmless

INK, FAINT, TRIAL, FRONT, WARN = "#222222", "#D9D9D9", "#9AA5B1", "#D55E00", "#A33B00"
REPORTED_KEYS = ("test/ndcg_10", "test/recall_10", "forget_report/hit_10", "never_seen_report/hit_10")


@dataclass(frozen=True)
class Again:
    """What the commands shown need, so that they do the same again."""

    storage: str | None
    """Where it is not the study's own journal."""
    options: Sequence[str]
    """What was laid over params.yaml beside the settings that are searched."""
    presets: Mapping[int, str]
    """By complete trial: the file with all its settings."""


def write_report(
    folder: Path,
    study: StudyResult,
    importances: Sequence[Mapping[str, float]],
    beside: Beside,
    again: Again,
) -> None:
    """Write everything of a study: tables, PNGs and the page."""
    write_text(folder / "trials.csv", _csv(trial_rows(study)))
    front = {trial.number for trial in study.front}
    write_text(folder / "front.csv", _csv([row for row in trial_rows(study) if row["trial"] in front]))
    volumes = [
        {"finished": index + 1, "trial": trial.number, "seconds": round(trial.finished, 1), "hypervolume": volume}
        for index, (trial, volume) in enumerate(zip(study.feasible, study.hypervolumes, strict=True))
    ]
    write_text(folder / "hypervolume.csv", _csv(volumes))
    keys = [objective.key for objective in study.goal.objectives]
    shares = [
        {"objective": key, "parameter": name, "share": share}
        for key, of_objective in zip(keys, importances, strict=True)
        for name, share in of_objective.items()
    ]
    write_text(folder / "importances.csv", _csv(shares))
    front_png, progress_png = _png(_draw_front(study, beside)), _png(_draw_progress(study, importances))
    write_bytes(folder / "front.png", front_png)
    write_bytes(folder / "progress.png", progress_png)
    write_text(folder / "index.html", _page(study, beside, again, progress_png))


def trial_rows(study: StudyResult) -> list[dict[str, Any]]:
    """A row a trial: state, objectives, constraints, overrides, times and every other figure."""
    front = {trial.number for trial in study.front}
    keys = [objective.key for objective in study.goal.objectives]
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.overrides))
    limits = [constraint.text for constraint in study.goal.constraints]
    others = list(dict.fromkeys(key for trial in study.trials for key in trial.figures if key not in keys))
    return [
        {
            "trial": trial.number,
            "state": trial.state,
            "own_settings": trial.own_settings,
            "front": trial.number in front,
            **{key: trial.figures.get(key) for key in keys},
            **{f"violation of {text}": trial.violations.get(text) for text in limits},
            **{name: trial.overrides.get(name) for name in names},
            "seconds": trial.seconds,
            "search_seconds": trial.search_seconds,
            "finished": trial.finished,
            **{key: trial.figures.get(key) for key in others if key != "epoch"},
        }
        for trial in study.trials
    ]


def commands(study: StudyResult, trial: TrialResult, again: Again) -> dict[str, str]:
    """How to publish a trial, and how to run it again by hand: with all of its settings, searched or not."""
    cell = {key: str(value) for key, value in study.about["cell"].items()}
    storage = [] if again.storage is None else ["--storage", again.storage]
    selectors = [word for key in ("request", "original", "method", "seed") for word in (f"--{key}", cell[key])]
    applied = ["--study", study.name, "--trial", str(trial.number), *storage, *again.options]
    return {
        "apply": shlex.join(["srun", "optimize", "apply", *applied]),
        "unlearn": shlex.join(["srun", "unlearn", *selectors, *again.options, "--params", again.presets[trial.number]]),
    }


def axes_of(study: StudyResult) -> tuple[str | None, str]:
    """Keys across and up: the second and the first objective; a single one goes over the trials."""
    keys = [objective.key for objective in study.goal.objectives]
    return (keys[1] if len(keys) > 1 else None), keys[0]


def _page(study: StudyResult, beside: Beside, again: Again, progress: bytes) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("srun.reporting").joinpath("pareto.html").read_text(encoding="utf-8"))
    data = json.dumps(_data(study, beside, again), allow_nan=False).replace("<", "\\u003c")
    about = study.about
    states: dict[str, int] = {}
    for trial in study.trials:
        states[trial.state] = states.get(trial.state, 0) + 1
    return template.render(
        study=study,
        title=f"{style(about['cell']['method']).name} on {model_name(about['model'])}, {about['dataset']}",
        data=Markup(data),
        progress=base64.b64encode(progress).decode("ascii"),
        states=", ".join(f"{number} {state}" for state, number in states.items()),
        objectives=[
            f"{objective.direction} {objective.key} (reference point {objective.reference:.4g})"
            for objective in study.goal.objectives
        ],
        volume=study.hypervolumes[-1] if study.feasible else 0.0,
        reported=[
            (_name(mark), [*_cells(mark), verdict])
            for mark, verdict in zip(beside.marks, beside.verdicts, strict=True)
            if any(key in mark.figures for key in REPORTED_KEYS)
        ],
        reported_keys=[*REPORTED_KEYS, "hits beside Retrain's"],
        note=beside.across.note,
        space=about["space"],
    )


def _data(study: StudyResult, beside: Beside, again: Again) -> dict[str, Any]:
    """What the page's script draws; a figure that is no number is null."""
    x, y = axes_of(study)
    front = {trial.number for trial in study.front}
    points = [
        {
            "trial": trial.number,
            "x": trial.number if x is None else trial.figures[x],
            "y": trial.figures[y],
            "front": trial.number in front,
            "feasible": trial.feasible,
            "own_settings": trial.own_settings,
            "overrides": {key.rpartition(".")[2]: value for key, value in trial.overrides.items()},
            "figures": {key: value if math.isfinite(value) else None for key, value in trial.figures.items()},
            "commands": commands(study, trial, again),
        }
        for trial in study.trials
        if trial.state == "complete"
    ]
    others = [
        {"name": _name(mark), "colour": style(mark.method).colour, "x": place[0], "y": place[1]}
        for mark, place in _places(study, beside)
    ]
    across = beside.across
    return {
        "x": x or "trial",
        "y": y,
        "points": points,
        "marks": others,
        "level": across.level,
        "line_name": across.line,
        "over_name": OVER,
        "interval": None if across.interval is None else [across.interval.low, across.interval.high],
        "line": x is not None and len(study.goal.objectives) == 2,
    }


def _draw_front(study: StudyResult, beside: Beside) -> Figure:
    canvas = Figure(figsize=(7.6, 4.8), layout="constrained")
    axes = canvas.subplots()
    x, y = axes_of(study)
    _draw_reference(axes, beside.across)
    complete = [trial for trial in study.trials if trial.state == "complete"]
    place = {trial.number: (trial.number if x is None else trial.figures[x], trial.figures[y]) for trial in complete}
    _draw_trials(axes, study, place)
    places = _places(study, beside)
    _draw_marks(axes, places)
    across = [point[0] for point in place.values()] + [point[0] for _, point in places]
    if across:
        margin = 0.06 * (max(across) - min(across)) or 0.01
        across += [] if beside.across.level is None else [beside.across.level]
        axes.set_xlim(min(across) - margin, max(across) + margin)
    _plain(axes)
    axes.set_xlabel(x or "trial", fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)
    axes.legend(fontsize=8.5, frameon=False, loc="best")
    return canvas


def _draw_reference(axes: Axes, across: Reference) -> None:
    if across.level is not None:
        axes.axvline(across.level, color=INK, lw=1, ls="--", zorder=1, label=across.line)
    if across.interval is not None:
        low, high, blue = across.interval.low, across.interval.high, style(REFERENCE).colour
        axes.axvspan(low, high, color=blue, alpha=0.14, lw=0, zorder=0, label="Retrain's interval")
        axes.axvspan(-1, low, color=WARN, alpha=0.07, lw=0, zorder=0, label=f"below it: {OVER}")
    axes.set_title(across.note, fontsize=9.5, color=INK, loc="left")


def _draw_trials(axes: Axes, study: StudyResult, place: Mapping[int, tuple[float, float]]) -> None:
    """Complete trials at their places: the front as a line, the own settings as a star."""
    front = {trial.number for trial in study.front}
    rest = [point for number, point in place.items() if number not in front]
    if rest:
        xs, ys = zip(*rest, strict=True)
        axes.scatter(xs, ys, s=22, color=TRIAL, lw=0, zorder=2, label="trials")
    best = sorted(place[number] for number in front)
    if best:
        line = "-" if len(study.goal.objectives) == 2 else ""
        axes.plot(*zip(*best, strict=True), marker="o", ls=line, color=FRONT, lw=1.4, zorder=3, label="front")
    for trial in study.trials:
        if trial.own_settings and trial.number in place:
            axes.scatter(*place[trial.number], marker="*", s=190, color=INK, zorder=5, label="own settings")


def _draw_marks(axes: Axes, places: Sequence[tuple[Mark, tuple[float, float]]]) -> None:
    """Rows of other methods, each name once in the legend."""
    named: set[str] = set()
    for mark, point in places:
        look = style(mark.method)
        label = None if look.name in named else look.name
        named.add(look.name)
        axes.scatter(*point, marker=look.marker, s=70, color=look.colour, edgecolors="white", zorder=4, label=label)


def _draw_progress(study: StudyResult, importances: Sequence[Mapping[str, float]]) -> Figure:
    canvas = Figure(figsize=(11.5, 3.6), layout="constrained")
    left, *panels = canvas.subplots(1, 1 + len(importances))
    if study.feasible:
        left.step(range(1, len(study.feasible) + 1), study.hypervolumes, where="post", color=FRONT)
    left.set_title("Hypervolume after each trial", fontsize=10.5, loc="left", color=INK)
    left.set_xlabel("trials", fontsize=9.5, color=INK)
    _plain(left)
    for panel, objective, shares in zip(panels, study.goal.objectives, importances, strict=True):
        shown = sorted(shares.items(), key=lambda pair: pair[1])[-8:]
        panel.barh([name.partition(".")[2].partition(".")[2] for name, _ in shown], [share for _, share in shown])
        panel.set_title(f"What moved {objective.key}", fontsize=10.5, loc="left", color=INK)
        _plain(panel)
    return canvas


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors="#444444", labelsize=8.5)
    axes.grid(axis="y", color=FAINT, lw=0.6, zorder=0)
    axes.set_axisbelow(True)


def _png(canvas: Figure) -> bytes:
    out = io.BytesIO()
    canvas.savefig(out, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return out.getvalue()


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    if rows:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(harmless(name) for name in rows[0])
        writer.writerows([_text(value) for value in row.values()] for row in rows)
    return out.getvalue()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.8g}" if isinstance(value, float) else str(harmless(value))


def _places(study: StudyResult, beside: Beside) -> list[tuple[Mark, tuple[float, float]]]:
    """Rows that are drawn beside the trials, and where: those that have both figures.

    An applied trial is a point already, and the searched method's own row is trial 0.
    """
    x, y = axes_of(study)
    own = study.about["cell"]["method"]
    places = []
    for mark in beside.marks:
        point = mark.figures.get(x or "", math.nan), mark.figures.get(y, math.nan)
        if mark.trial is None and mark.method != own and all(map(math.isfinite, point)):
            places.append((mark, point))
    return places


def _name(mark: Mark) -> str:
    return f"{style(mark.method).name} {mark.seed}" if mark.trial is None else f"Trial {mark.trial}, applied"


def _cells(mark: Mark) -> list[str]:
    values = [mark.figures.get(key, math.nan) for key in REPORTED_KEYS]
    return [f"{value:.4f}" if math.isfinite(value) else NONE for value in values]
