"""Tables beyond the attribution paper: what the removal rate depends on, what is kept, what a choice is worth."""

from collections.abc import Mapping, Sequence

from srun.judging.records import Group, Record
from srun.judging.results import category
from srun.judging.styles import style
from srun.papers.attribution.category import CategoryFigures, Figures
from srun.papers.attribution.findings import (
    Findings,
    edits_by_protocol,
    figures_of,
    removal_rates,
    removed,
    without_raw,
)
from srun.papers.attribution.texts import CUT_OFFS, RANKINGS, interval, mean, number, percent, percents, relearning
from srun.papers.document import Rows
from srun.reporting.texts import NONE

SPLITS = {
    "in_category": "test targets",
    "forget_report": "training events",
    "forget_tune": "find users' training events",
}
"""What may count as removed: of report users, and last where neurons were looked for."""


def definitions(group: Group) -> Rows:
    """The same edit, by every definition of removal that the paper's text allows."""
    rows = []
    for method in ("attribution", "attribution_plus", "output_mask"):
        if not group.of(method):
            continue
        for split, title in SPLITS.items():
            for ending, ranking in RANKINGS.items():
                metrics = {f"1 - Hit@{k} ratio": f"hit_{k}{ending}" for k in CUT_OFFS}
                metrics["1 - MRR ratio"] = f"mrr{ending}"
                row = {"Category": category(group.first), "Method": style(method).name, "Of": title, "Ranking": ranking}
                rates = {name: percents(removal_rates(group, method, split, key)) for name, key in metrics.items()}
                rows.append({**row, **rates})
    return rows


def protocols(group: Group, findings: Findings, changes: Mapping[str, Sequence[str]]) -> Rows:
    """The paper's edit of one category under the preset, and under each protocol, by every ranking and definition."""
    rows = []
    for protocol, before, after in edits_by_protocol(findings, group):
        row = {
            "Category": category(after),
            "Protocol": protocol,
            "Changed": ", ".join(changes.get(protocol, ())) or NONE,
            "Neurons": str(len(after.info["edits"])),
            "Targets": number(before.value("in_category", "num_events"), 0),
            "Hit@10 before": number(before.value("in_category", "hit_10"), 4),
            "of 100 sampled": number(before.value("in_category", "hit_10_sampled"), 4),
        }
        for split, title in SPLITS.items():
            for ending, ranking in RANKINGS.items():
                rate = removed(before.value(split, f"hit_10{ending}"), after.value(split, f"hit_10{ending}"))
                row[f"Removed: {title}, {ranking}"] = percent(rate)
        rows.append({**row, "Removed: of lists": percent(after.value("in_category", "list_removal_rate_10"))})
    return rows


def judged(group: Group) -> Rows:
    """What every method keeps of Retrain's utility, and what is left of the category in its states."""
    return [
        {
            "Category": category(group.first),
            "Method": style(method).name,
            "Seeds": str(len(group.of(method))),
            "Removal rate": percents(figures_of(group.of(method), "in_category", "removal_rate_10")),
            "Hit@10 of Retrain's": percents(figures_of(group.of(method), "out_of_category", "hit_10_of_retrain")),
            "NDCG@10 of Retrain's": percents(figures_of(group.of(method), "out_of_category", "ndcg_10_of_retrain")),
            "Linear probe AUC": mean(figures_of(group.of(method), "all_targets", "linear_probe_auc"), 3),
            "nearer than the mask, 95 %": "; ".join(map(_nearer, group.of(method))),
            **relearning([row.metrics.get("relearning", {}) for row in group.of(method)], ("returned", "retain")),
        }
        for method in without_raw(group)
    ]


def _nearer(record: Record) -> str:
    low, high = (record.value("all_targets", f"linear_probe_nearer_{end}") for end in ("low", "high"))
    return NONE if low is None or high is None else f"{low:+.3f} to {high:+.3f}"


def controls(request: str, figures: CategoryFigures) -> Rows:
    """The paper's neurons beside random and most active ones."""
    return [
        {
            "Request": request,
            "Neurons": name,
            "Number": number(values["num_neurons"], 1),
            "Removal rate": percent(values["removal_rate_10"]),
            "of draws, 95 %": _interval(values, "removal_rate_10"),
            "Hit@10 kept": percent(values["hit_10_kept"]),
            "attribution removes more by": percent(values.get("advantage")),
            "95 %": _interval(values, "advantage"),
        }
        for name, values in figures.controls.items()
    ]


def _interval(values: Figures, name: str) -> str:
    return interval(values[f"{name}_low"], values[f"{name}_high"]) if f"{name}_low" in values else NONE


def ablation(group: Group, findings: Findings) -> Rows:
    """``attribution_plus`` with some of its settings changed."""
    return [
        {
            "Request": group.request,
            "attribution_plus": name,
            "Neurons": number(values["num_neurons"], 0),
            "Removal rate": percent(values["removal_rate_10"]),
            "Hit@10 kept": percent(values["hit_10_kept"]),
            "NDCG@10 kept": percent(values["ndcg_10_kept"]),
            "Linear probe AUC": number(values["linear_probe_auc"], 3),
            **relearning([findings.relearning[group.request][name]], ("returned",)),
            "Seconds": number(values["seconds"], 1),
        }
        for name, values in findings.categories[group.request].ablation.items()
    ]
