"""The stages as they are called: each with its own sections, its paths and a tracked run of its own."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srun.errors import RunError
from srun.files import write_text
from srun.params import Params
from srun.search.results import StudyResult, read_study
from srun.search.study import load_study, open_storage
from srun.slurm import worker
from srun.stages import evaluate, explain, neurons, optimize, partition, prepare, report, train, unlearn
from srun.stages.cells import Cell
from srun.stages.layout import Layout, TrialLayout
from srun.tracking import NullTracker, StudyTracker, Tracker, tracked_run

if TYPE_CHECKING:
    from optuna import Study


class Pipeline:
    """Runs single stages, or all of them in order in one process (DVC runs the same stages one by one)."""

    def __init__(self, params: Params, project: Path, root: Path | None = None) -> None:
        self.params, self.layout = params, Layout(project, root or project)

    def prepare(self) -> dict[str, Any]:
        params = self.params
        with self._tracked("prepare", params.data.name, {"prepare": vars(params.prepare)}) as tracker:
            return prepare.run(self.layout.raw(params.data.name), self.layout.prepared, params.prepare, tracker)

    def partition(self, name: str) -> dict[str, Any]:
        request = self.params.request(name)
        shown = {key: value for key, value in vars(request).items() if key != "users"}  # raw user ids stay here
        with self._tracked("partition", name, {"partition": {name: shown}}, request=name) as tracker:
            return partition.run(self.layout.prepared, self.layout.partition(name), name, request, tracker)

    def category(self, category: str) -> str:
        """The name of the request to forget one category; its partition is made unless it is there."""
        name, self.params = self.params.with_category(category)
        if not partition.is_current(self.layout.prepared, self.layout.partition(name), self.params.request(name)):
            self.partition(name)
        return name

    def train(self, name: str) -> dict[str, float]:
        params, original = self.params, self.params.original(name)
        settings = params.model_settings(original.model)
        logged = {"original": vars(original), "model": {original.model: vars(settings)}, "train": vars(params.train)}
        with self._tracked("train", name, logged, model=original.model, method="original") as tracker:
            batch = params.evaluate.batch_size
            return train.run(self.layout, name, original, settings, params.train, batch, params.runtime, tracker)

    def unlearn(self, cell: Cell) -> dict[str, float]:
        params, settings = self.params, self.params.method_settings(cell.method)
        logged = {"cell": vars(cell), "unlearn": {cell.method: vars(settings), "seed": params.unlearn.seed}}
        with self._tracked("unlearn", _title(cell), logged, **self._tags(cell)) as tracker:
            seed = params.unlearn.seed
            cost = unlearn.run(self.layout, cell, settings, seed, params.evaluate, params.runtime, tracker)
        return cost.exact() | cost.measured()

    def evaluate(self, cell: Cell) -> dict[str, dict[str, float]]:
        params = self.params
        logged = {"cell": vars(cell), "evaluate": vars(params.evaluate)}
        with self._tracked("evaluate", _title(cell), logged, **self._tags(cell)) as tracker:
            return evaluate.run(self.layout, cell, params.evaluate, params.runtime, tracker)

    def report(self) -> dict[str, Any]:
        with self._tracked("report", self.params.data.name, {}) as tracker:
            studies = explain.examples(self.layout, self.params.cells)
            return report.run(self.layout, self.params.cells, tracker, studies)

    def explain(self, user: str, request: str) -> dict[str, Any]:
        return explain.run(self.layout, user, request, self.params.cells)

    def neurons(self, request: str, original: str) -> dict[str, Any]:
        """What attribution sees of a category request: neurons, overlap with other categories, dose and response."""
        params = self.params
        asked = params.request(request), params.method_settings("attribution"), params.neurons
        return neurons.run(self.layout, request, original, *asked, params.unlearn.seed, params.evaluate, params.runtime)

    def study_name(self, cell: Cell) -> str:
        """What a search is called unless it is given a name: what is searched, and after what."""
        chosen = self.params.optimize.objective
        known = [name if name in self.params.optimize.objectives else "custom" for name in chosen]
        return "-".join([cell.original, cell.request, cell.method, *dict.fromkeys(known)])

    def optimize(self, cell: Cell, name: str, place: str | None, wait: Callable[[], None] | None) -> StudyResult:
        """Search a cell's settings until the study has its trials; the first worker also tracks and reports.

        ``place``: a storage, or None for a journal of its own. ``wait`` waits for local workers instead of working.
        """
        params, address = self.params, place or str(self.layout.journal(name))
        settings = params.method_settings(cell.method)
        bench = optimize.Bench(self.layout, cell, settings, params.unlearn.seed, params.evaluate, params.runtime)
        leads = worker(os.environ) == 0
        if wait is not None:
            study, _, _ = optimize.join(bench, params.optimize, name, address)
            wait()
        else:
            after = self._track_study if leads else lambda study: None
            study = optimize.search(bench, params.optimize, name, address, after)
        return self._finish_study(study, place) if leads else read_study(study)

    def show_study(self, name: str, place: str | None) -> StudyResult:
        """The front of a study; its report is written anew."""
        return self._finish_study(self._study(name, place), place)

    def apply_trial(self, name: str, number: int, place: str | None) -> tuple[list[Path], dict[str, dict[str, float]]]:
        """Carry out a trial as a row of its own; returns what was written, and ``metrics[split][metric]``."""
        params, study = self.params, self._study(name, place)
        result = read_study(study)
        cell, settings, preset = optimize.settings_of(self.layout, result, number)
        layout = TrialLayout(self.layout.project, self.layout.root, name, number)
        file = self.layout.study(name) / f"trial-{number}.yaml"
        write_text(file, preset)
        logged = {"cell": vars(cell), "unlearn": {cell.method: vars(settings)}, "study": name, "trial": number}
        tags = {**self._tags(cell), "srun.trial": str(number)}
        seed = int(result.about["unlearning_seed"])
        with self._tracked("unlearn", f"trial {number} of {name}", logged, **tags) as tracker:
            unlearn.run(layout, cell, settings, seed, params.evaluate, params.runtime, tracker)
        with self._tracked("evaluate", f"trial {number} of {name}", logged, **tags) as tracker:
            metrics = evaluate.run(layout, cell, params.evaluate, params.runtime, tracker)
        optimize.report(self.layout, study, params.cells, place)
        return [file, layout.cell(cell).model, layout.cell(cell).evaluation], metrics

    def _study(self, name: str, place: str | None) -> "Study":
        journal = self.layout.journal(name)
        if place is None and not journal.is_file():
            raise RunError(f'no study "{name}" in {journal.parent}; name it with --study and --storage')
        return load_study(open_storage(place or str(journal)), name)

    def _finish_study(self, study: "Study", place: str | None) -> StudyResult:
        result = optimize.report(self.layout, study, self.params.cells, place)
        folder = self.layout.study(result.name)
        logging.getLogger(__name__).info("%s", folder / "index.html")
        tracker = self._track_study(study)
        if tracker is not None:
            volume = result.hypervolumes[-1:] or [0.0]
            about = {key: result.about[key] for key in ("cell", "space", "settings")}
            figures = {"hypervolume": volume[0], "num_finished": result.num_finished, "num_front": len(result.front)}
            tracker.finish(about, figures, [path for path in sorted(folder.iterdir()) if path.is_file()])
        return result

    def _track_study(self, study: "Study") -> StudyTracker | None:
        """Write what is new in a study to the tracker."""
        if not self.params.runtime.tracking:
            return None
        result = read_study(study)
        cell = Cell(**result.about["cell"])
        tags = {"stage": "optimize", "data.name": self.params.data.name, **self._tags(cell)}
        key = f"{result.name} of {result.begun}"
        tracker = StudyTracker(self.layout.project, "srun", result.name, key, tags)
        optimize.track(tracker, result)
        return tracker

    def run(self) -> dict[str, Any]:
        """Every stage, in order, for every request, Original and cell of the parameters."""
        self.prepare()
        for name in self.params.requests:
            self.partition(name)
        for name in dict.fromkeys(cell.original for cell in self.params.cells.values()):
            self.train(name)
        for cell in self.params.cells.values():
            self.unlearn(cell)
            self.evaluate(cell)
        return self.report()

    @contextmanager
    def _tracked(self, stage: str, name: str, params: Mapping[str, Any], **tags: str) -> Iterator[Tracker]:
        if not self.params.runtime.tracking:
            yield NullTracker()
            return
        data = self.params.data.name
        fingerprint = self._fingerprint()
        all_tags = {"stage": stage, "data.name": data, **tags} | (
            {"data.fingerprint": fingerprint} if fingerprint else {}
        )
        dataset = (data, fingerprint) if fingerprint else None
        with tracked_run(self.layout.project, "srun", f"{stage}: {name}", all_tags, dataset) as tracker:
            tracker.params({"data.name": data, **params})
            yield tracker

    def _tags(self, cell: Cell) -> dict[str, str]:
        model = self.params.original(cell.original).model
        return {"model": model, "method": cell.method, "request": cell.request, "seed": str(cell.seed)}

    def _fingerprint(self) -> str | None:
        from srun.data.raw import read_info

        folder = self.layout.raw(self.params.data.name)
        return str(read_info(folder)["fingerprint"]) if folder.is_dir() else None


def _title(cell: Cell) -> str:
    return f"{cell.method}-{cell.seed} on {cell.original} ({cell.request})"


def wait_for_workers(words: Sequence[str], number: int) -> None:
    """Start the same command in so many processes, one worker each, and wait until all have ended.

    A worker that is killed is made up for by the others. Raises RunError when none ended well.
    """
    code = "from srun.cli import cli; import sys; cli(sys.argv[1:], prog_name='srun')"
    command = [sys.executable, "-c", code, *words, "--workers", "1"]
    if "optimize" not in words:  # the console script of that name
        command.insert(3, "optimize")
    workers = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "SRUN_WORKER": str(index + 1)})
        for index in range(number)
    ]
    try:
        codes = [process.wait() for process in workers]
    except KeyboardInterrupt:
        for process in workers:
            process.terminate()
        for process in workers:
            process.wait()
        raise
    if all(codes):
        raise RunError(f"all {number} workers ended with an error (see above); go on with the same command")
