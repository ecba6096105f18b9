"""results.csv and results.parquet: every figure of every row, and those over all seeds, in long form.

The key of a figure over all seeds of a method has no seed: the cell is empty. These are ``<metric>_low`` and
``<metric>_high`` (bootstrap over users, of the mean over seeds), ``hit_10_retrain_low`` and ``hit_10_retrain_high``
(Retrain's interval) and ``ndcg_10_of_retrain`` (mean utility over Retrain's). Means and spreads are in judgement.json.
Splits that are no queries: ``recovered`` (what attacks have back of a file) and ``by_event`` (what single events tell);
docs/verdict.md names their metrics. ``audit`` is what an audit says (docs/audit.md).
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from srun.errors import DataError
from srun.judging.judgement import Comparison
from srun.judging.records import BY_EVENT, KINDS, METRIC, RECOVERED, SPLIT, Group, Record
from srun.judging.styles import REFERENCE, style
from srun.judging.verdict import WORDS, verdict
from srun.metrics.ranking import mean_and_spread
from srun.tables import harmless, write_parquet

SPEEDUPS = {
    "speedup": "processor_seconds",
    "speedup_clock": "seconds",
    "speedup_scored_positions": "scored_positions",
    "speedup_target_gradients": "target_gradients",
}
"""Measures of which a row's cost is compared with Retrain's; the first is the headline."""
AUDIT = "audit"
"""The split of what an audit says of a row."""
TIMES = {"processor_seconds", "seconds"}
"""Of these, what only runs on one kind of machine share."""


class Row(NamedTuple):
    """One figure; all but ``value`` is its key."""

    dataset: str
    model: str
    method: str
    seed: int | None
    """None for a figure over all seeds of a method."""
    split: str
    category: str
    metric: str
    value: float
    request: str
    partition_seed: int

    @property
    def key(self) -> tuple[object, ...]:
        return tuple(part for name, part in zip(self._fields, self, strict=True) if name != "value")


def long_form(groups: Sequence[Group]) -> list[Row]:
    """All rows, in the order of the tables; figures without a value are left out.

    Raises DataError when two rows have the same key: then two cells claim to be the same row.
    """
    rows = [row for group in groups for record in group.records for row in _rows(group, record)]
    rows = [row for row in rows if math.isfinite(row.value)]
    check_keys(rows)
    return rows


def over_all_seeds(group: Group, comparison: Comparison) -> list[Row]:
    """The figures of a comparison that are of no single seed (see above), in the order of its methods."""
    rows = []
    for method in comparison.methods:
        record = group.of(method.method)[0]
        figures = {
            split: {
                f"{metric}_{end}": getattr(bounds, end) for metric, bounds in part.items() for end in ("low", "high")
            }
            for split, part in method.intervals.items()
        }
        if method.method == REFERENCE and comparison.interval is not None:
            interval = {f"{METRIC}_retrain_{end}": getattr(comparison.interval, end) for end in ("low", "high")}
            figures[SPLIT] = {**figures.get(SPLIT, {}), **interval}
        if method.utility_of_retrain is not None:
            figures["test"] = {**figures.get("test", {}), "ndcg_10_of_retrain": method.utility_of_retrain}
        rows += [row._replace(seed=None) for row in rows_of(record, metrics=figures)]
    return rows


def check_keys(rows: Sequence[Row]) -> None:
    """Raise DataError when two rows have the same key."""
    seen = set()
    for row in rows:
        if row.key in seen:
            raise DataError(
                f"cells: two of them give {row.split}/{row.metric} of {row.method} {row.model}-{row.seed} on request "
                f'"{row.request}"; rows of one method must differ in model, request or seed'
            )
        seen.add(row.key)


def rows_of(
    record: Record, method: str | None = None, metrics: Mapping[str, Mapping[str, float]] | None = None
) -> list[Row]:
    """Metrics under a record's key, its own or others; ``method`` stands in for the record's."""
    named = record if method is None else replace(record, method=method)
    shown = record.metrics if metrics is None else metrics
    return [_row(named, split, metric, value) for split, part in shown.items() for metric, value in part.items()]


def to_csv(rows: Sequence[Row]) -> str:
    """The table as text: a header, counts as whole numbers, other values with six significant digits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Row._fields)
    marked = (Row(*map(harmless, row)) for row in rows)
    writer.writerows(row._replace(value=_digits(row.value)) for row in marked)  # type: ignore[arg-type]  # text from here
    return out.getvalue()


def write_rows(rows: Sequence[Row], file: Path) -> None:
    """Write the table with values at full precision; raises RunError where it cannot be written."""
    write_parquet(file, pd.DataFrame(rows, columns=list(Row._fields)).astype({"seed": "Int64", "value": "float64"}))


def audit_rows(record: Record, audit: Mapping[str, Any]) -> list[Row]:
    """The figures of an audit's JSON under the key of the row it is of, split ``audit``; what is null is left out.

    A figure has its own key as metric, such as ``membership/lira_auc``, and what stands beside it has the name of the
    field behind: ``_low``, ``_high``, ``_retrain``, ``_retrain_low``, ``_retrain_high``, ``_original``. ``passes``,
    ``fails``, ``cannot_tell`` and ``not_judged`` are 1 for its verdict.
    """
    values: dict[str, float] = {word.replace(" ", "_"): float(audit["verdict"]["word"] == word) for word in WORDS}
    for key, figure in audit["figures"].items():
        named = {key if name == "value" else f"{key}_{name}": value for name, value in figure.items()}
        values |= {name: value for name, value in named.items() if value is not None}
    return rows_of(record, metrics={AUDIT: values})


def costs(group: Group, record: Record) -> dict[str, float]:
    """Cost of a row: counts, what was measured, and Retrain's mean over its own. What was not measured is not there.

    Seconds are compared only between runs of one kind of machine and the same number of threads.
    """
    values = {**record.counts, **(record.measured or {})}
    for name, metric in SPEEDUPS.items():
        reference = _reference_cost(group, record, metric)
        if reference is not None and values.get(metric, 0) > 0:
            values[name] = reference / values[metric]
    return values


def categories(record: Record) -> list[str]:
    """The categories of a request; none for requests of other kinds."""
    return list(record.partition["request"]["categories"]) if record.kind == "category" else []


def category(record: Record) -> str:
    """The categories of a request, joined by ``|``; empty for requests of other kinds."""
    return "|".join(categories(record))


def _rows(group: Group, record: Record) -> Iterator[Row]:
    for split, part in record.metrics.items():
        for metric, value in part.items():
            yield _row(record, split, metric, value)
    for name, value in _judged(group, record).items():
        yield _row(record, SPLIT, name, value)
    for split, part in _limits(group, record).items():
        for metric, value in part.items():
            yield _row(record, split, metric, value)
    for name, value in sorted(costs(group, record).items()):
        yield _row(record, "cost", name, value)


def _judged(group: Group, record: Record) -> dict[str, float]:
    """The figures of both rules, and what comes of them: ``pass`` only where the verdict passes or fails."""
    judged, quality = verdict(group, record), group.qualities.get(record.cell)
    if judged is None or record.kind not in KINDS:
        return {}
    figures: dict[str, float] = {"not_judged": judged.word == "not judged", "num_retrains": judged.num_retrains}
    if quality is not None:
        figures |= {f"{METRIC}_gap": quality.hit_10_gap, f"{METRIC}_gap_bound": quality.hit_10_gap_bound}
        figures |= {f"{METRIC}_gap_limit": quality.hit_10_gap_limit}
        figures |= {name: getattr(quality, name) for name in ("ks_d", "ks_d_retrain_max", "ks_d_limit", "ks_p")}
        figures |= {} if quality.passes is None else {"pooled_pass": quality.passes}
    if judged.word != "not judged":
        figures |= {"over_unlearning": judged.over_unlearning, "cannot_tell": judged.word == "cannot tell"}
        figures["num_tests"] = judged.num_tests
    if judged.sees is not None:
        shares = {"sees_users": judged.sees.users.share, "sees_z_rank": judged.sees.z_rank.share}
        figures |= {name: share for name, share in shares.items() if share is not None}
    if judged.word in ("passes", "fails"):
        figures["pass"] = judged.word == "passes"
    return {name: float(value) for name, value in figures.items()}


def _limits(group: Group, record: Record) -> dict[str, dict[str, float]]:
    """What the figures of the file and of single events are held against; of raw scores nothing."""
    if style(record.method).role == "raw":
        return {}
    by_event, recovered = {}, {}
    if file := group.files.get(record.cell):
        recovered = {f"{attack}_{METRIC}_limit": limit for attack, limit in file.limits.items()}
    if memory := group.memories.get(record.cell):
        by_event["memory_left_limit"] = memory.limit
    if level := group.levels.get(record.cell):
        by_event |= {"level_standard_error": level.standard_error, "level_ks_d": level.ks_d}
    return {RECOVERED: recovered, BY_EVENT: by_event}


def _row(record: Record, split: str, metric: str, value: float) -> Row:
    return Row(
        dataset=record.dataset,
        model=record.model,
        method=record.method,
        seed=record.seed,
        split=split,
        category=category(record),
        metric=metric,
        value=value,
        request=record.request,
        partition_seed=record.partition["request"]["seed"],
    )


def _reference_cost(group: Group, record: Record, metric: str) -> float | None:
    """Mean cost of the Retrains; None without any, where one lacks it, or where seconds are of another machine."""
    values = []
    for retrain in group.retrains:
        value = {**retrain.counts, **(retrain.measured or {})}.get(metric)
        if value is None or (metric in TIMES and retrain.machine != record.machine):
            return None
        values.append(value)
    return mean_and_spread(values)[0] if values else None


def _digits(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"
