"""Reports of searches: the front beside the evaluated rows, a preset for each trial, runs in the tracker."""

import copy
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from srun.config import override
from srun.errors import DataError
from srun.files import read_json, verify_folder, write_text
from srun.flow.cells import Cell
from srun.flow.layout import CellPaths, Layout, TrialLayout
from srun.flow.loading import weights_sha256
from srun.judging.trials import Mark, stand_beside
from srun.search.bench import against
from srun.search.goals import Figures
from srun.search.results import StudyResult, importances, read_study
from srun.search.storage import shown_place
from srun.tracking.runs import StudyTracker
from srun.unlearning import UNLEARNERS

if TYPE_CHECKING:
    from optuna import Study

REDO = "make it again with `srun optimize apply`, `srun evaluate` or `srun run`"

log = logging.getLogger(__name__)


def report(
    layout: Layout, study: "Study", cells: Mapping[str, Cell], place: str | None, options: Sequence[str]
) -> StudyResult:
    """Write reports/pareto/<study>; ``cells``: rows whose evaluations stand beside the trials where they are there.

    ``place``: the storage, where it is not the study's own journal. ``options``: what lies over params.yaml.
    """
    from srun.reporting.pareto import Again, axes_of, write_report  # matplotlib, which other stages should not wait for

    result, presets = read_study(study), {}
    for trial in result.trials:
        if trial.state == "complete":
            file = layout.trial_settings(result.name, trial.number)
            write_text(file, _preset(result, trial.number))
            presets[trial.number] = os.path.relpath(file, layout.project)
    again = Again(None if place is None else shown_place(place), options, presets)
    kind = result.about["request"]["request"]["kind"]
    beside = stand_beside(result.about["level"], kind, _marks(layout, result, cells), axes_of(result)[0])
    write_report(layout.study(result.name), result, importances(study, result.goal), beside, again)
    return result


def track(tracker: StudyTracker, result: StudyResult) -> None:
    """Write finished trials to their nested runs; those on the front are tagged, as long as they are on it."""
    front = {trial.number for trial in result.front}
    for trial in result.trials:
        if trial.state in ("complete", "discarded", "failed"):
            tags = {"front": str(trial.number in front).lower(), "state": trial.state}
            tags |= {"own_settings": "true"} if trial.own_settings else {}
            status = "FAILED" if trial.state == "failed" else "FINISHED"
            metrics = {**trial.figures, **trial.violations}
            tracker.trial(trial.number, status, trial.overrides, metrics, trial.history, tags)


def _preset(result: StudyResult, number: int) -> str:
    """All settings of a complete trial as a preset (YAML): those that were searched, and the others as they were."""
    about, text = copy.deepcopy(result.about), io.StringIO()
    values = {"unlearn": {about["cell"]["method"]: about["settings"], "seed": about["unlearning_seed"]}}
    for key, value in result.trial(number).overrides.items():
        override(values, key, value)
    YAML().dump(values, text)
    return f"# Trial {number} of study {result.name}\n{text.getvalue()}"


def _marks(layout: Layout, result: StudyResult, cells: Mapping[str, Cell]) -> list[Mark]:
    """Original, Retrain, SISA, controls and applied trials of the same request and model, as far as evaluated."""
    about, marks = result.about, []
    own = Cell(**about["cell"])
    rows: list[tuple[str, int, int | None, CellPaths]]
    rows = [(cell.method, cell.seed, None, layout.cell(cell)) for cell in cells.values() if cell.request == own.request]
    applied = layout.cell(own).evaluation.parent / "pareto" / result.name
    for folder in sorted(applied.glob("trial-*")):
        number = int(folder.name.removeprefix("trial-"))
        trial_layout = TrialLayout(layout.project, layout.root, result.name, number)
        rows.append((own.method, own.seed, number, trial_layout.cell(own)))
    for method, seed, trial, paths in rows:
        file = paths.evaluation / "report.json"
        if not file.is_file() or not (paths.model / "model.json").is_file():
            continue
        verify_folder(file.parent, DataError, REDO)
        record = read_json(file, DataError, REDO)
        same = record["model"], record["fingerprint"], plain(record["request"])
        if same != (about["model"], about["fingerprint"], plain(about["request"])):
            continue
        if not _is_current(paths, record, about):
            log.warning("%s: of another model than the one there is now; left out of the report", file)
        else:
            marks.append(Mark(method, seed, trial, _flat(record["metrics"], about["original"])))
    return marks


def _is_current(paths: CellPaths, record: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Whether an evaluation is that of the model beside it, and this one of the study's Original, if of that at all."""
    info = read_json(paths.model / "model.json", DataError, REDO)
    cell = record["cell"]
    started_there = cell["original"] == about["cell"]["original"] and not UNLEARNERS[cell["method"]].from_scratch
    other = started_there and info["original_sha256"] != about["original_sha256"]
    return record["weights_sha256"] == weights_sha256(paths.model) and not other


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    return json.loads(json.dumps(value, default=str))


def _flat(metrics: Mapping[str, Mapping[str, float]], original: Figures) -> dict[str, float]:
    """Result keys of an evaluation; of a category also what is kept and removed of Original's."""
    figures = {f"{split}/{name}": value for split, part in metrics.items() for name, value in part.items()}
    return figures | against(figures, original)
