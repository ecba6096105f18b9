"""The stages as they are called: each with its own sections, its paths and a tracked run of its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srun import distributed
from srun.params import Params
from srun.stages import evaluate, explain, neurons, partition, prepare, report, train, unlearn
from srun.stages.cells import Cell
from srun.stages.layout import Layout
from srun.tracking import NullTracker, Tracker, tracked_run


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
        from srun.data.raw import read_info

        folder = self.layout.raw(self.params.data.name)
        return str(read_info(folder)["fingerprint"]) if folder.is_dir() else None


def _title(cell: Cell) -> str:
    return f"{cell.method}-{cell.seed} on {cell.original} ({cell.request})"
