"""`srun audit`: one published model put through every test there is, beside its Original and the Retrains."""

import json
import logging
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from srun.data.sequences import Queries
from srun.errors import DataError
from srun.evaluation.evaluate import EvaluateConfig
from srun.evaluation.held_contexts import held_contexts, measure_contexts
from srun.evaluation.side_effects import SideEffects
from srun.evaluation.signals import signals
from srun.evaluation.way_back import alike, barrier, distance, retained_windows
from srun.files import write_text
from srun.flow.cells import Cell
from srun.flow.judge import read_original, read_record, read_records, to_judge
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset
from srun.judging.audit import Audit, NotTested, figures, judged, membership_figures
from srun.judging.records import KINDS, RECOVERED, SPLIT, Group, Record, group_records
from srun.judging.styles import ORIGINAL
from srun.judging.verdict import tests_text
from srun.metrics.forgetting import MIN_RETRAINS
from srun.metrics.membership import Events, Membership, Signals, membership
from srun.models.published import load_published
from srun.models.scorer import Scorer
from srun.progress import Budget
from srun.reporting.audit import render
from srun.requests.partition import Partition
from srun.rng import numpy_stream
from srun.system.devices import RuntimeConfig, out_of_memory_hint, start
from srun.unlearning.closed_form.features import RetainedFeatures

log = logging.getLogger("srun")

Measured = dict[str, dict[str, float]]
"""Cell -> ``<split>/<metric>`` -> value."""


@dataclass
class Subject:
    """Model and references, and what is measured of them so far."""

    group: Group
    record: Record
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

    def add(self, cell: str, split: str, values: Mapping[str, float]) -> None:
        """Note figures of a cell."""
        row = self.measured.setdefault(cell, {})
        row.update({f"{split}/{name}": value for name, value in values.items()})


def cell_of(folder: Path, layout: Layout, cells: Mapping[str, Cell]) -> str:
    """The name of the cell whose model lies in ``folder``; DataError where it is none's, or of a category."""
    wanted = folder.resolve()
    for name, cell in cells.items():
        if layout.cell(cell).model.resolve() == wanted:
            return name
    raise DataError(
        f"{folder}: not the model of a cell of these parameters, which lie in {layout.root / 'models'}; give a folder "
        "such as models/sasrec-0/core/sruga-0, with the --params and --out that it was made with"
    )


def run(
    layout: Layout,
    name: str,
    cells: Mapping[str, Cell],
    settings: EvaluateConfig,
    runtime: RuntimeConfig,
    budget: Budget | None = None,
    options: Sequence[str] = (),
) -> Audit:
    """Audit the model of cell ``name``; references are those of ``cells`` (same request and model) with an evaluation.

    Writes reports/audit/NAME.json and NAME.html. ``budget``: a test is begun only while there is some left.
    ``options``: words that commands which are shown need. Raises DataError for a category, and where the model itself
    was not evaluated.
    """
    device = start(runtime)
    subject = _subject(layout, name, cells, settings, device, options)
    command = to_judge(subject.group, [cell for key, cell in cells.items() if key not in subject.scorers], options)
    not_tested: list[NotTested] = []
    with out_of_memory_hint("evaluate.batch_size"):
        for test, carry_out in TESTS.items():
            if budget is not None and budget.spent:
                again = shlex.join(["srun", "audit", str(layout.cell(cells[name]).model), *options])
                not_tested.append(NotTested(test, f"the budget of {budget.minutes:g} minutes was spent", again))
            elif missing := carry_out(subject):
                not_tested.append(NotTested(test, missing, command))
            else:
                log.info("audit %s: %s is measured", name, test)
    group = replace(subject.group, memberships=subject.memberships)
    not_tested += _never_measured(subject, command, options)
    events = subject.request.queries(SPLIT)
    audit = Audit(
        model=_shown_path(layout, layout.cell(cells[name]).model),
        cell=name,
        method=subject.record.method,
        request=subject.record.request,
        num_users=len(np.unique(events.user)),
        num_events=len(events),
        num_retrains=len(_retrains(subject, subject.record)),
        num_originals=len(group.of(ORIGINAL)),
        verdict=judged(group, subject.record),
        tests=tests_text(group),
        figures=figures(group, subject.record, subject.measured),
        not_tested=tuple(not_tested),
    )
    values = as_json(audit)
    write_text(layout.audit(name), json.dumps(values, indent=1) + "\n")
    write_text(layout.audit(name).with_suffix(".html"), render(values))
    return audit


def as_json(audit: Audit) -> dict[str, Any]:
    """The audit as JSON; a number that is not finite is null."""
    values: dict[str, Any] = _finite(asdict(audit))
    values["verdict"] |= {"text": audit.verdict.text, "provisional": audit.verdict.provisional}
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
    if not len(request.queries(SPLIT)):
        raise DataError(f'request "{cells[name].request}": no forgotten event of a report user has a context')
    records, _ = read_records(layout, cells, options)
    originals = [read_original(layout, other) for other in dict.fromkeys(record.original for record in records)]
    [group] = group_records(records, originals)
    record = next(row for row in group.records if row.cell == name)
    wanted = [record, *group.of(ORIGINAL), *group.retrains]
    scorers = {row.cell: load_published(layout.cell(cells[row.cell]).model, device)[0] for row in wanted}
    original = load_published(layout.original(record.original).model, device, "train")[0]
    features = RetainedFeatures(request, settings.seed)
    return Subject(group, record, request, scorers, original, settings, device, features)


def _retrains(subject: Subject, record: Record) -> list[Record]:
    return [row for row in subject.group.retrains if row.cell != record.cell]


def _membership(subject: Subject) -> str:
    """Membership attacks on the model, and on the Originals, which must be told; what is missing for them, else ""."""
    if len(_retrains(subject, subject.record)) < MIN_RETRAINS:
        return f"{len(_retrains(subject, subject.record))} of {MIN_RETRAINS} Retrains beside it"
    asides = subject.request.never_trained(audit=True)
    if not len(asides):
        return "no event was set aside for an audit (prepare.calibration_events)"
    told = {name: _signals(subject, scorer, asides) for name, scorer in subject.scorers.items()}
    events = _events(subject, asides)
    for row in (subject.record, *(other for other in subject.group.of(ORIGINAL) if other is not subject.record)):
        retrains = [told[other.cell] for other in _retrains(subject, row)]
        rng = numpy_stream(subject.settings.seed, f"membership/{row.cell}")
        subject.memberships[row.cell] = membership(told[row.cell], retrains, events, rng)
        subject.add(row.cell, "membership", membership_figures(subject.memberships[row.cell]))
    return ""


def _signals(subject: Subject, scorer: Scorer, asides: Queries) -> Signals:
    parts = [
        signals(scorer, queries, subject.settings.batch_size, subject.device)
        for queries in (subject.request.queries(SPLIT), asides, *_population(subject.request))
    ]
    names = ("log_p", "z_logit", "rank")
    return Signals(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _population(request: Partition) -> list[Queries]:
    """Never-seen events of users who never trained, where there are some: nobody's, so not the attacked ones."""
    both = [request.queries(f"never_seen_{half}") for half in ("tune", "report")]
    return both if any(map(len, both)) else []


def _events(subject: Subject, asides: Queries) -> Events:
    """Which row of the signals is what; the population is of its own where there is one, else the non-members."""
    forgotten, population = subject.request.queries(SPLIT), _population(subject.request)
    sizes = [len(forgotten), len(asides), sum(map(len, population))]
    member, other, apart = (np.repeat(np.arange(3), sizes) == sort for sort in range(3))
    users = np.concatenate([queries.user for queries in (forgotten, asides, *population)])
    return Events(member, other, apart if apart.any() else other, users.astype(np.int64))


def _contexts(subject: Subject) -> str:
    """Forgotten events after contexts that nobody trained on."""
    rng = numpy_stream(subject.settings.seed, "held_contexts")
    ways = held_contexts(subject.request, subject.features, rng)
    for name, scorer in subject.scorers.items():
        subject.add(name, "contexts", measure_contexts(scorer, ways, subject.settings.batch_size, subject.device))
    return ""


def _side_effects(subject: Subject) -> str:
    """Neighbours, rare items, similar users, the worst served, and what lists show."""
    if not len(subject.request.queries("test")):
        return "no test target is left"
    effects = SideEffects.of(subject.request, subject.features, subject.settings.batch_size, subject.device)
    for name, scorer in subject.scorers.items():
        subject.add(name, "side_effects", effects.measure(scorer))
    return ""


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


TESTS: Mapping[str, Callable[[Subject], str]] = {
    "membership": _membership,
    "contexts": _contexts,
    "side effects": _side_effects,
    "distance": _distance,
    "barrier": _barrier,
}
"""In the order in which a budget is spent; each returns what it lacks, or ""."""


def _never_measured(subject: Subject, command: str, options: Sequence[str]) -> list[NotTested]:
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
    if not record.relearning:
        kinds = shlex.join([*words, "--set", f"relearning.kinds=[{record.kind}]"])
        missing.append(NotTested("relearning", "it was not measured", kinds))
    missing.append(NotTested("power", "how little of Original would be seen is not known"))
    missing.append(NotTested("klom", "it judges a recipe: 32 runs from as many Originals, and 32 Retrains"))
    return missing


def _shown_path(layout: Layout, folder: Path) -> str:
    return str(folder.relative_to(layout.root))
