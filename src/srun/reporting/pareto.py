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

from srun.errors import RunError
from srun.files import write_text
from srun.judging.methods import model_name, style
from srun.judging.records import KINDS, METRIC, SPLIT
from srun.judging.verdict import ORIGINAL_TOO, OVER, PLACES, STAND_IN, provisional, retrains_text
from srun.metrics.forgetting import Interval
from srun.search.results import Mark, StudyResult, TrialResult
from srun.tables import harmless

INK, FAINT, TRIAL, FRONT, WARN = "#222222", "#D9D9D9", "#9AA5B1", "#D55E00", "#A33B00"
PUBLISHED_KEYS = ("test/ndcg_10", "test/recall_10", "forget_report/hit_10", "never_seen_report/hit_10")
FORGET = "forget_tune/hit_10"


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
    marks: Sequence[Mark],
    again: Again,
) -> None:
    """Write everything of a study."""
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
        for key, found in zip(keys, importances, strict=True)
        for name, share in found.items()
    ]
    write_text(folder / "importances.csv", _csv(shares))
    front_png, progress_png = _png(_draw_front(study, marks)), _png(_draw_progress(study, importances))
    try:
        (folder / "front.png").write_bytes(front_png)
        (folder / "progress.png").write_bytes(progress_png)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror or error})") from error
    write_text(folder / "index.html", _page(study, marks, again, progress_png))


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
            "published": trial.published,
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


@dataclass(frozen=True)
class Reference:
    """What trials are held against across: Retrain's interval, or the level of never-seen events that stands in."""

    level: float | None
    """Hit@10 of comparable never-seen events under Original; None where something else goes across."""
    interval: Interval | None
    """Of the Retrains' tune hits; None with too few of them."""
    blind: str
    """Why nothing can be told by it; empty where it can."""
    few: str = ""
    """That there are few Retrains."""

    @property
    def note(self) -> str:
        """What limits any verdict by it."""
        return ", ".join(text for text in (self.blind, self.few) if text)

    @property
    def line(self) -> str:
        """What the level is called."""
        return "never-seen events" if self.interval else STAND_IN


def reference(study: StudyResult, marks: Sequence[Mark], key: str | None = FORGET) -> Reference:
    """What a study's trials are held against by ``key``, forget hits of tune or report data."""
    level = study.about["level"].get(key)
    if key not in (FORGET, f"{SPLIT}/{METRIC}") or study.about["request"]["request"]["kind"] not in KINDS:
        return Reference(None, None, "")
    found = {name: [m.figures[key] for m in _of(marks, name) if key in m.figures] for name in ("original", "retrain")}
    interval = Interval.of(found["retrain"])
    if interval is None:
        return Reference(level, None, f"not judged: {retrains_text(len(found['retrain']))}")
    blind = not found["original"] or any(interval.place(value) != "above" for value in found["original"])
    too = ORIGINAL_TOO if found["original"] else "Original was not evaluated"
    said = f"hits alone cannot tell: {too}" if blind else ""
    return Reference(level, interval, said, provisional(len(found["retrain"])))


def _of(marks: Sequence[Mark], method: str) -> list[Mark]:
    return [mark for mark in marks if mark.method == method and mark.trial is None]


def _hits_text(mark: Mark, found: Reference) -> str:
    """What the published forget hits of a row say beside Retrain's; ranks, without which nothing passes, are apart."""
    value = mark.figures.get(f"{SPLIT}/{METRIC}")
    if mark.method == "retrain":
        return "the reference"
    if value is None or found.interval is None:
        return found.blind or "–"
    place = found.interval.place(value)
    told = place == "below" or not found.blind or mark.method == "original"
    return (PLACES[place] if told else found.blind) + (f" ({found.few})" if found.few else "")


def _page(study: StudyResult, marks: Sequence[Mark], again: Again, progress: bytes) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("srun.reporting").joinpath("pareto.html").read_text(encoding="utf-8"))
    data = json.dumps(_data(study, marks, again), allow_nan=False).replace("<", "\\u003c")
    about = study.about
    reported = reference(study, marks, f"{SPLIT}/{METRIC}")
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
        published=[
            (_name(mark), [*_cells(mark), _hits_text(mark, reported)])
            for mark in marks
            if any(key in mark.figures for key in PUBLISHED_KEYS)
        ],
        published_keys=[*PUBLISHED_KEYS, "hits beside Retrain's"],
        note=reference(study, marks, axes_of(study)[0]).note,
        space=about["space"],
    )


def _data(study: StudyResult, marks: Sequence[Mark], again: Again) -> dict[str, Any]:
    """What the page's script draws."""
    x, y = axes_of(study)
    front = {trial.number for trial in study.front}
    points = [
        {
            "trial": trial.number,
            "x": trial.number if x is None else trial.figures[x],
            "y": trial.figures[y],
            "front": trial.number in front,
            "feasible": trial.feasible,
            "published": trial.published,
            "overrides": {key.rpartition(".")[2]: value for key, value in trial.overrides.items()},
            "figures": dict(trial.figures),
            "commands": commands(study, trial, again),
        }
        for trial in study.trials
        if trial.state == "complete"
    ]
    others = [
        {"name": _name(mark), "colour": style(mark.method).colour, "x": mark.figures[x], "y": mark.figures[y]}
        for mark in marks
        if x is not None and x in mark.figures and y in mark.figures and _is_drawn(mark, study)
    ]
    found = reference(study, marks, x)
    return {
        "x": x or "trial",
        "y": y,
        "points": points,
        "marks": others,
        "level": found.level,
        "line_name": found.line,
        "over_name": OVER,
        "interval": None if found.interval is None else [found.interval.low, found.interval.high],
        "line": x is not None and len(study.goal.objectives) == 2,
    }


def _draw_front(study: StudyResult, marks: Sequence[Mark]) -> Figure:
    canvas = Figure(figsize=(7.6, 4.8), layout="constrained")
    axes = canvas.subplots()
    x, y = axes_of(study)
    found = reference(study, marks, x)
    level, interval = found.level, found.interval
    if level is not None:
        axes.axvline(level, color=INK, lw=1, ls="--", zorder=1, label=found.line)
    if interval is not None:
        blue = style("retrain").colour
        axes.axvspan(interval.low, interval.high, color=blue, alpha=0.14, lw=0, zorder=0, label="Retrain's interval")
        axes.axvspan(-1, interval.low, color=WARN, alpha=0.07, lw=0, zorder=0, label=f"below it: {OVER}")
    axes.set_title(found.note, fontsize=9.5, color=INK, loc="left")
    complete = [trial for trial in study.trials if trial.state == "complete"]
    place = {trial.number: (trial.number if x is None else trial.figures[x], trial.figures[y]) for trial in complete}
    rest = [place[trial.number] for trial in complete if trial not in study.front]
    if rest:
        xs, ys = zip(*rest, strict=True)
        axes.scatter(xs, ys, s=22, color=TRIAL, lw=0, zorder=2, label="trials")
    best = [place[trial.number] for trial in study.front]
    if best:
        line = "-" if len(study.goal.objectives) == 2 else ""
        axes.plot(*zip(*sorted(best), strict=True), marker="o", ls=line, color=FRONT, lw=1.4, zorder=3, label="front")
    for trial in complete:
        if trial.published:
            axes.scatter(*place[trial.number], marker="*", s=190, color=INK, zorder=5, label="published setting")
    named: set[str] = set()
    points = [mark for mark in marks if _is_drawn(mark, study) and x in mark.figures and y in mark.figures]
    for mark in points if x is not None else []:
        look = style(mark.method)
        label = None if look.name in named else look.name
        named.add(look.name)
        where = mark.figures[str(x)], mark.figures[y]
        axes.scatter(*where, marker=look.marker, s=70, color=look.colour, edgecolors="white", zorder=4, label=label)
    across = [point[0] for point in place.values()] + [mark.figures[str(x)] for mark in points if x is not None]
    if across:
        margin = 0.06 * (max(across) - min(across)) or 0.01
        across += [] if level is None else [level]
        axes.set_xlim(min(across) - margin, max(across) + margin)
    _plain(axes)
    axes.set_xlabel(x or "trial", fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)
    axes.legend(fontsize=8.5, frameon=False, loc="best")
    return canvas


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


def _is_drawn(mark: Mark, study: StudyResult) -> bool:
    """An applied trial is a point already, and the searched method's own row is the published setting."""
    return mark.trial is None and mark.method != study.about["cell"]["method"]


def _name(mark: Mark) -> str:
    return f"{style(mark.method).name} {mark.seed}" if mark.trial is None else f"Trial {mark.trial}, applied"


def _cells(mark: Mark) -> list[str]:
    return [f"{mark.figures[key]:.4f}" if key in mark.figures else "–" for key in PUBLISHED_KEYS]
