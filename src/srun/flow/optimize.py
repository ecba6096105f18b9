"""`srun optimize`: begin or continue a search of a method's settings, show its front, carry out a trial.

A search keeps no model. ``apply_trial`` alone makes one: it carries a trial out as any other row.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from srun.config import Section, build
from srun.errors import CheckpointError, RunError
from srun.flow.cells import Cell
from srun.flow.layout import Layout, TrialLayout
from srun.flow.loading import load_dataset, load_start, weights_sha256
from srun.flow.project import EXPERIMENT, Project
from srun.flow.stages import check_partition, crossfit_where_missing, evaluate_step, unlearn_step
from srun.flow.study_report import plain, report, track
from srun.requests.partition import Partition
from srun.search.bench import Bench, join, search, with_overrides
from srun.search.results import StudyResult, read_study
from srun.search.storage import open_storage, reaching
from srun.search.study import load_study
from srun.system.devices import start
from srun.system.slurm import worker
from srun.tracking.runs import StudyTracker
from srun.unlearning import UNLEARNERS

if TYPE_CHECKING:
    from optuna import Study

log = logging.getLogger(__name__)


def study_name(project: Project, cell: Cell) -> str:
    """What a search is called unless it is given a name: what is searched, and after what."""
    settings = project.params.optimize
    goals = [name if name in settings.objectives else "custom" for name in settings.objective]
    return "-".join([cell.original, cell.request, cell.method, *dict.fromkeys(goals)])


def optimize(
    project: Project, cell: Cell, name: str, place: str | None, work: Callable[[Path], list[str]] | None
) -> StudyResult:
    """Search a cell's settings until the study has its trials; the first worker also tracks and reports.

    ``place``: a storage, or None for a journal of its own. ``work`` has other processes work in its place: it
    is given the name of their logs and returns a text for each that died. Raises RunError when some did and trials
    are missing.
    """
    settings, address = project.params.optimize, _address(project, name, place)
    leads = worker(os.environ) == 0
    died: list[str] = []
    with reaching(address), project.tracking.closing_studies():
        storage = open_storage(address)  # before anything is loaded: a wrong one is known at once
        check_partition(project, cell.request)
        bench = load_bench(project, cell)
        if work is not None:
            study, _, _ = join(bench, settings, name, storage)
            died = work(project.layout.journal(f"{name}-{os.getpid()}").with_suffix(""))
        else:
            study = search(bench, settings, name, storage, lambda study: _track(project, study) if leads else None)
        result = _finish(project, study, place) if leads else read_study(study)
    if died:
        _tell_of_the_dead(result, settings.trials, died)
    return result


def load_bench(project: Project, cell: Cell) -> Bench:
    """The bench of a cell, with everything that its trials share."""
    params, layout = project.params, project.layout
    device = start(params.runtime)
    data, settings = load_dataset(layout), params.method_settings(cell.method)
    needs_crossfit = UNLEARNERS[cell.method](settings).needs_crossfit
    if needs_crossfit:
        crossfit_where_missing(project, cell.original)
    return Bench(
        cell=vars(cell),
        settings=settings,
        seed=params.unlearn.seed,
        request=Partition.load(layout.partition(cell.request), data),
        original=load_start(layout, cell, params.start(cell), needs_crossfit, data, device),
        original_sha256=weights_sha256(layout.original(cell.original).model),
        evaluation=params.evaluate,
        evaluate_every=params.optimize.evaluate_every,
        device=device,
    )


def show_study(project: Project, name: str, place: str | None) -> StudyResult:
    """The front of a study; its report is written anew."""
    with reaching(_address(project, name, place)):
        return _finish(project, _open(project, name, place), place)


def apply_trial(
    project: Project, name: str, number: int, place: str | None
) -> tuple[list[Path], dict[str, dict[str, float]]]:
    """Carry out a trial as a row of its own; returns the paths that were written, and ``metrics[split][metric]``."""
    layout = project.layout
    with reaching(_address(project, name, place)):
        study = _open(project, name, place)
        result = read_study(study)
        cell, settings = _settings_of(layout, result, number)
        params = project.params.with_method(cell.method, settings, int(result.about["unlearning_seed"]))
        trial = replace(project, params=params, layout=TrialLayout(layout.project, layout.root, name, number))
        unlearn_step(trial, cell).run()
        metrics: dict[str, dict[str, float]] = evaluate_step(trial, cell).run()
        report(layout, study, project.params.cells, place, _beside_a_trial(project.options))
        paths = trial.layout.cell(cell)
        return [layout.trial_settings(name, number), paths.model, paths.evaluation], metrics


def _settings_of(layout: Layout, result: StudyResult, number: int) -> tuple[Cell, Section]:
    """The cell and the settings of a complete trial.

    Raises CheckpointError when the Original or the request is another than the one that was searched on.
    """
    about, cell = result.about, Cell(**result.about["cell"])
    request = Partition.load(layout.partition(cell.request), load_dataset(layout))
    if plain(request.info) != plain(about["request"]) or request.data.fingerprint != about["fingerprint"]:
        raise CheckpointError(f'request "{cell.request}" is not the one of study "{result.name}"; search again')
    if weights_sha256(layout.original(cell.original).model) != about["original_sha256"]:
        raise CheckpointError(f'Original "{cell.original}" is not the one of study "{result.name}"; search again')
    base: Section = build(UNLEARNERS[cell.method].Config, about["settings"], f"unlearn.{cell.method}")
    return cell, with_overrides(cell.method, base, result.trial(number).overrides)


def _address(project: Project, name: str, place: str | None) -> str:
    """Where a study is: the storage that was named, or a journal of its own."""
    return place or str(project.layout.journal(name))


def _open(project: Project, name: str, place: str | None) -> "Study":
    journal = project.layout.journal(name)
    if place is None and not journal.is_file():
        there = ", ".join(sorted(file.stem for file in journal.parent.glob("*.journal"))) or "none"
        raise RunError(f'no study "{name}" in {journal.parent} (there: {there}); name it with --study and --storage')
    return load_study(open_storage(_address(project, name, place)), name)


def _finish(project: Project, study: "Study", place: str | None) -> StudyResult:
    """Write the report of a study, and everything about it to the tracker."""
    result = report(project.layout, study, project.params.cells, place, _beside_a_trial(project.options))
    folder = project.layout.study(result.name)
    log.info("%s", folder / "index.html")
    tracker = _track(project, study)
    if tracker is not None:
        volume = result.hypervolumes[-1:] or [0.0]
        about = {key: result.about[key] for key in ("cell", "space", "settings")}
        figures = {"hypervolume": volume[0], "num_finished": result.num_finished, "num_front": len(result.front)}
        tracker.finish(about, figures, [path for path in sorted(folder.iterdir()) if path.is_file()])
    return result


def _track(project: Project, study: "Study") -> StudyTracker | None:
    """Write what is new in a study to the tracker; None where tracking is off."""
    if not project.params.runtime.tracking:
        return None
    result = read_study(study)
    tags = {"stage": "optimize", "data.name": project.params.data.name}
    tags |= project.tags(Cell(**result.about["cell"]))
    key = f"{result.name} of {result.begun}"
    tracker = project.tracking.study(project.layout.project, EXPERIMENT, result.name, key, tags)
    track(tracker, result)
    return tracker


def _beside_a_trial(options: Sequence[str]) -> list[str]:
    """Without the options that would lie over a trial's own settings."""
    pairs = zip(options[::2], options[1::2], strict=True)
    return [word for pair in pairs if not pair[1].startswith(("unlearn.", "optimize.")) for word in pair]


def _tell_of_the_dead(result: StudyResult, num_trials: int, died: Sequence[str]) -> None:
    """Say how many workers died and where to look; RunError when the others have not made up for them."""
    workers = f"{len(died)} workers" if len(died) > 1 else "a worker"
    if result.num_finished < num_trials:
        progress = f'study "{result.name}" has {result.num_finished} of {num_trials} trials'
        raise RunError(f"{workers} died ({'; '.join(died)}) and {progress}; go on with the same command")
    log.warning("%s died, and the others made up for it (%s)", workers, "; ".join(died))
