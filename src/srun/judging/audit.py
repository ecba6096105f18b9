"""What an audit says of one model: verdict, figures beside those of Original and the Retrains, what was not tested."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np

from srun.judging.records import BY_EVENT, METRIC, RECOVERED, SPLIT, Group, Record, relearning_figures
from srun.judging.styles import ORIGINAL
from srun.judging.verdict import OVER, Part, Verdict, verdict
from srun.metrics.bootstrap import user_interval
from srun.metrics.forgetting import Interval
from srun.metrics.intervals import fidelity_intervals
from srun.metrics.membership import Membership
from srun.metrics.memory import z_rank
from srun.metrics.ranking import gains, hits, mean_and_spread
from srun.rng import numpy_stream


class Bounds(TypedDict, total=False):
    """What is known of a figure beside its value."""

    low: float
    high: float
    retrain: float | None
    retrain_low: None
    retrain_high: float


Measured = Mapping[str, float]
"""``<split>/<metric>`` -> value, of one model."""
UTILITY = ("ndcg_10", "recall_10")
BOUNDS = ("memory_left_low", "memory_left_high")
KS = f"{SPLIT}/ks_d"
RELEARNING = "relearning"
ASKS = {
    "hits": "Are as many forgotten events in a top 10 as under Retrain?",
    "ranks": "Do they rank as they do under Retrain?",
    "file": "Can somebody with the file have them back?",
    "events": "Is the memory of single events gone?",
    "membership": "Can they be told from events never seen?",
}
"""Part of a verdict -> what it asks."""
REMEMBERED_BY = {
    "hits": "forgotten events are recommended more often than by models that never saw them",
    "ranks": "forgotten events rank otherwise than under models that never saw them",
    "file": "somebody with the model's file can bring forgotten events back",
    "events": "single events are still remembered",
    "membership": "an attacker can tell forgotten events from events never seen",
}
"""Part of a verdict -> what its failure means."""
AVOIDED = "forgotten events are avoided more than by models that never saw them, which gives them away"


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
class Answer:
    """What one part of the verdict says."""

    part: str
    asks: str
    word: str
    how: str
    figure: str
    """Key of the figure that shows it best; empty where none was measured."""


@dataclass(frozen=True)
class Relearned:
    """One way of relearning: see ``judging.records.relearning_figures``."""

    cap: float
    threshold: float
    valid: bool
    steps: Mapping[str, float]
    """By cell, of model and Retrains; infinite beyond the cap, NaN where the way tells nothing."""
    curves: Mapping[str, Mapping[str, Sequence[float]]]
    """By cell: ``steps`` and ``hit_10`` at each."""


@dataclass(frozen=True)
class Audit:
    """Everything that is said of one model."""

    model: str
    """Its folder, from the root of the project."""
    weights_sha256: str
    cell: str
    method: str
    request: str
    num_users: int
    num_events: int
    """Of the forgotten events of report users: what most figures are of."""
    num_retrains: int
    num_originals: int
    verdict: Verdict
    plain: str
    """The verdict in a sentence for somebody who reads their first audit."""
    answers: tuple[Answer, ...]
    tests: str
    """Which tests the verdict joins, in sentences."""
    error_rate: float
    """The chance that chance alone fails the row, shared out equally among ``num_tests``."""
    num_tests: int
    seeds: Mapping[str, Any]
    """Of training by cell (the Originals' and the Retrains'), data, request, unlearning, evaluation and audit."""
    figures: Mapping[str, Figure]
    relearning: Mapping[str, Relearned]
    """By way; empty where it was not measured."""
    not_tested: tuple[NotTested, ...]
    oracle: str | None = None
    """Whose references these are, such as ``32 Retrains and 32 Originals of the oracle``; None where a flow's own."""


def figures(
    group: Group,
    record: Record,
    measured: Mapping[str, Measured],
    intervals: Mapping[str, tuple[float, float]] | None = None,
    seed: int = 0,
) -> dict[str, Figure]:
    """Figure by ``<split>/<metric>``; ``measured`` has by cell what only the audit measures.

    ``intervals``: over users, of figures that only the audit measures; ``seed`` draws users for the others. A figure of
    which the model has no finite value is left out.
    """
    others = [other for other in group.retrains if other is not record]
    own = next((row for row in group.of(ORIGINAL) if row.original == record.original), None)
    rows = {
        row.cell: _evaluated(row) | _distance(group, row) | dict(measured.get(row.cell, {})) for row in group.records
    }
    shown = {
        key: _beside(value, [rows[other.cell] for other in others], {} if own is None else rows[own.cell], key)
        for key, value in rows[record.cell].items()
        if math.isfinite(value)
    }
    known = {key: (low, high) for key, (low, high) in (intervals or {}).items() if math.isfinite(low)}
    for key, (low, high) in (dict(_user_intervals(group, record, seed)) | known).items():
        if key in shown:
            shown[key] = replace(shown[key], low=low, high=high)
    for key, bounds in _bounds(group, record).items():
        if key in shown:
            shown[key] = replace(shown[key], **bounds)
    return shown


def answers(said: Verdict, shown: Mapping[str, Figure]) -> tuple[Answer, ...]:
    """The parts of a verdict as questions, each with the figure that shows it best."""
    keys = {
        "hits": f"{SPLIT}/{METRIC}",
        "ranks": KS,
        "file": most_beyond(shown, RECOVERED),
        "events": f"{BY_EVENT}/memory_left",
        "membership": most_beyond(shown, "membership", "_auc"),
    }
    return tuple(
        Answer(part.name, ASKS[part.name], part.word, part.how, keys[part.name] if keys[part.name] in shown else "")
        for part in said.parts
    )


def most_beyond(shown: Mapping[str, Figure], split: str, ending: str = "") -> str:
    """Key of the figure of a split that is furthest above its limit, or nearest to it; empty where there is none."""
    keys = [key for key in shown if key.startswith(f"{split}/") and key.endswith(ending)]
    return max(keys, key=lambda key: shown[key].value - (shown[key].retrain_high or 0.0), default="")


def plain(said: Verdict) -> str:
    """A verdict in one sentence, without words that have to be learned first."""
    if said.word == "passes":
        return "Forgotten, as far as these tests can see: the model behaves like models that never saw these events."
    if said.word == "cannot tell":
        return "These tests cannot tell whether the events are forgotten: here they fail no model that remembers."
    if said.word == "not judged":
        return f"Not judged: {said.how}."
    failures = "; ".join(_failing(part) for part in said.parts if part.word == "fails")
    return f"Not forgotten as if it had never been there: {failures}."


def _failing(part: Part) -> str:
    return AVOIDED if part.how == OVER else REMEMBERED_BY[part.name]


def relearned(way: str, record: Record, original: Record, retrains: Sequence[Record]) -> dict[str, float]:
    """Figures of one way of relearning, each record with its curve: see ``relearning_figures``.

    ``<way>_sooner``: whether the model takes fewer steps than each of the Retrains from its own weights, which a
    further one of n Retrains does with a chance of 1 / (n + 1).
    """
    shown = relearning_figures(record.relearning, [original], retrains)
    if shown.get(f"{way}_valid"):
        shown[f"{way}_sooner"] = float(shown[f"{way}_steps"] < min(_steps(way, original, retrains)))
    return shown


def relearning_of(way: str, record: Record, original: Record, retrains: Sequence[Record]) -> Relearned:
    """What the page shows of one way of relearning."""
    shown = relearning_figures(record.relearning, [original], retrains)
    steps = [shown[f"{way}_steps"], *_steps(way, original, retrains)]
    cells = [record.cell, *(other.cell for other in retrains)]
    return Relearned(
        cap=shown[f"{way}_cap"],
        threshold=shown[f"{way}_threshold"],
        valid=bool(shown[f"{way}_valid"]),
        steps=dict(zip(cells, steps, strict=True)),
        curves={row.cell: dict(row.relearning[way]) for row in (record, original, *retrains)},
    )


def _steps(way: str, original: Record, retrains: Sequence[Record]) -> list[float]:
    """Steps that each Retrain needs from its own weights to the threshold that all of them set."""
    return [relearning_figures(other.relearning, [original], retrains)[f"{way}_steps"] for other in retrains]


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


def _distance(group: Group, record: Record) -> dict[str, float]:
    """KS D of the ranks to the Retrains'; without a comparison nothing."""
    quality = group.qualities.get(record.cell)
    return {} if quality is None else {KS: quality.ks_d}


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
    values = [row[key] for row in retrains if not math.isnan(row.get(key, math.nan))]
    if math.inf in values:  # steps beyond the cap, of which there is no mean
        values = []
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
    changes: dict[str, Bounds] = {}
    if quality := group.qualities.get(record.cell):
        changes[KS] = {"retrain_low": None, "retrain_high": quality.ks_d_retrain_max}
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


def _user_intervals(group: Group, record: Record, seed: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """95 % intervals over users of what an evaluation and its judgement measured."""
    for split, metric, measure in ((SPLIT, METRIC, hits), ("test", "recall_10", hits), ("test", "ndcg_10", gains)):
        if split in record.events:
            events = record.events[split]
            rng = numpy_stream(seed, f"audit/{record.cell}/{split}/{metric}")
            low, high = user_interval(measure(events.rank, 10), events.user, rng)
            if math.isfinite(low):
                yield f"{split}/{metric}", (low, high)
    for attack in record.recovered:
        ends = (record.value(RECOVERED, f"{attack}_{METRIC}_{end}") for end in ("low", "high"))
        low, high = (math.nan if end is None else end for end in ends)
        if math.isfinite(low):
            yield f"{RECOVERED}/{attack}_{METRIC}", (low, high)
    others = [row.events[SPLIT].rank for row in group.retrains if row is not record and SPLIT in row.events]
    if len(others) > 1 and record.num_items is not None and SPLIT in record.events:
        events, rng = record.events[SPLIT], numpy_stream(seed, f"audit/{record.cell}/{BY_EVENT}")
        z, z_retrains = (z_rank(ranks, record.num_items) for ranks in (events.rank, np.stack(others)))
        for name, (low, high) in fidelity_intervals(z, z_retrains, events.user, rng).items():
            if math.isfinite(low):
                yield f"{BY_EVENT}/{name}", (low, high)
