"""What was measured: a record for each cell, and a group for the cells of one model and one request.

Figures that need other cells are added here: removal of a category, relearning, the linear probe.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srun.errors import DataError
from srun.evaluation.linear_probe import nearer
from srun.judging.by_event import Witness, event_figures
from srun.judging.styles import MASKS, ORIGINAL, RAW, REFERENCE, method_order
from srun.metrics.forgetting import ForgetQuality, LevelError, judge, ks_of_shift
from srun.metrics.membership import Events, Membership, MembershipQuality, Signals, judge_membership
from srun.metrics.memory import MemoryQuality, memory_limit, user_draws
from srun.metrics.power import (
    LEAST_RETRAINS,
    WAYS,
    Attacked,
    Failures,
    References,
    failures,
    mixtures,
    simulated_failures,
)
from srun.metrics.ranking import EventRanks
from srun.metrics.recovered import FileQuality, judge_file
from srun.rng import numpy_stream

SPLIT, METRIC = "forget_report", "hit_10"
RECOVERED, BY_EVENT = "recovered", "by_event"
"""Splits of figures that are no ranks: what attacks on a file have back; what single events tell."""
ERROR_RATE = 0.05
"""The chance that chance alone fails a row, shared out among the tests that its verdict joins."""
KINDS = ("interactions", "users")
"""Requests whose reference is Retrain's own forget hit; a category has others (removal rate, relearning)."""

Metrics = Mapping[str, Mapping[str, float]]
History = list[dict[str, float]]


@dataclass(frozen=True)
class LinearProbeScores:
    """What a linear probe says of report users' test targets (Q,): see ``evaluation.linear_probe``."""

    user: NDArray[np.int64]
    score: NDArray[np.float64]
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class Trained:
    """A model trained on everything, before any request."""

    name: str
    """Its entry of ``originals`` in params.yaml."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """Seed, shards, cost and recipe of the published model."""
    measured: Mapping[str, float] | None = None
    history: History = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """A cell's evaluation, cost and curves."""

    cell: str
    """Its name in params.yaml."""
    request: str
    model: str
    method: str
    original: str
    """The entry of ``originals`` it starts from."""
    seed: int
    dataset: str
    fingerprint: str
    partition: Mapping[str, Any]
    """The request as it was carried out, with its counts."""
    metrics: Metrics
    """``metrics[split][metric]``"""
    untrained_raw: Metrics | None
    counts: Mapping[str, float]
    """The cost's exact part: epochs, steps, target gradients."""
    measured: Mapping[str, float] | None
    """Its other part, seconds and memory; None where nothing was measured, as after a restore from a cache."""
    machine: Mapping[str, str] | None
    info: Mapping[str, Any] = field(default_factory=dict)
    """Settings, recipe and versions of the published model."""
    history: History = field(default_factory=list)
    events: Mapping[str, EventRanks] = field(default_factory=dict, repr=False)
    """Ranks by split; a split without events is not there."""
    features: NDArray[np.float64] | None = field(default=None, repr=False)
    """(Q, X) what retained data say of each forgotten event of report users; of an Original alone."""
    linear_probe: LinearProbeScores | None = field(default=None, repr=False)
    """Of a category request."""
    relearning: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    """Way of relearning -> ``steps`` and ``hit_10`` at each; empty where it was not measured."""

    @property
    def kind(self) -> str:
        return str(self.partition["request"]["kind"])

    @property
    def num_items(self) -> int | None:
        """How many items its model ranks; None where it does not say."""
        models = self.info.get("models")
        return int(models[0]["num_items"]) if models else None

    @property
    def recovered(self) -> dict[str, float]:
        """Hit@10 of forgotten events after each attack on its file, by attack; empty where it was not attacked."""
        end = f"_{METRIC}"
        figures = self.metrics.get(RECOVERED, {})
        return {name.removesuffix(end): value for name, value in figures.items() if name.endswith(end)}

    def value(self, split: str, metric: str) -> float | None:
        """A figure, or None for a split without queries."""
        return self.metrics.get(split, {}).get(metric)


@dataclass(frozen=True)
class Group:
    """All rows of one model and request, in the order of the tables."""

    model: str
    request: str
    records: tuple[Record, ...]
    originals: tuple[Trained, ...] = ()
    """The Originals that any of them starts from."""
    memberships: Mapping[str, Mapping[str, Membership]] = field(default_factory=dict, repr=False)
    """By cell what membership attacks tell, by attack; only an audit makes them."""
    signals: Mapping[str, Signals] = field(default_factory=dict, repr=False)
    """By cell what membership attacks are made from, for their power."""
    attacked: Events | None = field(default=None, repr=False)
    """Which of the signals' events is what; the members are the forgotten events, in the order of the ranks."""

    @property
    def retrains(self) -> list[Record]:
        return self.of(REFERENCE)

    @property
    def first(self) -> Record:
        """Any record, for what all have in common: data and request."""
        return self.records[0]

    @property
    def num_items(self) -> int | None:
        """How many items the models rank; None where they do not say."""
        return next((number for record in self.records if (number := record.num_items) is not None), None)

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(record.method for record in self.records))

    @cached_property
    def qualities(self) -> dict[str, ForgetQuality]:
        """How each row's ranks of forgotten events stand to the Retrains', by cell; a Retrain's to the others'.

        Rows are left out that have no ranks or no two Retrains to be compared with, and those of a category.
        """
        judged = [record for record in self.records if record.kind in KINDS and SPLIT in record.events]
        qualities = {}
        for record in judged:
            others = [row.events[SPLIT].rank for row in judged if row.method == REFERENCE and row is not record]
            if len(others) > 1:
                own = record.events[SPLIT]
                rng = numpy_stream(int(record.partition["request"]["seed"]), f"ks_p/{record.cell}")
                alpha = ERROR_RATE / self.num_tests(record)
                qualities[record.cell] = judge(own.rank, np.stack(others), own.user, rng, alpha)
        return qualities

    @cached_property
    def files(self) -> dict[str, FileQuality]:
        """What attacks have back of each row's file, beside what they have of the Retrains', by cell."""
        originals = {row.original: row.recovered["own"] for row in self.of(ORIGINAL) if row.recovered}
        files = {}
        for record in self.records:
            others = [row.recovered for row in self.retrains if row.recovered and row is not record]
            alpha = ERROR_RATE / self.num_tests(record)
            file = judge_file(record.recovered, others, originals.get(record.original), alpha)
            if file is not None:
                files[record.cell] = file
        return files

    @cached_property
    def memories(self) -> dict[str, MemoryQuality]:
        """What is left of the memory of single events, and how much may be, by cell; only where memory was told."""
        highs = {row.cell: row.value(BY_EVENT, "memory_left_high") for row in self.retrains}
        memories = {}
        for record in self.records:
            low, high = (record.value(BY_EVENT, f"memory_left_{end}") for end in ("low", "high"))
            others = [value for cell, value in highs.items() if value is not None and cell != record.cell]
            if low is not None and high is not None and others:
                memories[record.cell] = MemoryQuality(low, high, memory_limit(others))
        return memories

    @cached_property
    def told(self) -> dict[str, MembershipQuality]:
        """How far membership attacks tell each row's forgotten events, and how far they may, by cell."""
        return {
            record.cell: judge_membership(attacks, ERROR_RATE / self.num_tests(record))
            for record in self.records
            if (attacks := self.memberships.get(record.cell))
        }

    def num_tests(self, record: Record) -> int:
        """Tests that a row's verdict joins at one error rate.

        Hits on both sides, ranks, each attack on the file, memory where it is known, and each membership attack.
        """
        memory = record.cell in self.memories
        return 3 + len(record.recovered) + memory + len(self.memberships.get(record.cell, {}))

    @cached_property
    def references(self) -> References | None:
        """What power is measured with; None for a category, without an Original, and with fewer than four Retrains."""
        retrains = [row for row in self.retrains if SPLIT in row.events]
        originals = [row for row in self.of(ORIGINAL) if SPLIT in row.events]
        if self.first.kind not in KINDS or len(retrains) < LEAST_RETRAINS or not originals or self.num_items is None:
            return None
        users = originals[0].events[SPLIT].user
        highs = [row.value(BY_EVENT, "memory_left_high") for row in retrains]
        features = next((row.features for row in originals if row.features is not None), None)
        known = [high for high in highs if high is not None]
        return References(
            retrains=np.stack([row.events[SPLIT].rank for row in retrains]),
            originals=np.stack([row.events[SPLIT].rank for row in originals]),
            users=users,
            num_items=self.num_items,
            others=tuple(_place_of_other(row, originals, self.originals) for row in originals),
            features=features,
            draws=None if features is None else user_draws(users.astype(np.int64), self._stream("power/memory")),
            memory_highs=tuple(known) if len(known) == len(highs) else (),
        )

    @cached_property
    def failures(self) -> dict[int, Failures]:
        """By number of tests of a verdict, which mixtures of Retrain and Original fail it; empty without references."""
        references = self.references
        if references is None:
            return {}
        attacked, seed = self._attacked(), int(self.first.partition["request"]["seed"])
        mixed = mixtures(references, seed, attacked)
        numbers = {self.num_tests(record) for record in self.records if SPLIT in record.events}
        return {
            number: Failures(
                {way: failures(references, mixed[way], ERROR_RATE / number, attacked) for way in WAYS},
                len(references.originals),
            )
            for number in numbers
        }

    @cached_property
    def simulated(self) -> dict[str, NDArray[np.bool_]]:
        """By Retrain, which simulated draws of users fail it by hits or ranks; empty with fewer than four Retrains."""
        rows = [row for row in self.retrains if SPLIT in row.events]
        if self.first.kind not in KINDS or len(rows) < LEAST_RETRAINS:
            return {}
        ranks, users = np.stack([row.events[SPLIT].rank for row in rows]), rows[0].events[SPLIT].user
        alphas = [ERROR_RATE / self.num_tests(row) for row in rows]
        drawn = simulated_failures(ranks, users, alphas, self._stream("power/retrains"))
        return {row.cell: fails for row, fails in zip(rows, drawn, strict=True)}

    def _attacked(self) -> Attacked | None:
        """Signals of the models that power is measured with; None where there are none."""
        if self.attacked is None:
            return None
        retrains, originals = (
            [self.signals[row.cell] for row in self.of(method) if SPLIT in row.events]
            for method in (REFERENCE, ORIGINAL)
        )
        return Attacked(retrains, originals, self.attacked)

    def _stream(self, name: str) -> np.random.Generator:
        return numpy_stream(int(self.first.partition["request"]["seed"]), name)

    @cached_property
    def levels(self) -> dict[str, LevelError]:
        """How well the level is known that each row aims at, by cell; only of methods that say so."""
        ranks = [row.events[SPLIT].rank for row in self.retrains if SPLIT in row.events]
        errors = {}
        for record in self.records:
            error, number = record.info.get("level_standard_error"), record.num_items
            if error is not None and number is not None and ranks:
                pooled = np.concatenate(ranks)
                errors[record.cell] = LevelError(float(error), ks_of_shift(pooled, number, float(error)))
        return errors

    def of(self, method: str) -> list[Record]:
        """The rows of a method, by seed."""
        return [record for record in self.records if record.method == method]

    def values(self, method: str, split: str, metric: str) -> list[float]:
        """A figure of every seed of a method that has it."""
        values = (record.value(split, metric) for record in self.of(method))
        return [value for value in values if value is not None]


def group_records(records: Sequence[Record], originals: Sequence[Trained] = ()) -> list[Group]:
    """Group records by model and request, in the order they come in.

    Raises DataError when there are no records, or when they are of different data, recipes or partitions.
    """
    if not records:
        raise DataError("nothing to report: no row was evaluated")
    members: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        members.setdefault((record.model, record.request), []).append(record)
    _check_same_data(records)
    groups = []
    for (model, request), own in members.items():
        names = {record.original for record in own}
        own += [row for record in own if (row := _raw_scores(record)) is not None]
        rows = judge_beside_others(own, originals)
        rows.sort(key=lambda record: (*method_order(record.method), record.seed, record.original))
        started_from = tuple(trained for trained in originals if trained.name in names)
        groups.append(Group(model, request, tuple(rows), started_from))
    return groups


def judge_beside_others(records: Sequence[Record], originals: Sequence[Trained] = ()) -> list[Record]:
    """The records of one model and request with what is measured against others of them.

    Relearning: see ``relearning_figures``. Single events: see ``judging.by_event``; ``originals`` say of which seed an
    Original is. Of a category, against Original (same start): removal rates and what is kept; against the Retrains'
    mean: what is kept of it, and the distance of the linear probe's AUC, beside that of the output mask. A figure whose
    reference has no row is not there.
    """
    return [_beside_others(record, records, originals) for record in records]


def _beside_others(record: Record, records: Sequence[Record], trained: Sequence[Trained]) -> Record:
    originals = [other for other in records if other.method == ORIGINAL and other.original == record.original]
    retrains = [other for other in records if other.method == REFERENCE]
    relearned = relearning_figures(record.relearning, originals, retrains)
    metrics = {split: dict(part) for split, part in record.metrics.items()}
    metrics |= {"relearning": relearned} if relearned else {}
    if record.kind == "category":
        _judge_category(record, metrics, originals, retrains, records)
    elif single := _by_event(record, records, trained):
        metrics[BY_EVENT] = single
    return replace(record, metrics=metrics)


def _by_event(record: Record, records: Sequence[Record], trained: Sequence[Trained]) -> dict[str, float]:
    """Figures of single events; none of raw scores, without ranks, and with fewer than two other Retrains."""
    retrains = [other for other in records if other.method == REFERENCE and other is not record]
    others = [other.events[SPLIT].rank for other in retrains if SPLIT in other.events]
    if SPLIT not in record.events or record.num_items is None or len(others) < 2:
        return {}
    rng = numpy_stream(int(record.partition["request"]["seed"]), f"memory_left/{record.cell}")
    witness = _witness(record, records, trained)
    return event_figures(record.events[SPLIT].rank, np.stack(others), record.num_items, witness, rng)


def _witness(record: Record, records: Sequence[Record], trained: Sequence[Trained]) -> Witness | None:
    """What tells memory of a row: its own Original, and one of another seed; None where either has no row."""
    seeds = _seeds_of_single(trained)
    rows = [row for row in records if row.method == ORIGINAL and row.original in seeds and SPLIT in row.events]
    own = next((row for row in rows if row.original == record.original), None)
    if own is None:
        return None
    other = next((row for row in rows if seeds[row.original] != seeds[own.original]), None)
    features = next((row.features for row in rows if row.features is not None), None)
    if other is None or features is None:
        return None
    events = own.events[SPLIT]
    return Witness(events.rank, other.events[SPLIT].rank, features, events.user)


def _place_of_other(row: Record, originals: Sequence[Record], trained: Sequence[Trained]) -> int | None:
    """Where among ``originals`` one of another seed is than ``row``, single models both; None where there is none."""
    seeds = _seeds_of_single(trained)
    if row.original not in seeds:
        return None
    places = (
        place
        for place, other in enumerate(originals)
        if other.original in seeds and seeds[other.original] != seeds[row.original]
    )
    return next(places, None)


def _seeds_of_single(trained: Sequence[Trained]) -> dict[str, Any]:
    """Seeds of Originals that are one model, by name."""
    return {original.name: original.info.get("seed") for original in trained if original.info.get("shards", 1) == 1}


def _judge_category(
    record: Record,
    metrics: dict[str, dict[str, float]],
    originals: Sequence[Record],
    retrains: Sequence[Record],
    records: Sequence[Record],
) -> None:
    """Add what is measured of a category request to ``metrics``."""
    masks = [other for other in records if other.method in MASKS]

    def share(name: str, split: str, metric: str, of: Sequence[Record], missing: bool = False) -> None:
        own, reference = record.value(split, metric), _mean(of, split, metric)
        if own is not None and reference:
            metrics[split][name] = 1 - own / reference if missing else own / reference

    share("removal_rate_10", "in_category", "hit_10", originals, missing=True)
    share("list_removal_rate_10", "in_category", "category_items_10", originals, missing=True)
    for metric in ("hit_10", "ndcg_10"):
        share(f"{metric}_kept", "out_of_category", metric, originals)
        share(f"{metric}_of_retrain", "out_of_category", metric, retrains)
    if "all_targets" in metrics:
        metrics["all_targets"] |= _linear_probe_figures(record, retrains, masks)


def _mean(records: Sequence[Record], split: str, metric: str) -> float | None:
    values = [value for record in records if (value := record.value(split, metric)) is not None]
    return float(np.mean(values)) if values else None


def relearning_figures(
    curves: Mapping[str, Mapping[str, Sequence[float]]], originals: Sequence[Record], retrains: Sequence[Record]
) -> dict[str, float]:
    """What ``curves`` by way of relearning come to, as ``returned_steps``, ``retain_steps`` and so on.

    ``steps`` until Hit@10 is at ``threshold``: the Retrains' mean and half of Original's lead over it, as they are
    before relearning; infinite where ``cap`` steps do not get there. Training that does not even keep Original at the
    threshold says nothing of how fast anything comes back: then, and without a lead, ``valid`` is 0 and ``steps`` NaN;
    ``original_below_at`` is the step at which Original is first seen below it, infinite if never. Nothing where
    Original or Retrain was not measured.
    """
    figures: dict[str, float] = {}
    for way, curve in curves.items():
        before, aim = (
            [other.relearning[way] for other in rows if way in other.relearning] for rows in (originals, retrains)
        )
        if not before or not aim:
            continue
        high, low = (float(np.mean([other["hit_10"][0] for other in curves_of])) for curves_of in (before, aim))
        threshold = (low + high) / 2
        below = min(_first(other["steps"], np.array(other["hit_10"]) < threshold) for other in before)
        valid = high > low and below == math.inf
        steps = _first(curve["steps"], np.array(curve["hit_10"]) >= threshold)
        of_way = {
            "valid": float(valid),
            "threshold": threshold,
            "steps": steps if valid else math.nan,
            "original_below_at": below,
            "cap": float(curve["steps"][-1]),
            "hit_10_first": curve["hit_10"][0],
            "hit_10_last": curve["hit_10"][-1],
        }
        of_way |= {"reached": float(steps < math.inf)} if valid else {}
        figures |= {f"{way}_{name}": value for name, value in of_way.items()}
    return figures


def _first(steps: Sequence[float], there: NDArray[np.bool_]) -> float:
    """The first of ``steps`` that is ``there``; infinite where none is."""
    return float(steps[int(there.argmax())]) if there.any() else math.inf


def _linear_probe_figures(record: Record, retrains: Sequence[Record], masks: Sequence[Record]) -> dict[str, float]:
    """The AUC's distance from the Retrains' mean, and how much nearer than the output mask's, with its interval."""
    aim, own = _mean(retrains, "all_targets", "linear_probe_auc"), record.value("all_targets", "linear_probe_auc")
    if aim is None or own is None:
        return {}
    figures = {"linear_probe_auc_gap": own - aim}
    reference = next((other.linear_probe for other in retrains if other.linear_probe), None)
    control = next((other.linear_probe for other in masks if other.linear_probe), None)
    own_scores = record.linear_probe
    if own_scores and reference and control and record.method not in (ORIGINAL, REFERENCE, *MASKS):
        rng = numpy_stream(0, f"probe/{record.cell}")
        gain, low, high = nearer(
            own_scores.score, control.score, reference.score, own_scores.inside, own_scores.user, rng
        )
        figures |= {"linear_probe_nearer": gain, "linear_probe_nearer_low": low, "linear_probe_nearer_high": high}
    return figures


def _raw_scores(record: Record) -> Record | None:
    """The row of a model's raw scores, where its catalogue is smaller than the one that is ranked (methods 4)."""
    if record.untrained_raw is None:
        return None
    method = RAW if record.method == REFERENCE else f"{record.method}_{RAW}"
    return replace(
        record,
        method=method,
        metrics=record.untrained_raw,
        untrained_raw=None,
        events={},  # those of the record are under its own scores
        history=[],
        linear_probe=None,
        relearning={},
        counts={},  # the cost is that of the row it belongs to
        measured=None,
    )


def _check_same_data(records: Sequence[Record]) -> None:
    first = records[0]
    partitions: dict[str, Record] = {}
    for record in records:
        if (record.dataset, record.fingerprint) != (first.dataset, first.fingerprint):
            raise DataError(
                f"cells {first.cell} and {record.cell} were evaluated on different data ({first.dataset} "
                f"{first.fingerprint[:12]}, {record.dataset} {record.fingerprint[:12]}); run `dvc repro` or `srun run`"
            )
        for part in ("prepare", "train"):
            if record.info.get(part) != first.info.get(part):
                raise DataError(
                    f'cells {first.cell} and {record.cell} were made with different values of "{part}", so they cannot '
                    "be compared; run `dvc repro` or `srun run`"
                )
        other = partitions.setdefault(record.request, record)
        if record.partition != other.partition or not _same_events(record, other):
            raise DataError(
                f'cells {other.cell} and {record.cell} were evaluated on different partitions of "{record.request}"; '
                "run `dvc repro` or `srun run`"
            )


def _same_events(record: Record, other: Record) -> bool:
    """Whether both were asked the same questions in the same order, so that ranks can be compared one by one."""
    return record.events.keys() == other.events.keys() and all(
        np.array_equal(record.events[split].event, other.events[split].event) for split in record.events
    )
