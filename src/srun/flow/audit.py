"""`srun audit`: one published model put through every test there is, beside its Original and the Retrains."""

import json
import logging
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from srun.config import build
from srun.data.sequences import Queries
from srun.errors import DataError
from srun.evaluation.evaluate import EvaluateConfig
from srun.evaluation.held_contexts import held_contexts, measure_contexts
from srun.evaluation.relearning import WAYS, RelearningConfig, Way, relearn
from srun.evaluation.side_effects import SideEffects
from srun.evaluation.signals import signals
from srun.evaluation.way_back import alike, barrier, distance, retained_windows
from srun.files import read_json, write_text
from srun.flow.cells import Cell
from srun.flow.judge import read_original, read_record, read_records, to_judge
from srun.flow.layout import CellPaths, Layout
from srun.flow.loading import load_dataset, weights_sha256
from srun.flow.oracle import SET_ASIDE, Oracle, scored_events
from srun.judging.audit import (
    RELEARNING,
    Audit,
    NotTested,
    Relearned,
    answers,
    figures,
    judged,
    membership_figures,
    plain,
    relearned,
    relearning_of,
)
from srun.judging.records import ERROR_RATE, KINDS, RECOVERED, SPLIT, Group, Record, Trained, group_records
from srun.judging.styles import ORIGINAL
from srun.judging.verdict import power_lacks, tests_text
from srun.metrics.bootstrap import Bounded
from srun.metrics.forgetting import MIN_RETRAINS
from srun.metrics.intervals import membership_intervals, model_scores
from srun.metrics.membership import Events, Floats, Membership, Signals, membership
from srun.metrics.memory import z_rank
from srun.models.published import load_published
from srun.models.scorer import Scorer
from srun.progress import Budget
from srun.reporting.audit import render
from srun.requests.partition import Partition
from srun.rng import numpy_stream
from srun.system.devices import RuntimeConfig, out_of_memory_hint, start
from srun.tables import write_parquet
from srun.tracking import Tracker
from srun.training.fit import TrainConfig
from srun.unlearning.closed_form.features import RetainedFeatures

log = logging.getLogger("srun")

Measured = dict[str, dict[str, float]]
"""Cell -> ``<split>/<metric>`` -> value."""
NEVER_SEEN = "never_seen_audit"
"""Split of the never-seen events that only an audit may touch, in the table of single events."""
HEADLINE = (
    *("test/ndcg_10", "forget_report/hit_10", "by_event/event_corr"),
    *("by_event/memory_left", "membership/lira_auc"),
)
"""Figures that the tracker is told."""


@dataclass
class Subject:
    """Model and references, and what is measured of them so far."""

    group: Group
    record: Record
    folder: str
    """Of the model, from the root of the project."""
    request: Partition
    scorers: Mapping[str, Scorer]
    """The model's, the Originals' and the Retrains', by cell."""
    original: Scorer
    """What the model came from."""
    settings: EvaluateConfig
    device: torch.device
    features: RetainedFeatures
    measured: Measured = field(default_factory=dict)
    memberships: dict[str, dict[str, Membership]] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """``<split>/<metric>`` of the model -> ends of its 95 % interval over users."""
    told: dict[str, Signals] = field(default_factory=dict)
    """By cell the signals of all attacked events."""
    attacked: Events | None = None
    """Which of the signals' events is what."""
    scores: dict[str, Floats] = field(default_factory=dict)
    """Attack -> (Q,) what it says of each attacked event under the model, the mean over left-out Retrains."""
    relearning: dict[str, Relearned] = field(default_factory=dict)
    oracle: Oracle | None = None
    """Whose Retrains and Originals the references are; None where they are those of the flow."""

    def unmeasured(self, split: str) -> dict[str, Scorer]:
        """The models of which the oracle does not have the figures of a split already."""
        known = {cell for cell, row in self.measured.items() if any(key.startswith(f"{split}/") for key in row)}
        return {cell: scorer for cell, scorer in self.scorers.items() if cell not in known}

    def add(self, cell: str, split: str, values: Mapping[str, float]) -> None:
        """Note figures of a cell."""
        row = self.measured.setdefault(cell, {})
        row.update({f"{split}/{name}": value for name, value in values.items()})

    def add_bounded(self, cell: str, split: str, values: Mapping[str, Bounded]) -> None:
        """Note figures of a cell, with the intervals of the model's own."""
        self.add(cell, split, {name: figure.value for name, figure in values.items()})
        if cell == self.record.cell:
            self.intervals |= {f"{split}/{name}": (figure.low, figure.high) for name, figure in values.items()}


def cell_of(folder: Path, layout: Layout, cells: Mapping[str, Cell]) -> str:
    """The name of the cell whose model lies in ``folder``; DataError where it is none's, or of a category."""
    wanted = folder.resolve()
    for name, cell in cells.items():
        if layout.cell(cell).model.resolve() == wanted:
            return name
    raise DataError(
        f"{folder}: not the model of a cell of these parameters, which lie in {layout.root / 'models'}; give a cell's "
        "name, or a folder such as models/sasrec-0/core/sruga-0, with the --params and --out it was made with"
    )


def run(
    layout: Layout,
    name: str,
    cells: Mapping[str, Cell],
    settings: EvaluateConfig,
    runtime: RuntimeConfig,
    tracker: Tracker,
    *,
    relearning: RelearningConfig | None = None,
    budget: Budget | None = None,
    options: Sequence[str] = (),
    oracle: Oracle | None = None,
) -> Audit:
    """Audit the model of cell ``name``; references are those of ``cells`` (same request and model) with an evaluation.

    With an ``oracle`` its Retrains and Originals are the references in place of the flow's own.

    Writes NAME.json, NAME.html and NAME.parquet into reports/audit. ``relearning``: how that is measured, if it is.
    ``budget``: a test is begun only while there is some left. ``options``: words that commands which are shown need.
    Raises DataError for a category, and where the model itself was not evaluated.
    """
    device = start(runtime)
    subject = _subject(layout, name, cells, settings, device, options, oracle)
    command = to_judge(subject.group, [cell for key, cell in cells.items() if key not in subject.scorers], options)
    tests = dict(TESTS)
    if relearning is not None:
        own = replace(relearning, kinds=("interactions", "users"))
        tests |= {f"{RELEARNING} ({way})": partial(_relearning, way=way, settings=own, budget=budget) for way in WAYS}
    with out_of_memory_hint("evaluate.batch_size"):
        not_tested = _carry_out(subject, tests, budget, command, options)
    not_tested += _never_measured(subject, command, options, with_relearning=relearning is not None)
    audit = _said(subject, weights_sha256(layout.cell(cells[name]).model), not_tested)
    values = as_json(audit)
    file, page, table = layout.audit_files(name)
    write_text(file, json.dumps(values, indent=1) + "\n")
    write_text(page, render(values))
    write_parquet(table, by_event(subject))
    tracker.params({"verdict": audit.verdict.text})
    tracker.metrics({f"audit/{key}": audit.figures[key].value for key in HEADLINE if key in audit.figures})
    for path in (file, page):  # the table says which user's events were asked for, and stays
        tracker.artifact(path, "audit")
    return audit


def model_run(paths: CellPaths) -> dict[str, str]:
    """The tag that names the tracked run that made a cell's model; none where it was not tracked."""
    if not paths.run.is_file():
        return {}
    run_id = read_json(paths.run, DataError, "remove it").get("mlflow_run_id")
    return {"srun.audited_run": str(run_id)} if run_id else {}


def _carry_out(
    subject: Subject,
    tests: Mapping[str, Callable[[Subject], str]],
    budget: Budget | None,
    command: str,
    options: Sequence[str],
) -> list[NotTested]:
    """Carry out the tests in their order; returns those that were not, or that tell nothing, and why."""
    not_tested = []
    for test, carry_out in tests.items():
        if budget is not None and budget.spent:
            not_tested.append(_unpaid(subject, test, budget, options))
        elif not len(subject.request.queries(SPLIT)):
            not_tested.append(NotTested(test, "no forgotten event of a report user has a context"))
        elif not (missing := carry_out(subject)):
            log.info("audit %s: %s is measured", subject.record.cell, test)
        elif budget is not None and missing == OUT_OF_BUDGET:
            not_tested.append(_unpaid(subject, test, budget, options))
        else:
            not_tested.append(NotTested(test, missing, command))
    return not_tested


def _unpaid(subject: Subject, test: str, budget: Budget, options: Sequence[str]) -> NotTested:
    flag = ["--relearning"] if test.startswith(RELEARNING) else []
    again = shlex.join(["srun", "audit", subject.record.cell, *flag, *options])
    return NotTested(test, f"the budget of {budget.minutes:g} minutes was spent", again)


def _said(subject: Subject, weights: str, not_tested: Sequence[NotTested]) -> Audit:
    """Everything that is said of the model, from what was measured."""
    record, events = subject.record, subject.request.queries(SPLIT)
    group = replace(subject.group, memberships=subject.memberships, signals=subject.told, attacked=subject.attacked)
    said = judged(group, record)
    shown = figures(group, record, subject.measured, subject.intervals, subject.settings.seed)
    return Audit(
        model=subject.folder,
        weights_sha256=weights,
        cell=record.cell,
        method=record.method,
        request=record.request,
        num_users=len(np.unique(events.user)),
        num_events=len(events),
        num_retrains=len(_retrains(subject, record)),
        num_originals=len(group.of(ORIGINAL)),
        verdict=said,
        plain=plain(said),
        answers=answers(said, shown),
        tests=tests_text(group),
        error_rate=ERROR_RATE,
        num_tests=group.num_tests(record),
        seeds=_seeds(subject),
        figures=shown,
        relearning=subject.relearning,
        not_tested=tuple(not_tested),
        oracle=None if subject.oracle is None else subject.oracle.text,
    )


def _seeds(subject: Subject) -> dict[str, Any]:
    """Every seed that had a part in what is said."""
    record, group = subject.record, subject.group
    originals = {trained.name: trained.info["seed"] for trained in group.originals}
    return {
        "originals": {row.cell: originals[row.original] for row in group.of(ORIGINAL)},
        "retrains": {row.cell: row.seed for row in _retrains(subject, record)},
        "original_of_model": originals[record.original],
        "data": record.info["prepare"]["seed"],
        "request": record.partition["request"]["seed"],
        "unlearning": record.info["unlearning_seed"],
        "evaluation": subject.settings.seed,
        "audit": subject.settings.seed,
    }


def by_event(subject: Subject) -> pd.DataFrame:
    """A row an attacked event: ``split``, ``event``, ``user`` (dense ids), and what the model and its references say.

    ``z_rank`` of the model, ``z_rank_retrain`` (mean over the Retrains), ``z_rank_original`` (of its own Original);
    ``lira`` and ``rmia``, the higher the likelier forgotten. Forgotten events of report users come first, in the order
    of the evaluation; then never-seen ones for audits only. NaN where something was not measured.
    """
    record, forgotten = subject.record, subject.request.queries(SPLIT)
    asides = subject.request.never_trained(audit=True)
    attacked = bool(subject.scores)
    parts = [(SPLIT, forgotten), *([(NEVER_SEEN, asides)] if attacked else [])]
    number, rows = sum(len(queries) for _, queries in parts), slice(0, len(forgotten))
    columns = {name: np.full(number, math.nan) for name in ("z_rank", "z_rank_retrain", "z_rank_original")}

    def z_of(row: Record) -> Floats:
        z = np.full(number, math.nan)
        if attacked:
            z[:] = z_rank(subject.told[row.cell].rank[:number], subject.scorers[row.cell].num_items)
        if SPLIT in row.events and row.num_items is not None:
            z[rows] = z_rank(row.events[SPLIT].rank, row.num_items)
        return z

    columns["z_rank"] = z_of(record)
    if retrains := _retrains(subject, record):
        columns["z_rank_retrain"] = np.mean([z_of(row) for row in retrains], axis=0)
    if (own := _own_original(subject)) is not None:
        columns["z_rank_original"] = z_of(own)
    for attack in ("lira", "rmia"):
        columns[attack] = subject.scores[attack][:number] if attacked else np.full(number, math.nan)
    names: dict[str, Any] = {
        "split": np.repeat([split for split, _ in parts], [len(queries) for _, queries in parts]),
        "event": np.concatenate([queries.event for _, queries in parts]).astype(np.int64),
        "user": np.concatenate([queries.user for _, queries in parts]).astype(np.int64),
    }
    return pd.DataFrame({**names, **columns})


def as_json(audit: Audit) -> dict[str, Any]:
    """The audit as JSON; a number that is not finite is null."""
    values: dict[str, Any] = _finite(asdict(audit))
    values["verdict"] |= {"text": audit.verdict.text, "provisional": audit.verdict.provisional}
    values["verdict"]["qualified"] = audit.verdict.qualified
    return values


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _subject(
    layout: Layout,
    name: str,
    cells: Mapping[str, Cell],
    settings: EvaluateConfig,
    device: torch.device,
    options: Sequence[str],
    oracle: Oracle | None,
) -> Subject:
    """What is tested and what it is held against; only cells that are evaluated."""
    read_record(layout, name, cells[name], options)  # says how to evaluate it where it is not
    data = load_dataset(layout)
    request = Partition.load(layout.partition(cells[name].request), data)
    if request.kind not in KINDS:
        raise DataError(
            f'request "{cells[name].request}": it forgets a category, and an audit is for requests of interactions or '
            "users; `srun report` shows what is measured of a category"
        )
    records, originals, models = _references(layout, name, cells, options, oracle)
    [group] = group_records(records, originals)
    record = next(row for row in group.records if row.cell == name)
    wanted = [record, *group.of(ORIGINAL), *group.retrains]
    scorers = {row.cell: load_published(models[row.cell], device)[0] for row in wanted}
    original = load_published(layout.original(record.original).model, device, "train")[0]
    features = RetainedFeatures(request, settings.seed)
    folder = str(layout.cell(cells[name]).model.relative_to(layout.root))
    subject = Subject(group, record, folder, request, scorers, original, settings, device, features, oracle=oracle)
    if oracle is not None:
        for member in oracle.rows:
            for split, values in oracle.figures[member.name].items():
                subject.add(member.row, split, values)
    return subject


def _references(
    layout: Layout, name: str, cells: Mapping[str, Cell], options: Sequence[str], oracle: Oracle | None
) -> tuple[list[Record], list[Trained], dict[str, Path]]:
    """Records of the model and of what it is held against, the Originals of these, and by cell where models lie.

    Those of an oracle come in place of the flow's own, not beside them: so what is said of a model does not depend on
    which other cells happen to be evaluated, and all methods are judged by the same. The model's own Original stays.
    """
    own, chosen = cells[name], dict(cells)
    if oracle is not None:
        original = {key: cell for key, cell in cells.items() if cell.method == ORIGINAL}
        chosen = {key: cell for key, cell in original.items() if cell.original == own.original} | {name: own}
    records, _ = read_records(layout, chosen, options)
    originals = [read_original(layout, other) for other in dict.fromkeys(record.original for record in records)]
    models = {key: layout.cell(cell).model for key, cell in chosen.items()}
    if oracle is None:
        return records, originals, models
    rows = oracle.cells
    references, missing = read_records(oracle.layout, rows, options)
    if missing:
        raise DataError("; ".join(missing.values()))
    originals += [read_original(oracle.layout, other) for other in dict.fromkeys(row.original for row in references)]
    models |= {key: oracle.layout.cell(cell).model for key, cell in rows.items()}
    return [*records, *references], originals, models


def _retrains(subject: Subject, record: Record) -> list[Record]:
    return [row for row in subject.group.retrains if row.cell != record.cell]


def _own_original(subject: Subject) -> Record | None:
    """The row of the Original that the model came from."""
    rows = (row for row in subject.group.of(ORIGINAL) if row.original == subject.record.original)
    return next(rows, None)


def _membership(subject: Subject) -> str:
    """Membership attacks on the model, and on the Originals, which must be told; what is missing for them, else ""."""
    if len(_retrains(subject, subject.record)) < MIN_RETRAINS:
        return f"{len(_retrains(subject, subject.record))} of {MIN_RETRAINS} Retrains beside it"
    asked = scored_events(subject.request)
    if not len(asked[SET_ASIDE]):
        return "no event was set aside for an audit (prepare.calibration_events)"
    oracle, events = subject.oracle, _events(asked)
    subject.attacked = events
    subject.told = told = {} if oracle is None else oracle.all_signals(asked)
    for name, scorer in subject.scorers.items():
        if name not in told:
            told[name] = signals_of(scorer, asked.values(), subject.settings, subject.device)
    seen = {} if oracle is None else {one.row: told[one.row] for one in oracle.of("original")}
    for row in (subject.record, *(other for other in subject.group.of(ORIGINAL) if other is not subject.record)):
        retrains = [told[other.cell] for other in _retrains(subject, row)]
        rng = numpy_stream(subject.settings.seed, f"membership/{row.cell}")
        others = [said for name, said in seen.items() if name != row.cell]
        subject.memberships[row.cell] = membership(told[row.cell], retrains, events, rng, others)
        subject.add(row.cell, "membership", membership_figures(subject.memberships[row.cell]))
    retrains = [told[row.cell] for row in _retrains(subject, subject.record)]
    scores = model_scores(told[subject.record.cell], retrains, events, list(seen.values()))
    rng = numpy_stream(subject.settings.seed, f"membership_intervals/{subject.record.cell}")
    bounds = membership_intervals(scores, events, rng)
    subject.intervals |= {f"membership/{name}": ends for name, ends in bounds.items()}
    subject.scores = {attack: rows.mean(0) for attack, rows in scores.items()}
    return ""


def signals_of(scorer: Scorer, events: Iterable[Queries], settings: EvaluateConfig, device: torch.device) -> Signals:
    """What a model says of events (Q,), one split after the other."""
    parts = [signals(scorer, queries, settings.batch_size, device) for queries in events]
    names = ("log_p", "z_logit", "rank")
    return Signals(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _events(queries_by_split: Mapping[str, Queries]) -> Events:
    """Which row of the signals is what; the population is of its own where there is one, else the non-members."""
    split = np.repeat(list(queries_by_split), [len(queries) for queries in queries_by_split.values()])
    member, other = split == SPLIT, split == SET_ASIDE
    apart = ~(member | other)
    users = np.concatenate([queries.user for queries in queries_by_split.values()])
    return Events(member, other, apart if apart.any() else other, users.astype(np.int64))


def _contexts(subject: Subject) -> str:
    """Forgotten events after contexts that nobody trained on."""
    scorers = subject.unmeasured("contexts")
    figures = contexts_of(scorers, subject.request, subject.features, subject.settings, subject.device)
    for name, values in figures.items():
        subject.add_bounded(name, "contexts", values)
    return ""


def contexts_of(
    scorers: Mapping[str, Scorer],
    request: Partition,
    features: RetainedFeatures,
    settings: EvaluateConfig,
    device: torch.device,
) -> dict[str, dict[str, Bounded]]:
    """Figures of forgotten events after contexts that nobody trained on, of every model by its name."""
    ways = held_contexts(request, features, numpy_stream(settings.seed, "held_contexts"))
    figures = {}
    for name, scorer in scorers.items():
        rng = numpy_stream(settings.seed, f"contexts/{name}")
        figures[name] = measure_contexts(scorer, ways, settings.batch_size, device, rng)
    return figures


def _side_effects(subject: Subject) -> str:
    """Neighbours, rare items, similar users, the worst served, and what lists show."""
    if not len(subject.request.queries("test")):
        return "no test target is left"
    scorers = subject.unmeasured("side_effects")
    effects = side_effects_of(scorers, subject.request, subject.features, subject.settings, subject.device)
    for name, values in effects.items():
        subject.add_bounded(name, "side_effects", values)
    return ""


def side_effects_of(
    scorers: Mapping[str, Scorer],
    request: Partition,
    features: RetainedFeatures,
    settings: EvaluateConfig,
    device: torch.device,
) -> dict[str, dict[str, Bounded]]:
    """Figures of side effects, of every model by its name; empty ones where no test target is left."""
    if not len(request.queries("test")):
        return {name: {} for name in scorers}
    effects = SideEffects.of(request, features, settings.batch_size, device)
    return {
        name: effects.measure(scorer, numpy_stream(settings.seed, f"side_effects/{name}"))
        for name, scorer in scorers.items()
    }


def _distance(subject: Subject) -> str:
    """L2 distance to Original over the Retrains' mean."""
    return _way_back(subject, "distance", distance)


def _barrier(subject: Subject) -> str:
    """Loss barrier on the straight line to Original."""
    seed = subject.settings.seed
    windows = retained_windows(subject.request, seed, subject.device)
    return _way_back(subject, "barrier", lambda model, original: barrier(model, original, windows, seed))


def _way_back(subject: Subject, name: str, measure: Callable[[Any, Any], float]) -> str:
    """Measure model and Retrains against Original, over the Retrains' mean as ``<name>_ratio`` too."""
    rows = [subject.record, *_retrains(subject, subject.record)]
    if len(subject.original.models) > 1 or any(len(subject.scorers[row.cell].models) > 1 for row in rows):
        return "of several models, which have no one place"
    original, *models = alike([subject.original.model, *(subject.scorers[row.cell].model for row in rows)])
    values = [measure(model, original) for model in models]
    for row, value in zip(rows, values, strict=True):
        subject.add(row.cell, "way_back", {name: value})
    if len(values) > 1 and np.mean(values[1:]) > 0:
        subject.add(subject.record.cell, "way_back", {f"{name}_ratio": values[0] / float(np.mean(values[1:]))})
    return ""


OUT_OF_BUDGET = "the budget was spent"


def _relearning(subject: Subject, way: Way, settings: RelearningConfig, budget: Budget | None) -> str:
    """Steps to bring forgotten events back by training in one way; each curve is begun only within the budget."""
    own, retrains = _own_original(subject), _retrains(subject, subject.record)
    if own is None or not retrains:
        return "it needs a cell of its Original and one of a Retrain"
    curves = {}
    for cell in dict.fromkeys(row.cell for row in (subject.record, own, *retrains)):
        if budget is not None and budget.spent:
            return OUT_OF_BUDGET
        curve = _curve(subject, cell, way, settings)
        if curve is None:
            return f"{cell} is of several models, or there are no events to train on"
        curves[cell] = curve
    rows = {
        row.cell: replace(row, relearning={way: curves[row.cell]})
        for row in subject.group.records
        if row.cell in curves
    }
    record, original = rows[subject.record.cell], rows[own.cell]
    others = [rows[row.cell] for row in retrains]
    for row in rows.values():
        beside = [other for other in others if other is not row]
        subject.add(row.cell, RELEARNING, relearned(way, row, original, beside) if beside else {})
    subject.relearning[way] = shown = relearning_of(way, record, original, others)
    below = subject.measured[record.cell][f"{RELEARNING}/{way}_original_below_at"]
    if shown.valid:
        return ""
    return f"Original falls below the threshold after {below:g} steps" if below < math.inf else "Original has no lead"


def _curve(subject: Subject, cell: str, way: Way, settings: RelearningConfig) -> Mapping[str, Sequence[float]] | None:
    """Hit@10 by step of a cell's model, from its evaluation or measured now; None where it has none."""
    record = next(row for row in subject.group.records if row.cell == cell)
    if way in record.relearning:
        return record.relearning[way]
    recipe = build(TrainConfig, record.info["train"], "train")
    seed, batch_size = subject.settings.seed, subject.settings.batch_size
    scorer, chosen = subject.scorers[cell], replace(settings, ways=(way,))
    curves = relearn(scorer, subject.request, recipe, chosen, seed, subject.device, batch_size)
    return vars(curves[way]) if way in curves else None


TESTS: Mapping[str, Callable[[Subject], str]] = {
    "membership": _membership,
    "contexts": _contexts,
    "side effects": _side_effects,
    "distance": _distance,
    "barrier": _barrier,
}
"""In the order in which a budget is spent; each returns what it lacks, or ""."""


def _never_measured(subject: Subject, command: str, options: Sequence[str], with_relearning: bool) -> list[NotTested]:
    """What no test of this audit measured, and how to have it."""
    record, words = subject.record, ["srun", "run", *options]
    missing = []
    if len(_retrains(subject, record)) < MIN_RETRAINS:
        missing.append(NotTested("verdict", f"fewer than {MIN_RETRAINS} Retrains beside it", command))
    if RECOVERED not in record.metrics:
        several = len(subject.scorers[record.cell].models) > 1
        why = "its file is of several models" if several else "its file was not attacked"
        attack = "" if several else shlex.join([*words, "--set", "evaluate.recovery=true"])
        missing.append(NotTested("recovered", why, attack))
    if record.value("by_event", "memory_left") is None:
        missing.append(NotTested("memory_left", "it needs Originals of two seeds, each with a cell, and Retrains"))
    if not with_relearning:
        again = shlex.join(["srun", "audit", record.cell, "--relearning", *options])
        missing.append(NotTested(RELEARNING, "it trains, and was not asked for", again))
    if subject.group.references is None:
        missing.append(NotTested("power", power_lacks(subject.group)))
    elif RECOVERED in record.metrics:
        missing.append(NotTested("power of the file's part", "it needs mixed models, not mixed ranks"))
    missing.append(NotTested("klom", "it judges a recipe: srun audit --ensemble"))
    return missing
