"""Computes the judgement: every figure that tables, pictures and the page show, by group of records."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from srun import __version__
from srun.config import flatten
from srun.judging.estimates import estimates, over_seeds, retrain_band, user_bounds
from srun.judging.judgement import (
    Across,
    Comparison,
    Curve,
    Estimate,
    Facts,
    JudgedRow,
    Judgement,
    MethodFigures,
    OriginalFacts,
    Point,
    Quality,
    Section,
    Series,
    Settings,
    Split,
)
from srun.judging.records import KINDS, METRIC, SPLIT, Group, History, Record, Trained
from srun.judging.results import categories, costs
from srun.judging.styles import ORIGINAL, REFERENCE, style
from srun.judging.verdict import (
    headline,
    pooled_word,
    pooled_words,
    powers,
    rule_error,
    standing,
    tests_text,
    verdict,
    verdicts,
    words,
)
from srun.metrics.ranking import CUT_OFFS, mean_and_spread

CURVES = ("validation/ndcg_10", "validation/recall_10", "forget_tune/hit_10")
"""Keys of the figures over epochs that are drawn."""
HELD_AGAINST = CURVES[1:]
"""Those of unlearning, which Original and Retrain are drawn across."""


def judge_groups(groups: Sequence[Group], to_judge: Sequence[str], missing: Sequence[str] = ()) -> Judgement:
    """Everything that is shown of the groups; ``to_judge`` has for each the command that makes missing Retrains."""
    return Judgement(
        dataset=groups[0].first.dataset,
        comparisons=tuple(compare(group, command) for group, command in zip(groups, to_judge, strict=True)),
        facts=what_was_run(groups),
        settings=settings(groups),
        missing=tuple(missing),
    )


def verdicts_by_cell(judgement: Judgement) -> dict[str, str]:
    """Cell -> its verdict in words, with what qualifies it in brackets."""
    rows = [row for one in judgement.comparisons for method in one.methods for row in method.rows]
    return {row.cell: row.verdict.said for row in rows if row.verdict is not None}


def compare(group: Group, to_judge: str = "") -> Comparison:
    """The comparison of a group, its methods in the order of the tables; ``to_judge`` as in ``Comparison``."""
    info, splits = group.first.partition, _splits(group)
    retrained = group.values(REFERENCE, SPLIT, METRIC)
    originals = [group.qualities[record.cell] for record in group.of(ORIGINAL) if record.cell in group.qualities]
    return Comparison(
        model=group.model,
        request=group.request,
        kind=group.first.kind,
        categories=tuple(categories(group.first)),
        num_users=info["num_users"],
        num_forget=info["num_forget"],
        num_retain=info["num_retain"],
        num_items=group.num_items,
        num_retrains=len(retrained),
        interval=retrain_band(retrained) if group.first.kind in KINDS else None,
        splits=splits,
        methods=tuple(_method(group, method, list(splits)) for method in group.methods),
        curves=tuple(_curves(group)),
        across={key: _across(group, *key.split("/")) for key in HELD_AGAINST},
        headline=headline(group),
        standing=standing(group),
        tests=tests_text(group),
        power=powers(group),
        rule_error=rule_error(group),
        original_not_above=any(quality.place not in (None, "above") for quality in originals),
        has_relearning=any(record.relearning for record in group.records),
        to_judge=to_judge,
    )


def what_was_run(groups: Sequence[Group]) -> Facts:
    """Data, requests, Originals, versions and machines. Raw user ids are not among them."""
    records = [record for group in groups for record in group.records]
    shards = {record.cell: record.info for record in records if "shards_retrained" in record.info}
    trained = {original.name: original for group in groups for original in group.originals}
    machines: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for record in records:
        if record.machine:
            machines.setdefault(tuple(sorted(record.machine.items())), dict(record.machine))
    return Facts(
        fingerprint=records[0].fingerprint,
        requests={group.request: _request(group.first) for group in groups},
        originals=tuple(_original(original) for original in trained.values()),
        shards_retrained={cell: (info["shards_retrained"], info["shards"]) for cell, info in shards.items()},
        versions=tuple(sorted({str(record.info.get("version", __version__)) for record in records})),
        machines=tuple(machines.values()),
    )


def settings(groups: Sequence[Group]) -> tuple[Settings, ...]:
    """Settings of data preparation, the training recipe, each model and each method; empty blocks are left out."""
    blocks: dict[tuple[Section, str], dict[str, Any]] = {}
    for group in groups:
        for record in group.records:
            models = record.info.get("models", [])
            blocks.setdefault(("prepare", ""), flatten(record.info.get("prepare", {})))
            blocks.setdefault(("train", ""), flatten(record.info.get("train", {})))
            blocks.setdefault(("model", group.model), flatten(models[0]["settings"]) if models else {})
            blocks.setdefault(("unlearn", record.method), flatten(record.info.get("settings", {})))
    return tuple(
        Settings(section=section, name=name, values=values) for (section, name), values in blocks.items() if values
    )


def _method(group: Group, method: str, splits: Sequence[str]) -> MethodFigures:
    figures = estimates(group, method)
    bounds = {split: user_bounds(group, method, split) for split in splits}
    return MethodFigures(
        method=method,
        seeds=tuple(sorted({record.seed for record in group.of(method)})),
        words=words(group, method),
        pooled=pooled_words(group, method),
        over_unlearning=style(method).role == "method" and any(one.over_unlearning for one in verdicts(group, method)),
        rows=tuple(_row(group, record) for record in group.of(method)),
        figures=figures,
        intervals={split: part for split, part in bounds.items() if part},
        cost=_cost(group, method),
        quality=_quality(group, method),
        points=_points(group, method),
        utility_of_retrain=_utility_of_retrain(group, method),
    )


def _row(group: Group, record: Record) -> JudgedRow:
    return JudgedRow(
        cell=record.cell,
        original=record.original,
        seed=record.seed,
        verdict=verdict(group, record),
        pooled=pooled_word(group.qualities.get(record.cell)),
        quality=group.qualities.get(record.cell) if record.events else None,
        file=group.files.get(record.cell) if record.recovered else None,
        memory=group.memories.get(record.cell) if record.events else None,
        level=group.levels.get(record.cell) if record.events else None,
    )


def _cost(group: Group, method: str) -> dict[str, Estimate]:
    """Of raw scores nothing: their cost is that of the row they belong to."""
    if style(method).role == "raw":
        return {}
    rows = [(record.seed, costs(group, record)) for record in group.of(method)]
    names = sorted({name for _, cost in rows for name in cost})
    measured = {name: over_seeds((seed, cost[name]) for seed, cost in rows if name in cost) for name in names}
    return {name: estimate for name, estimate in measured.items() if estimate is not None}


def _quality(group: Group, method: str) -> Quality | None:
    rows = [record for record in group.of(method) if record.events]
    qualities = [group.qualities[record.cell] for record in rows if record.cell in group.qualities]
    if not qualities:
        return None
    gap = mean_and_spread([quality.hit_10_gap for quality in qualities])[0]
    bound: float | None = qualities[0].hit_10_gap_bound
    limit = qualities[0].ks_d_retrain_max
    if method == REFERENCE:  # each is judged by the others, so each has bounds of its own
        band = retrain_band(group.values(REFERENCE, SPLIT, METRIC))
        gap, bound = 0.0, band.bound if band else None
        limit = max(quality.ks_d_retrain_max for quality in qualities)
    return Quality(
        gap=gap,
        gap_bound=bound,
        ks_d=mean_and_spread([quality.ks_d for quality in qualities])[0],
        ks_d_limit=limit,
        ks_p=tuple(quality.ks_p for quality in qualities),
    )


def _points(group: Group, method: str) -> tuple[Point, ...]:
    points = []
    for record in group.of(method):
        x, y = record.value(SPLIT, METRIC), record.value("test", "ndcg_10")
        if x is not None and y is not None and math.isfinite(x) and math.isfinite(y):
            points.append(Point(seed=record.seed, suppression=x, utility=y))
    return tuple(points)


def _utility_of_retrain(group: Group, method: str) -> float | None:
    own, reference = (group.values(name, "test", "ndcg_10") for name in (method, REFERENCE))
    if not own or not reference or not mean_and_spread(reference)[0] > 0:
        return None
    share = mean_and_spread(own)[0] / mean_and_spread(reference)[0]
    return share if math.isfinite(share) else None


def _splits(group: Group) -> dict[str, Split]:
    """Splits with events, by the first row: all have the same."""
    return {
        split: Split(
            num_users=int(part["num_users"]),
            num_events=int(part["num_events"]),
            metrics=tuple(name for name in _metric_order(part) if name in part),
        )
        for split, part in group.first.metrics.items()
        if part.get("num_events")
    }


def _metric_order(part: Mapping[str, float]) -> list[str]:
    recall = "hit" if any(name.startswith("hit_") for name in part) else "recall"
    plain = [f"{name}_{k}" for name in (recall, "ndcg") for k in CUT_OFFS] + ["mrr"]
    return plain + [f"{name}_sampled" for name in plain]


def _curves(group: Group) -> list[Curve]:
    histories = [(ORIGINAL, trained.history) for trained in group.originals]
    histories += [(record.method, record.history) for record in group.records]
    # a shard validates on its own users, so its curve cannot stand beside the others
    return [_curve(method, rows) for method, rows in histories if rows and not any("shard" in row for row in rows)]


def _curve(method: str, history: History) -> Curve:
    from_scratch = any(name.startswith("train/") for row in history for name in row)
    series = {key: taken for key in CURVES if (taken := _series(history, key, from_scratch)) is not None}
    return Curve(method=method, from_scratch=from_scratch, series=series)


def _series(history: History, key: str, from_scratch: bool) -> Series | None:
    """Early stop returns the best epoch, unlearning the last; None where the figure was never taken."""
    points = [(row["epoch"], row[key]) for row in history if key in row and math.isfinite(row[key])]
    if not points:
        return None
    epochs, values = zip(*points, strict=True)
    return Series(epochs=epochs, values=values, kept=values.index(max(values)) if from_scratch else len(values) - 1)


def _across(group: Group, split: str, metric: str) -> Across:
    originals, retrains = (group.values(name, split, metric) for name in (ORIGINAL, REFERENCE))
    return Across(original=_mean(originals), retrain=_mean(retrains), interval=retrain_band(retrains))


def _mean(values: Sequence[float]) -> float | None:
    """None without values, or where one is no finite number."""
    mean = mean_and_spread(values)[0] if values else math.nan
    return mean if math.isfinite(mean) else None


def _request(record: Record) -> dict[str, Any]:
    counts = {key: value for key, value in record.partition.items() if key.startswith("num_") and value}
    return {**record.partition["request"], **counts}


def _original(original: Trained) -> OriginalFacts:
    cost = original.info["cost"]
    return OriginalFacts(
        name=original.name,
        seed=original.info["seed"],
        shards=original.info.get("shards", 1),
        seconds=original.measured["seconds"] if original.measured else None,
        scored_positions=cost.get("scored_positions"),
        target_gradients=cost["target_gradients"],
    )
