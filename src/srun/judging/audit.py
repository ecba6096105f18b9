"""What an audit says of one model: verdict, figures beside those of Original and the Retrains, what was not tested."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from srun.judging.records import BY_EVENT, METRIC, RECOVERED, SPLIT, Group, Record
from srun.judging.styles import ORIGINAL
from srun.judging.verdict import Verdict, verdict
from srun.metrics.bootstrap import user_interval
from srun.metrics.forgetting import Interval
from srun.metrics.membership import Membership
from srun.metrics.ranking import gains, hits, mean_and_spread
from srun.rng import numpy_stream


class Bounds(TypedDict, total=False):
    """What is known of a figure beside its value."""

    low: float
    high: float
    retrain: float
    retrain_low: None
    retrain_high: float


Measured = Mapping[str, float]
"""``<split>/<metric>`` -> value, of one model."""
UTILITY = ("ndcg_10", "recall_10")
BOUNDS = ("memory_left_low", "memory_left_high")


@dataclass(frozen=True)
class Figure:
    """A figure of the model and of what it is held against; None where something was not measured."""

    value: float
    low: float | None = None
    high: float | None = None
    """Ends of its 95 % interval when users are drawn again with all their events."""
    retrain: float | None = None
    """Mean of the (other) Retrains."""
    retrain_low: float | None = None
    retrain_high: float | None = None
    """Where one more Retrain would be expected (95 %); of a figure that decides, its limit."""
    original: float | None = None
    """Of the Original it came from."""


@dataclass(frozen=True)
class NotTested:
    """What the audit does not say."""

    name: str
    why: str
    run: str = ""
    """The command that makes what it needs; empty where there is none."""


@dataclass(frozen=True)
class Audit:
    """Everything that is said of one model."""

    model: str
    """Its folder, from the root of the project."""
    cell: str
    method: str
    request: str
    num_users: int
    num_events: int
    """Of the forgotten events of report users: what most figures are of."""
    num_retrains: int
    num_originals: int
    verdict: Verdict
    tests: str
    """Which tests the verdict joins, in sentences."""
    figures: Mapping[str, Figure]
    not_tested: tuple[NotTested, ...]


def figures(group: Group, record: Record, measured: Mapping[str, Measured]) -> dict[str, Figure]:
    """Figure by ``<split>/<metric>``; ``measured`` has by cell what only the audit measures.

    A figure of which the model has no finite value is left out.
    """
    others = [other for other in group.retrains if other is not record]
    own = next((row for row in group.of(ORIGINAL) if row.original == record.original), None)
    rows = {row.cell: _evaluated(row) | dict(measured.get(row.cell, {})) for row in group.records}
    shown = {
        key: _beside(value, [rows[other.cell] for other in others], {} if own is None else rows[own.cell], key)
        for key, value in rows[record.cell].items()
        if math.isfinite(value)
    }
    for key, bounds in _bounds(group, record).items():
        if key in shown:
            shown[key] = replace(shown[key], **bounds)
    return shown


def membership_figures(attacks: Mapping[str, Membership]) -> dict[str, float]:
    """``<attack>_auc``, ``<attack>_excess`` over the Retrains' mean, and ``<attack>_tpr_at_<rate>``."""
    values: dict[str, float] = {}
    for attack, told in attacks.items():
        values |= {f"{attack}_auc": told.auc, f"{attack}_excess": told.excess}
        values |= {f"{attack}_{name}": value for name, value in told.tpr.items()}
    return values


def judged(group: Group, record: Record) -> Verdict:
    """The verdict of a row that is not raw scores."""
    said = verdict(group, record)
    assert said is not None, "raw scores are no cell, so nobody audits them"
    return said


def _evaluated(record: Record) -> dict[str, float]:
    """What the evaluation and the judgement already have of a row."""
    return {
        f"{split}/{metric}": value
        for split, part in record.metrics.items()
        for metric, value in part.items()
        if _is_shown(split, metric)
    }


def _is_shown(split: str, metric: str) -> bool:
    if split in (SPLIT, RECOVERED):
        return metric == METRIC or (split == RECOVERED and metric.endswith(f"_{METRIC}"))
    return (
        split == "relearning" or (split == "test" and metric in UTILITY) or (split == BY_EVENT and metric not in BOUNDS)
    )


def _beside(value: float, retrains: Sequence[Measured], original: Measured, key: str) -> Figure:
    values = [row[key] for row in retrains if math.isfinite(row.get(key, math.nan))]
    interval = Interval.of(values)
    reference = original.get(key, math.nan)
    return Figure(
        value,
        retrain=mean_and_spread(values)[0] if values else None,
        retrain_low=None if interval is None else interval.low,
        retrain_high=None if interval is None else interval.high,
        original=reference if math.isfinite(reference) else None,
    )


def _bounds(group: Group, record: Record) -> dict[str, Bounds]:
    """What figures have beside these: intervals over users, and limits of those that decide."""
    changes: dict[str, Bounds] = dict(_user_intervals(record))
    if file := group.files.get(record.cell):
        for attack, limit in file.limits.items():
            changes[f"{RECOVERED}/{attack}_{METRIC}"] = {"retrain_low": None, "retrain_high": limit}
    if memory := group.memories.get(record.cell):
        changes[f"{BY_EVENT}/memory_left"] = {
            "low": memory.low,
            "high": memory.high,
            "retrain_low": None,
            "retrain_high": memory.limit,
        }
    told = group.told.get(record.cell)
    for attack, result in group.memberships.get(record.cell, {}).items():
        assert told is not None
        retrain = mean_and_spread(result.retrains)[0]
        limit = told.limits[attack]
        changes[f"membership/{attack}_auc"] = {"retrain": retrain, "retrain_low": None, "retrain_high": limit}
        changes[f"membership/{attack}_excess"] = {
            "low": result.low,
            "high": result.high,
            "retrain": 0.0,
            "retrain_low": None,
            "retrain_high": limit - retrain,
        }
    return changes


def _user_intervals(record: Record) -> Iterator[tuple[str, Bounds]]:
    for split, metric, measure in ((SPLIT, METRIC, hits), ("test", "recall_10", hits), ("test", "ndcg_10", gains)):
        if split in record.events:
            events = record.events[split]
            rng = numpy_stream(0, f"audit/{record.cell}/{split}/{metric}")
            low, high = user_interval(measure(events.rank, 10), events.user, rng)
            if math.isfinite(low):
                yield f"{split}/{metric}", {"low": low, "high": high}
