"""Tables 1 to 3 and Figures 3 and 4 of the attribution paper: its printed figures and ours, side by side, as text."""

from collections.abc import Mapping, Sequence

from srun.data.dataset import Dataset
from srun.judging.records import Group, Record
from srun.judging.results import SPEEDUPS, category, costs
from srun.judging.styles import style
from srun.papers.attribution import further_tables as further
from srun.papers.attribution.findings import Findings, compared, figures_of, removal_rates, without_raw
from srun.papers.attribution.texts import CUT_OFFS, RANKINGS, mean, percents
from srun.papers.document import Rows
from srun.papers.printed import printed_rows
from srun.reporting.texts import NONE

RATIOS = {"hit": "HR", "ndcg": "NDCG"}
SPEEDUP_TITLES = {
    "Speed-up by the clock": "speedup_clock",
    "in processor seconds": "speedup",
    "in scored positions": "speedup_scored_positions",
    "in target gradients": "speedup_target_gradients",
}
"""Measures of ``SPEEDUPS`` by the titles of their columns."""


def tables(dataset: str, data: Dataset, findings: Findings, changes: Mapping[str, Sequence[str]]) -> dict[str, Rows]:
    """Rows by title; ``changes``: protocol -> what it overrides."""
    groups = findings.groups
    return {
        "Table 1: data": _data(dataset, data),
        "Table 2: running time": [row for group in groups for row in _times(group)],
        "Table 3: removal rate": [row for group in groups for row in _removal(group)],
        "Figures 3 and 4 as a table: all targets of report users": [
            row for group in groups for row in _ranking(group, findings.others)
        ],
        "What the removal rate depends on": [row for group in groups for row in further.definitions(group)],
        "Removal rate by protocol": [row for group in groups for row in further.protocols(group, findings, changes)],
        "What is kept and what is left": [row for group in groups for row in further.judged(group)],
        "The choice of neurons beside controls": [
            row for request, figures in findings.categories.items() for row in further.controls(request, figures)
        ],
        "attribution_plus without one of its parts": [
            row for group in groups for row in further.ablation(group, findings)
        ],
    }


def _data(dataset: str, data: Dataset) -> Rows:
    rows = [{"": f"{row['dataset']}, printed", **_sizes(row)} for row in printed_rows("attribution-table-1")]
    num_events = len(data.item)
    ours = {
        "users": str(data.num_users),
        "items": str(data.num_items),
        "interactions_per_user": f"{num_events / data.num_users:.1f}",
        "sparsity_percent": f"{100 * (1 - num_events / data.num_users / data.num_items):.2f}",
    }
    return [*rows, {"": f"{dataset}, ours", **_sizes(ours)}]


def _sizes(row: Mapping[str, str]) -> dict[str, str]:
    names = {
        "users": "users",
        "items": "items",
        "interactions_per_user": "interactions a user",
        "sparsity_percent": "sparsity, %",
    }
    return {title: row[name] for name, title in names.items()}


def _times(group: Group) -> Rows:
    rows = []
    for row in printed_rows("attribution-table-2", category=category(group.first)):
        method = f"{style(row['method']).name}, printed"
        rows.append(_time(row["category"], method, row["minutes"], {"speedup_clock": row["speedup"]}))
    for method in ("retrain", "attribution", "attribution_plus"):
        by_seed = [costs(group, record) for record in group.of(method)]
        if by_seed:
            minutes = mean([cost["seconds"] / 60 if "seconds" in cost else None for cost in by_seed], 2)
            ratios = {name: mean([cost.get(name) for cost in by_seed], 1) for name in SPEEDUPS}
            rows.append(_time(category(group.first), f"{style(method).name}, ours", minutes, ratios))
    return rows


def _time(name: str, method: str, minutes: str, ratios: Mapping[str, str]) -> dict[str, str]:
    """``ratios``: speed-ups by their names in ``SPEEDUPS``; minutes are by the clock, as the printed ones must be."""
    columns = {"Category": name, "Method": method, "Minutes": minutes}
    return {**columns, **{title: ratios.get(measure, NONE) for title, measure in SPEEDUP_TITLES.items()}}


def _removal(group: Group) -> Rows:
    rows = [
        {
            "Category": row["category"],
            "Method": f"{style(row['method']).name}, printed",
            "Removal rate": f"{row['removal_rate_percent']} %",
            "by sampled ranking": NONE,
            "of lists": NONE,
        }
        for row in printed_rows("attribution-table-3", category=category(group.first))
    ]
    for method in without_raw(group):
        if method != "original":
            rows.append(
                {
                    "Category": category(group.first),
                    "Method": f"{style(method).name}, ours",
                    "Removal rate": percents(removal_rates(group, method, "in_category", "hit_10")),
                    "by sampled ranking": percents(removal_rates(group, method, "in_category", "hit_10_sampled")),
                    "of lists": percents(figures_of(group.of(method), "in_category", "list_removal_rate_10")),
                }
            )
    return rows


def _ranking(group: Group, others: Sequence[Record]) -> Rows:
    rows = []
    for ending, ranking in RANKINGS.items():
        for name, records in compared(group, others):
            row = {"Category": category(group.first), "Ranking": ranking, "Model": name}
            for metric, title in RATIOS.items():
                for k in CUT_OFFS:
                    row[f"{title}@{k}"] = mean(figures_of(records, "all_targets", f"{metric}_{k}{ending}"), 4)
            rows.append(row)
    return rows
