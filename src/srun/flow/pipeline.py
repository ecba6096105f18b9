"""The stages as they are called: each with its own sections, its paths and a tracked run of its own."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srun.data.raw import RawData, read_info, read_raw
from srun.errors import DataError, RunError
from srun.files import held, locked, write_folder
from srun.flow import evaluate, explain, neurons, optimize, partition, prepare, report, train, unlearn
from srun.flow.cells import Cell
from srun.flow.common import Step, has_key, load_dataset, take_steps
from srun.flow.freshness import stage_digests
from srun.flow.layout import Layout, TrialLayout
from srun.flow.params import Params
from srun.flow.plan import cell_faults
from srun.progress import Budget
from srun.search.results import StudyResult, read_study
from srun.search.storage import open_storage, reaching
from srun.search.study import load_study
from srun.system import distributed
from srun.system.slurm import worker
from srun.tracking import NullTracker, StudyTracker, Tracker, reach, tracked_run

if TYPE_CHECKING:
    from optuna import Study


class Pipeline:
    """Runs single stages, or all of them in order in one process (DVC runs the same stages one by one)."""

    def __init__(
        self, params: Params, project: Path, root: Path | Layout | None = None, options: Sequence[str] = ()
    ) -> None:
        """``options``: words that lie over params.yaml in ``params``, for commands that are shown."""
        layout = root if isinstance(root, Layout) else Layout(project, root or project)
        self.params, self.layout, self.options = params, layout, options

    def only(self, request: str) -> "Pipeline":
        """The same for one request; its report has a folder of its own."""
        layout, options = replace(self.layout, only=request), [*self.options, "--request", request]
        params = self.params.with_request(request)
        cells = {}
        for name, cell in params.cells.items():
            if faults := list(cell_faults(params, cell)):
                logging.getLogger(__name__).warning("%s is left out: %s", name, "; ".join(faults))
            else:
                cells[name] = cell
        return Pipeline(replace(params, cells=cells), layout.project, layout, options)

    def prepare(self) -> dict[str, Any]:
        params = self.params
        folder = self.layout.raw(params.data.name)
        if folder.is_dir() and (name := read_info(folder)["name"]) != params.data.name:
            raise DataError(
                f"{folder}: holds data set {ascii(name)[:60]}; models are registered by that name, so rename"
                " the folder back, or import the log again under the new name"
            )
        with self._tracked("prepare", params.data.name, {"prepare": vars(params.prepare)}) as tracker:
            return prepare.run(self.layout.raw(params.data.name), self.layout.prepared, params.prepare, tracker)

    def partition(self, name: str) -> dict[str, Any]:
        request = self.params.request(name)
        own = ("users", "file")  # which may hold raw ids, and stay here
        shown = {key: value for key, value in vars(request).items() if key not in own}
        with self._tracked("partition", name, {"partition": {name: shown}}, request=name) as tracker:
            return partition.run(
                self.layout.prepared, self.layout.partition(name), name, request, self._read_raw, tracker
            )

    def partition_given(
        self, name: str, file: str, form: str | None, columns: dict[str, str] | None, kind: str | None
    ) -> dict[str, Any]:
        """Partition by a request of the user's own, in a file; later commands know it by its name.

        Raises ConfigError where the parameters draw a request of that name, or have a category of it.
        """
        recorded = load_dataset(self.layout).info.get("columns")
        kind = kind or partition.given_kind(file, form, columns, recorded)
        self.params = self.params.with_given(name, file, form, columns, kind)
        return self.partition(name)

    def digests(self) -> Path:
        """Write what outputs depend on beside parameters and data, as a folder of small files that dvc.yaml names."""
        params, folder = self.params, self.layout.digests
        code = stage_digests(params.originals, params.cells)
        found: dict[str, Any] = {f"code/{name}": value for name, value in code.items()}
        found |= {f"requests/{name}": partition.digests(params.request(name)) for name in params.requests}
        with write_folder(folder) as new:
            for name, value in found.items():
                file = new / f"{name}.json"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        return folder

    def _read_raw(self) -> RawData:
        return read_raw(self.layout.raw(self.params.data.name))

    def _check_partition(self, name: str) -> None:
        """Raise DataError where the partition that is there is of another request than the parameters have."""
        partition.check(self.layout.partition(name), name, self.params.request(name))

    def category(self, category: str) -> str:
        """The name of the request to forget one category; its partition is made unless it is there, by one process."""
        name, self.params = self.params.with_category(category)
        if not distributed.rank():
            with locked(self.layout.partition(name), "making"):
                if not self._is_partitioned(name):
                    self.partition(name)
        distributed.wait()
        return name

    def train(self, name: str) -> dict[str, float]:
        params, original = self.params, self.params.original(name)
        settings = params.model_settings(original.model)
        logged = {"original": vars(original), "model": {original.model: vars(settings)}, "train": vars(params.train)}
        paths = self.layout.original(name)
        tracked = self._tracked("train", name, logged, model=original.model, method="original")
        with held(paths.resume, f"training {paths.model}"), tracked as tracker:
            batch = params.evaluate.batch_size
            return train.run(self.layout, name, original, settings, params.train, batch, params.runtime, tracker)

    def unlearn(self, cell: Cell) -> dict[str, float]:
        params, settings = self.params, self.params.method_settings(cell.method)
        self._check_partition(cell.request)
        logged = {"cell": vars(cell), "unlearn": {cell.method: vars(settings), "seed": params.unlearn.seed}}
        paths, seed = self.layout.cell(cell), params.unlearn.seed
        tracked = self._tracked("unlearn", _title(cell), logged, **self._tags(cell))
        with held(paths.resume, f"unlearning into {paths.model}"), tracked as tracker:
            cost = unlearn.run(self.layout, cell, settings, seed, params.evaluate, params.runtime, tracker)
        return cost.exact() | cost.measured()

    def evaluate(self, cell: Cell) -> dict[str, dict[str, float]]:
        params = self.params
        self._check_partition(cell.request)
        logged = {"cell": vars(cell), "evaluate": vars(params.evaluate), "relearning": vars(params.relearning)}
        with self._tracked("evaluate", _title(cell), logged, **self._tags(cell)) as tracker:
            settings = params.evaluate, params.relearning
            return evaluate.run(self.layout, cell, *settings, params.runtime, tracker)

    def report(self) -> dict[str, Any]:
        with self._tracked("report", self.params.data.name, {}) as tracker:
            return report.run(self.layout, self.params.cells, tracker, self.options)

    def explain(self, user: str, request: str) -> dict[str, Any]:
        self._check_partition(request)
        cells = self.params.cells
        if request not in {cell.request for cell in cells.values()}:
            cells = self.params.with_request(request).cells
        return explain.run(self.layout, user, request, cells)

    def neurons(self, request: str, original: str) -> dict[str, Any]:
        """What attribution sees of a category request: neurons, overlap with other categories, dose and response."""
        params = self.params
        asked = params.request(request), params.method_settings("attribution"), params.neurons
        return neurons.run(self.layout, request, original, *asked, params.unlearn.seed, params.evaluate, params.runtime)

    def run(self, budget: Budget | None = None) -> dict[str, Any]:
        """Every stage, in order, for every request, Original and cell of the parameters, where it is not done already.

        Returns what ``report`` does, and in ``left`` the names of the steps that are still to be done: none, unless
        ``budget`` was spent first. The same call then goes on with them.
        """
        result = self.take(self.steps(), budget)
        return result | (report.made(self.layout, self.params.cells) or self.report() if not result["left"] else {})

    def take(self, steps: Sequence[Step], budget: Budget | None) -> dict[str, list[str]]:
        """Take steps, alone in this folder: of two processes that take the same ones each would do them all."""
        with held(self.layout.root / "runs" / "flow", f"the flow in {self.layout.root}"):
            return take_steps(steps, budget)

    def steps(self) -> list[Step]:
        params = self.params
        steps = [Step("prepare", (), self.is_prepared, self.prepare)]
        for name in dict.fromkeys([*params.requests, *(cell.request for cell in params.cells.values())]):
            is_done = partial(self._is_partitioned, name)
            steps.append(Step(f"partition {name}", ("prepare",), is_done, partial(self.partition, name)))
        trained = set()
        for name, cell in params.cells.items():
            if cell.original not in trained:  # just before it is needed, for a budget may end on the way
                trained.add(cell.original)
                is_done, work = partial(self._is_trained, cell.original), partial(self.train, cell.original)
                steps.append(Step(f"train {cell.original}", ("prepare",), is_done, work))
            needs, is_done = (f"partition {cell.request}", f"train {cell.original}"), partial(self._is_unlearned, cell)
            steps.append(Step(f"unlearn {name}", needs, is_done, partial(self.unlearn, cell)))
            is_done = partial(self._is_evaluated, cell)
            steps.append(Step(f"evaluate {name}", (f"unlearn {name}",), is_done, partial(self.evaluate, cell)))
        return steps

    def is_prepared(self) -> bool:
        params, folder = self.params, self.layout.prepared
        return has_key(folder / "info.json", prepare.key(self.layout.raw(params.data.name), params.prepare))

    def _is_partitioned(self, name: str) -> bool:
        key = partition.key(self.layout.prepared, name, self.params.request(name))
        return has_key(self.layout.partition(name) / "info.json", key)

    def _is_trained(self, name: str) -> bool:
        params, original = self.params, self.params.original(name)
        key = train.key(self.layout, original, params.model_settings(original.model), params.train)
        return has_key(self.layout.original(name).model / "model.json", key)

    def _is_unlearned(self, cell: Cell) -> bool:
        key = unlearn.key(self.layout, cell, self.params.method_settings(cell.method), self.params.unlearn.seed)
        return has_key(self.layout.cell(cell).model / "model.json", key)

    def _is_evaluated(self, cell: Cell) -> bool:
        params, paths = self.params, self.layout.cell(cell)
        key = evaluate.key(self.layout, cell, params.evaluate, params.relearning)
        return paths.metrics.is_file() and has_key(paths.evaluation / "report.json", key)

    def study_name(self, cell: Cell) -> str:
        """What a search is called unless it is given a name: what is searched, and after what."""
        chosen = self.params.optimize.objective
        known = [name if name in self.params.optimize.objectives else "custom" for name in chosen]
        return "-".join([cell.original, cell.request, cell.method, *dict.fromkeys(known)])

    def optimize(
        self, cell: Cell, name: str, place: str | None, work: Callable[[Path], list[str]] | None
    ) -> StudyResult:
        """Search a cell's settings until the study has its trials; the first worker also tracks and reports.

        ``place``: a storage, or None for a journal of its own. ``work`` has other processes work in its place: it
        is given the name of their logs and returns a text for each that died. Raises RunError when some did and trials
        are missing.
        """
        params, address = self.params, self._place(name, place)
        if params.runtime.tracking:
            reach(self.layout.project)  # before anything is searched
        settings, every = params.method_settings(cell.method), params.optimize.evaluate_every
        leads, died = worker(os.environ) == 0, []
        with reaching(address):
            storage = open_storage(address)  # before anything is loaded: a wrong one is known at once
            self._check_partition(cell.request)
            asked = params.unlearn.seed, params.evaluate, params.runtime
            bench = optimize.Bench(self.layout, cell, settings, *asked, every)
            if work is not None:
                study, _, _ = optimize.join(bench, params.optimize, name, storage)
                died = work(self.layout.journal(f"{name}-{os.getpid()}").with_suffix(""))
            else:
                after = self._track_study if leads else lambda study: None
                study = optimize.search(bench, params.optimize, name, storage, after)
            result = self._finish_study(study, place) if leads else read_study(study)
        if died:
            _tell_of_the_dead(result, params.optimize.trials, died)
        return result

    def show_study(self, name: str, place: str | None) -> StudyResult:
        """The front of a study; its report is written anew."""
        with reaching(self._place(name, place)):
            return self._finish_study(self._open_study(name, place), place)

    def apply_trial(self, name: str, number: int, place: str | None) -> tuple[list[Path], dict[str, dict[str, float]]]:
        """Carry out a trial as a row of its own; returns what was written, and ``metrics[split][metric]``."""
        params = self.params
        with reaching(self._place(name, place)):
            study = self._open_study(name, place)
            result = read_study(study)
            cell, settings = optimize.settings_of(self.layout, result, number)
            layout = TrialLayout(self.layout.project, self.layout.root, name, number)
            logged = {"cell": vars(cell), "unlearn": {cell.method: vars(settings)}, "study": name, "trial": number}
            tags = {**self._tags(cell), "srun.trial": str(number)}
            seed = int(result.about["unlearning_seed"])
            paths, tracked = layout.cell(cell), self._tracked("unlearn", f"trial {number} of {name}", logged, **tags)
            with held(paths.resume, f"unlearning into {paths.model}"), tracked as tracker:
                unlearn.run(layout, cell, settings, seed, params.evaluate, params.runtime, tracker)
            with self._tracked("evaluate", f"trial {number} of {name}", logged, **tags) as tracker:
                metrics = evaluate.run(layout, cell, params.evaluate, params.relearning, params.runtime, tracker)
            optimize.report(self.layout, study, params.cells, place, _beside_a_trial(self.options))
            file = self.layout.trial_settings(name, number)
            return [file, layout.cell(cell).model, layout.cell(cell).evaluation], metrics

    def _open_study(self, name: str, place: str | None) -> "Study":
        journal = self.layout.journal(name)
        if place is None and not journal.is_file():
            there = ", ".join(sorted(file.stem for file in journal.parent.glob("*.journal"))) or "none"
            raise RunError(
                f'no study "{name}" in {journal.parent} (there: {there}); name it with --study and --storage'
            )
        return load_study(open_storage(self._place(name, place)), name)

    def _place(self, name: str, place: str | None) -> str:
        """Where a study is: the storage that was named, or a journal of its own."""
        return place or str(self.layout.journal(name))

    def _finish_study(self, study: "Study", place: str | None) -> StudyResult:
        result = optimize.report(self.layout, study, self.params.cells, place, _beside_a_trial(self.options))
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

    @contextmanager
    def _tracked(self, stage: str, name: str, params: Mapping[str, Any], **tags: str) -> Iterator[Tracker]:
        if not self.params.runtime.tracking or distributed.rank():
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
        folder = self.layout.raw(self.params.data.name)
        return str(read_info(folder)["fingerprint"]) if folder.is_dir() else None


def _beside_a_trial(options: Sequence[str]) -> list[str]:
    """Without what would lie over a trial's own settings."""
    pairs = zip(options[::2], options[1::2], strict=True)
    return [word for pair in pairs if not pair[1].startswith(("unlearn.", "optimize.")) for word in pair]


def _tell_of_the_dead(result: StudyResult, num_trials: int, died: Sequence[str]) -> None:
    """Say how many workers died and where to look; RunError when the others have not made up for them."""
    workers = f"{len(died)} workers" if len(died) > 1 else "a worker"
    if result.num_finished < num_trials:
        found = f'study "{result.name}" has {result.num_finished} of {num_trials} trials'
        raise RunError(f"{workers} died ({'; '.join(died)}) and {found}; go on with the same command")
    logging.getLogger(__name__).warning("%s died, and the others made up for it (%s)", workers, "; ".join(died))


def _title(cell: Cell) -> str:
    return f"{cell.method}-{cell.seed} on {cell.original} ({cell.request})"
