"""Stage optimize: a search over a method's settings; a trial is unlearning and evaluation in memory, on tune data only.

Data, partition and Original are loaded once a worker. Nothing here looks at forget_report or test: what a search found
is published by ``apply``, which carries it out as any other row.
"""

import copy
import dataclasses
import hashlib
import io
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from ruamel.yaml import YAML

from srun.config import build, config, flatten, override
from srun.data.sequences import Queries
from srun.errors import CheckpointError, ConfigError, DataError
from srun.evaluation.evaluate import EvaluateConfig, Probe
from srun.files import read_json, verify_folder, write_text
from srun.flow.cells import Cell
from srun.flow.common import load_dataset, load_original, weights_sha256
from srun.flow.layout import CellPaths, Layout, TrialLayout
from srun.metrics.ranking import EventRanks, hit
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.search.goals import Figures, Goal, read_goal
from srun.search.results import Mark, StudyResult, describe_goal, importances, read_study
from srun.search.space import Domain, Space
from srun.search.storage import shown_place
from srun.search.study import LimitsConfig, Sampler, Search, Tell, open_study
from srun.system.devices import RuntimeConfig, out_of_memory_hint, start
from srun.system.meter import Cost
from srun.tracking import StudyTracker
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context
from srun.unlearning.sruga.stopping import Match

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

TUNE = ("validation", "forget_tune", "never_seen_tune", "in_category_tune", "out_of_category_tune")
"""Splits that a choice may look at."""
FORGET, INSIDE, OUTSIDE = "forget_tune/hit_10", "in_category_tune/hit_10", "out_of_category_tune/hit_10"
DISTANCE = "match/distance"

REDO = "make it again with `srun optimize apply`, `srun evaluate` or `srun run`"

log = logging.getLogger(__name__)
Kind = Literal["interactions", "users", "category"]


@config
class OptimizeConfig:
    """What is searched, after what, and for how long."""

    method: str
    objective: tuple[str, ...]
    """Names of ``objectives``, or texts as there."""
    trials: Annotated[int, Field(ge=1)]
    """Finished trials, over all workers and all runs of the command."""
    timeout: Annotated[float, Field(gt=0)] | None
    """Seconds after which a command begins no new trial; null: none."""
    evaluate_every: Annotated[int, Field(ge=1)]
    """Epochs between the looks of a trial that only its curve and the rules to end it early need."""
    sampler: Sampler
    seed: int
    limits: LimitsConfig
    objectives: dict[str, dict[Kind, tuple[str, ...]]]
    """Name -> kind of request -> objectives and constraints (see ``search.goals``)."""
    space: dict[str, dict[str, Domain]]
    """Method -> key of its block -> what is tried."""

    def texts(self, kind: str) -> list[str]:
        """The chosen objectives and constraints, for a kind of request."""
        texts = []
        for name in self.objective:
            if name not in self.objectives:
                texts.append(name)
                continue
            by_kind = {str(key): found for key, found in self.objectives[name].items()}
            if kind not in by_kind:
                raise ConfigError(f'optimize.objectives.{name}: not defined for requests of kind "{kind}"')
            texts += by_kind[kind]
        return texts


class Bench:
    """Carries out trials of one cell: everything they share is loaded once. ``settings``: the block of params.yaml."""

    def __init__(
        self,
        layout: Layout,
        cell: Cell,
        settings: Any,
        seed: int,
        evaluation: EvaluateConfig,
        runtime: RuntimeConfig,
        evaluate_every: int,
    ) -> None:
        self.device = start(runtime)
        data = load_dataset(layout)
        self.cell, self.settings, self.method = cell, settings, UNLEARNERS[cell.method]
        self.evaluate_every = evaluate_every
        self.request = Partition.load(layout.partition(cell.request), data)
        self.original = load_original(layout, cell.original, data, self.device)
        self.method(settings).require(self.original, self.request)
        if not len(self.request.queries("forget_tune")):
            raise DataError(f'request "{cell.request}" has no tune half, by which alone settings may be chosen')
        self.seed = cell.seed if self.method.from_scratch else seed
        self.sha256 = weights_sha256(layout.original(cell.original).model)
        self.probe = _RememberingProbe(
            self.original.scorer, self.request.splits, data.max_length, self.device, evaluation.batch_size
        )
        self.match = Match(self.request, self._context(lambda row: None))
        self.num_positions = int(self.request.retain.sum())
        unseen = [self.probe.ranks(self.original.scorer, queries).rank for queries in self.match.unseen]
        self.level = hit(np.concatenate(unseen), 10)
        """Hit@10 of comparable never-seen events under Original: a stand-in for Retrain's."""
        self.before = self._measure(self.original.scorer, Cost(), None)

    @property
    def references(self) -> dict[str, Figures]:
        """What ``of NAME`` stands for in objectives and constraints."""
        return {"original": self.before, "never_seen": {FORGET: self.level}}

    @property
    def base(self) -> dict[str, Any]:
        """The method's block as it stands, by dotted key."""
        return flatten(dataclasses.asdict(self.settings))

    def __call__(self, overrides: Mapping[str, Any], tell: Tell) -> Figures:
        """Unlearn with some settings changed, and measure on tune data; by result key."""
        settings = self._with_fewer_looks(with_overrides(self.cell.method, self.settings, overrides))

        def on_epoch(row: Mapping[str, float]) -> None:
            tell(self._with_distance(row))

        with out_of_memory_hint(f"unlearn.{self.cell.method}.batch_size"):
            result = self.method(settings).unlearn(self.original, self.request, self._context(on_epoch))
            return self._measure(result.scorer, result.cost, self.before)

    def about(self, goal: Goal, space: Mapping[str, Domain]) -> dict[str, Any]:
        """What all trials of a study have in common."""
        return {
            "cell": vars(self.cell),
            "goal": describe_goal(goal),
            "space": {key: vars(domain) for key, domain in space.items()},
            "settings": dataclasses.asdict(self.settings),
            "unlearning_seed": self.seed,
            "fingerprint": self.request.data.fingerprint,
            "dataset": self.request.data.info["name"],
            "model": self.original.description["name"],
            "request": self.request.info,
            "original_sha256": self.sha256,
            "level": {FORGET: self.level},
            "original": dict(self.before),
        }

    def _context(self, on_epoch: Callable[[Mapping[str, float]], None]) -> Context:
        return Context.quiet(self.device, self.seed, self.probe, on_epoch=lambda row, epoch, cap: on_epoch(row))

    def _with_fewer_looks(self, settings: Any) -> Any:
        """Settings that do the same: looks of a stop rule are part of a method, and those of ``fixed`` are not."""
        if not hasattr(settings, "evaluate_every") or getattr(settings, "stop", "fixed") != "fixed":
            return settings
        return dataclasses.replace(settings, evaluate_every=self.evaluate_every)

    def _with_distance(self, row: Mapping[str, float]) -> dict[str, float]:
        return {**row, **({DISTANCE: abs(row[FORGET] - self.level)} if FORGET in row else {})}

    def _measure(self, scorer: Scorer, cost: Cost, before: Figures | None) -> dict[str, float]:
        """All result keys; ``before``: those of Original, None for itself."""
        figures: dict[str, float] = {}
        for split in TUNE:
            if split in self.request.splits:
                figures |= self.probe(scorer, split)
        look = self.match.look(scorer, 0)
        figures |= {key: look[key] for key in ("forget_tune/match_ks", "forget_tune/match_better")}
        figures |= _against(figures, before or figures)
        figures["cost/training_epochs"] = cost.target_gradients / self.num_positions
        return self._with_distance(figures)


class _RememberingProbe(Probe):
    """A probe that ranks by the same weights once: by those of Original, where every trial begins, and the latest."""

    def __init__(self, original: Scorer, *settings: Any) -> None:
        super().__init__(*settings)
        self._original, self._latest = _digest(original), b""
        self._known: dict[tuple[bytes, str | int], EventRanks] = {}

    def _ranks(self, scorer: Scorer, what: str | Queries, users: NDArray[np.bool_] | None) -> EventRanks:
        if users is not None:
            return super()._ranks(scorer, what, users)
        weights = _digest(scorer)
        if weights not in (self._original, self._latest):
            self._known = {key: ranks for key, ranks in self._known.items() if key[0] == self._original}
            self._latest = weights
        key = weights, what if isinstance(what, str) else id(what)  # which stay theirs: the probe keeps the queries
        if key not in self._known:
            self._known[key] = super()._ranks(scorer, what, None)
        return copy.deepcopy(self._known[key])


def _digest(scorer: Scorer) -> bytes:
    """Fingerprint of all that a scorer's scores depend on; the same whether an equal output table is tied or not."""
    found = hashlib.blake2b(digest_size=16)
    tensors: list[Any] = [scorer.catalogue, scorer.masked]
    for model in scorer.models:
        weights = {**model.state_dict(), "output.weight": model.output_weight}
        tensors += [weights[name] for name in sorted(weights)]
    for tensor in tensors:
        found.update(b"none" if tensor is None else tensor.detach().cpu().contiguous().numpy())
    return found.digest()


def _against(figures: Figures, before: Figures) -> dict[str, float]:
    """Of a category: the share of its hits that is gone, and the share of the others' that is kept."""
    if INSIDE not in figures or OUTSIDE not in figures:
        return {}
    return {
        "in_category_tune/removal_10": 1 - _ratio(figures[INSIDE], before[INSIDE]),
        "out_of_category_tune/kept_10": _ratio(figures[OUTSIDE], before[OUTSIDE]),
    }


def _ratio(after: float, before: float) -> float:
    return after / before if before else math.nan


def with_overrides(method: str, settings: Any, overrides: Mapping[str, Any]) -> Any:
    """A method's settings with some keys (dotted, from the root) changed; ConfigError where they do not go together."""
    values = {"unlearn": {method: dataclasses.asdict(settings)}}
    for key, value in overrides.items():
        override(values, key, value)
    return build(type(settings), values["unlearn"][method], f"unlearn.{method}")


def make_space(settings: OptimizeConfig, bench: Bench) -> Space:
    """The space of the bench's method; raises ConfigError where there is none."""
    method = bench.cell.method
    return Space(f"unlearn.{method}", bench.base, settings.space.get(method, {}))


def make_goal(settings: OptimizeConfig, bench: Bench) -> Goal:
    """The chosen objectives, with the figures of Original filled in; their keys are checked."""
    goal = read_goal(settings.texts(bench.request.kind), bench.references)
    goal.values(bench.before)
    goal.violations(bench.before)
    return goal


def search(
    bench: Bench, settings: OptimizeConfig, name: str, storage: "BaseStorage", after: Callable[["Study"], object]
) -> "Study":
    """Work on the study of a name until it has its trials; ``after`` follows each."""
    study, space, goal = join(bench, settings, name, storage)
    worker = Search(study, space, goal, settings.limits, settings.sampler, settings.seed)
    worker.run(bench, settings.trials, settings.timeout, lambda: after(study))
    return study


def join(bench: Bench, settings: OptimizeConfig, name: str, storage: "BaseStorage") -> tuple["Study", Space, Goal]:
    """Create the study of a name, or find it; ConfigError where it was begun otherwise."""
    space, goal = make_space(settings, bench), make_goal(settings, bench)
    about = bench.about(goal, settings.space[bench.cell.method])
    return open_study(storage, name, goal, about), space, goal


def report(
    layout: Layout, study: "Study", cells: Mapping[str, Cell], place: str | None, options: Sequence[str]
) -> StudyResult:
    """Write reports/pareto/<study>; ``cells``: rows whose evaluations stand beside the trials where they are there.

    ``place``: the storage, where it is not the study's own journal. ``options``: what lies over params.yaml.
    """
    from srun.reporting.pareto import Again, write_report  # matplotlib, which other stages should not wait for

    result, presets = read_study(study), {}
    for trial in result.trials:
        if trial.state == "complete":
            file = layout.trial_settings(result.name, trial.number)
            write_text(file, _preset(result, trial.number))
            presets[trial.number] = os.path.relpath(file, layout.project)
    again = Again(None if place is None else shown_place(place), options, presets)
    marks = _marks(layout, result, cells)
    write_report(layout.study(result.name), result, importances(study, result.goal), marks, again)
    return result


def track(tracker: StudyTracker, result: StudyResult) -> None:
    """Write finished trials to their nested runs; those on the front are tagged, as long as they are on it."""
    front = {trial.number for trial in result.front}
    for trial in result.trials:
        if trial.state in ("complete", "discarded", "failed"):
            tags = {"front": str(trial.number in front).lower(), "state": trial.state}
            tags |= {"published": "true"} if trial.published else {}
            status = "FAILED" if trial.state == "failed" else "FINISHED"
            metrics = {**trial.figures, **trial.violations}
            tracker.trial(trial.number, status, trial.overrides, metrics, trial.history, tags)


def settings_of(layout: Layout, result: StudyResult, number: int) -> tuple[Cell, Any]:
    """The cell and the settings of a complete trial.

    Raises CheckpointError when the Original or the request is another than the one that was searched on.
    """
    about, cell = result.about, Cell(**result.about["cell"])
    request = Partition.load(layout.partition(cell.request), load_dataset(layout))
    if _plain(request.info) != _plain(about["request"]) or request.data.fingerprint != about["fingerprint"]:
        raise CheckpointError(f'request "{cell.request}" is not the one of study "{result.name}"; search again')
    if weights_sha256(layout.original(cell.original).model) != about["original_sha256"]:
        raise CheckpointError(f'Original "{cell.original}" is not the one of study "{result.name}"; search again')
    base = build(UNLEARNERS[cell.method].Config, about["settings"], f"unlearn.{cell.method}")
    return cell, with_overrides(cell.method, base, result.trial(number).overrides)


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
    about, found = result.about, []
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
        same = record["model"], record["fingerprint"], _plain(record["request"])
        if same != (about["model"], about["fingerprint"], _plain(about["request"])):
            continue
        if not _is_current(paths, record, about):
            log.warning("%s: of another model than the one there is now; left out of the report", file)
        else:
            found.append(Mark(method, seed, trial, _flat(record["metrics"], about["original"])))
    return found


def _is_current(paths: CellPaths, record: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Whether an evaluation is that of the model beside it, and this one of the study's Original, if of that at all."""
    info = read_json(paths.model / "model.json", DataError, REDO)
    cell = record["cell"]
    started_there = cell["original"] == about["cell"]["original"] and not UNLEARNERS[cell["method"]].from_scratch
    other = started_there and info["original_sha256"] != about["original_sha256"]
    return record["weights_sha256"] == weights_sha256(paths.model) and not other


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _flat(metrics: Mapping[str, Mapping[str, float]], original: Figures) -> dict[str, float]:
    """Result keys of an evaluation; of a category also what is kept and removed of Original's."""
    figures = {f"{split}/{name}": value for split, part in metrics.items() for name, value in part.items()}
    return figures | _against(figures, original)
