"""What the report is made from: one record a cell, and the cells of one model and request taken together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srun.errors import DataError
from srun.metrics.forgetting import ForgetQuality, judge
from srun.reporting.methods import method_order
from srun.rng import numpy_stream

SPLIT, METRIC = "forget_report", "hit_10"
KINDS = ("interactions", "users")
"""Requests whose reference is Retrain's own forget hit; a category has others (removal rate, relearning)."""

Metrics = Mapping[str, Mapping[str, float]]
History = list[dict[str, float]]


@dataclass(frozen=True)
class EventRanks:
    """The ranks of a split's events (Q,) under one model, and whose events they are."""

    event: NDArray[np.int64]
    user: NDArray[np.int64]
    rank: NDArray[np.float64]


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

    @property
    def kind(self) -> str:
        return str(self.partition["request"]["kind"])

    def value(self, split: str, metric: str) -> float | None:
        """A figure, or None for a split without queries."""
        return self.metrics.get(split, {}).get(metric)


@dataclass(frozen=True)
class Group:
    """All rows of one model and request, in the order of the tables, with at least one Retrain among them."""

    model: str
    request: str
    records: tuple[Record, ...]
    originals: tuple[Trained, ...] = ()
    """The Originals that any of them starts from."""

    @property
    def retrains(self) -> list[Record]:
        return self.of("retrain")

    @property
    def first(self) -> Record:
        """Any record, for what all have in common: data and request."""
        return self.records[0]

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(record.method for record in self.records))

    @cached_property
    def qualities(self) -> dict[str, ForgetQuality]:
        """How each row's ranks of forgotten events stand to the Retrains', by cell; a Retrain's to the others'.

        Rows are left out that have no ranks or no two Retrains to be compared with, and those of a category.
        """
        judged = [record for record in self.records if record.kind in KINDS and SPLIT in record.events]
        found = {}
        for record in judged:
            others = [row.events[SPLIT].rank for row in judged if row.method == "retrain" and row is not record]
            if len(others) > 1:
                own = record.events[SPLIT]
                rng = numpy_stream(int(record.partition["request"]["seed"]), f"ks_p/{record.cell}")
                found[record.cell] = judge(own.rank, np.stack(others), own.user, rng)
        return found

    def of(self, method: str) -> list[Record]:
        """The rows of a method, by seed."""
        return [record for record in self.records if record.method == method]

    def values(self, method: str, split: str, metric: str) -> list[float]:
        """A figure of every seed of a method that has it."""
        found = (record.value(split, metric) for record in self.of(method))
        return [value for value in found if value is not None]


def group_records(records: Sequence[Record], originals: Sequence[Trained] = ()) -> list[Group]:
    """Group records by model and request, in the order they come in.

    Raises DataError when there are no records, when they are of different data, recipes or partitions, or when a
    group has no Retrain: without the reference nothing can be judged.
    """
    if not records:
        raise DataError("nothing to report: params.yaml has no cells")
    members: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        members.setdefault((record.model, record.request), []).append(record)
    _check_same_data(records)
    groups = []
    for (model, request), found in members.items():
        _check_has_retrain(found)
        names = {record.original for record in found}
        found += [row for record in found if (row := _raw_scores(record)) is not None]
        found.sort(key=lambda record: (*method_order(record.method), record.seed, record.original))
        started_from = tuple(trained for trained in originals if trained.name in names)
        groups.append(Group(model, request, tuple(found), started_from))
    return groups


def _check_has_retrain(records: Sequence[Record]) -> None:
    if not any(record.method == "retrain" for record in records):
        first = records[0]
        raise DataError(
            f'cells: no row of {first.model} on request "{first.request}" has method retrain; Retrain is the reference '
            f"of every figure, so add a cell such as {{request: {first.request}, original: {first.original}, "
            "method: retrain, seed: 0}"
        )


def _raw_scores(record: Record) -> Record | None:
    """The row of a model's raw scores, where its catalogue is smaller than the one that is ranked (methods 4)."""
    if record.untrained_raw is None:
        return None
    method = "untrained_raw" if record.method == "retrain" else f"{record.method}_untrained_raw"
    return replace(
        record,
        method=method,
        metrics=record.untrained_raw,
        untrained_raw=None,
        events={},  # those of the record are under its own scores
        history=[],
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


def _same_events(one: Record, other: Record) -> bool:
    """Whether both were asked the same questions in the same order, so that ranks can be compared one by one."""
    return one.events.keys() == other.events.keys() and all(
        np.array_equal(one.events[split].event, other.events[split].event) for split in one.events
    )
