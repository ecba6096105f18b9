"""Tables 1 to 3 and Figures 3 and 4 of the attribution paper, printed beside ours, and what lies behind them."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure as Canvas

from srun.judging.methods import model_name, style
from srun.judging.records import Group, Record, relearning_figures
from srun.judging.results import SPEEDUPS, category, costs
from srun.papers.printed import printed_rows
from srun.reporting.figures import DOTS_PER_INCH, INK
from srun.reporting.summary import NONE, markdown_table, mean_text, steps_text

Rows = list[dict[str, str]]
Studies = Mapping[str, Mapping[str, Any]]
RANKINGS = {"_sampled": "100 sampled", "": "full"}
SPLITS = {
    "in_category": "test targets",
    "forget_report": "training events",
    "forget_tune": "find users' training events",
}
"""What may count as removed: of report users, and last where neurons were looked for."""
CUT_OFFS = (1, 5, 10)
RATIOS = {"hit": "HR", "ndcg": "NDCG"}
WAYS = {"returned": "returned events", "retain": "retain set"}
ODDITIES = (
    "The removal rate is not defined. Retrain's 100 % holds by definition when items that were never trained on cannot "
    "be recommended, whatever is measured.",
    "HR@10 .6018 and NDCG@10 .4903 of the original model are of the size that ranking among sampled candidates gives.",
    "Neither the number of blocks, the width, the length of a sequence nor the epochs are given; 987 minutes for an "
    "edit of 4 to 8 neurons must nearly all be attribution, of one sequence and neuron at a time.",
    "Figures 3 and 4 do not say of which category's removal they are, nor whether targets in it count.",
    "The table counts 163.5 interactions a user under the heading #Interaction.",
)
"""What is odd in the paper's figures, to be said wherever they are quoted."""


def tables(
    dataset: str,
    num_users: int,
    num_items: int,
    num_events: int,
    groups: Sequence[Group],
    others: Sequence[Record],
    studies: Studies,
    by_protocol: Mapping[str, Sequence[Record]],
    changes: Mapping[str, Sequence[str]],
) -> dict[str, Rows]:
    """Rows by title; ``others`` are further recommenders, which no request was carried out on.

    ``by_protocol`` are Originals and edits made under each protocol, and ``changes`` what it overrides.
    """
    return {
        "Table 1: data": _data(dataset, num_users, num_items, num_events),
        "Table 2: running time": [row for group in groups for row in _times(group)],
        "Table 3: removal rate": [row for group in groups for row in _removal(group)],
        "Figures 3 and 4 as a table: all targets of report users": [
            row for group in groups for row in _ranking(group, others)
        ],
        "What the removal rate depends on": [row for group in groups for row in _definitions(group)],
        "Removal rate by protocol": [row for group in groups for row in _protocols(group, by_protocol, changes)],
        "What is kept and what is left": [row for group in groups for row in _judged(group)],
        "The choice of neurons beside controls": [row for name in studies for row in _controls(name, studies[name])],
        "attribution_plus without one of its parts": [
            row for group in groups for row in _ablation(group, studies[group.request])
        ],
    }


def notes(records: Sequence[Record], left: Sequence[str]) -> list[str]:
    """What is to be known of the tables."""
    trained = {record.original: record.info["train"] for record in records if record.method == "original"}
    found = [
        "Figures are of report users (20 %); neurons come from the others' training transitions. Contexts leave the "
        "category's items out.",
        "“Sampled” ranks a target among 100 items the user never had; “full” among the whole catalogue.",
    ]
    for name, recipe in trained.items():
        found.append(f"{name}: at most {recipe['max_epochs']} epochs, as its Retrain; the best on validation is kept.")
    return [*found, f"Not done yet: {', '.join(left)}."] if left else found


def write_markdown(dataset: str, said: Sequence[str], found: Mapping[str, Rows]) -> str:
    """The tables as one text."""
    lines = [f"# The attribution paper on {dataset}", "", *(f"- {note}" for note in said), ""]
    for name, rows in found.items():
        if rows:
            lines += [f"## {name}", "", *markdown_table(list(rows[0]), [list(row.values()) for row in rows]), ""]
    return "\n".join([*lines, "## What is odd in the printed figures", "", *(f"- {line}" for line in ODDITIES)]) + "\n"


def _data(dataset: str, num_users: int, num_items: int, num_events: int) -> Rows:
    rows = [{"": f"{row['dataset']}, printed", **_sizes(row)} for row in printed_rows("attribution-table-1")]
    ours = {
        "users": str(num_users),
        "items": str(num_items),
        "interactions_per_user": f"{num_events / num_users:.1f}",
        "sparsity_percent": f"{100 * (1 - num_events / num_users / num_items):.2f}",
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
        rows.append(
            _time(row["category"], f"{style(row['method']).name}, printed", row["minutes"], row["speedup"], NONE, NONE)
        )
    for method in ("retrain", "attribution", "attribution_plus"):
        found = [costs(group, record) for record in group.of(method)]
        if found:
            minutes = _mean([cost["seconds"] / 60 if "seconds" in cost else None for cost in found], 2)
            ratios = (_mean([cost.get(name) for cost in found], 1) for name in SPEEDUPS)
            rows.append(_time(category(group.first), f"{style(method).name}, ours", minutes, *ratios))
    return rows


def _time(name: str, method: str, minutes: str, speedup: str, scored: str, gradients: str) -> dict[str, str]:
    columns = {"Category": name, "Method": method, "Minutes": minutes, "Speed-up": speedup}
    return {**columns, "in scored positions": scored, "in target gradients": gradients}


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
    for method in _methods(group):
        if method != "original":
            rows.append(
                {
                    "Category": category(group.first),
                    "Method": f"{style(method).name}, ours",
                    "Removal rate": _rates(group, method, "in_category", "hit_10"),
                    "by sampled ranking": _rates(group, method, "in_category", "hit_10_sampled"),
                    "of lists": _shares(group, method, "in_category", "list_removal_rate_10"),
                }
            )
    return rows


def _methods(group: Group) -> list[str]:
    """Without the rows of raw scores."""
    return [method for method in group.methods if style(method).role != "raw"]


def _rates(group: Group, method: str, split: str, metric: str) -> str:
    """1 - a figure / that of the Original that the row starts from, over seeds."""
    before = {record.original: record.value(split, metric) for record in group.of("original")}
    return _percents([_removed(before.get(r.original), r.value(split, metric)) for r in group.of(method)])


def _shares(group: Group, method: str, split: str, metric: str) -> str:
    return _percents([record.value(split, metric) for record in group.of(method)])


def _removed(before: float | None, after: float | None) -> float | None:
    return 1 - after / before if before and after is not None else None


def _ranking(group: Group, others: Sequence[Record]) -> Rows:
    rows = []
    for ending, ranking in RANKINGS.items():
        for name, records in _shown(group, others):
            row = {"Category": category(group.first), "Ranking": ranking, "Model": name}
            for metric, title in RATIOS.items():
                for k in CUT_OFFS:
                    row[f"{title}@{k}"] = _mean([r.value("all_targets", f"{metric}_{k}{ending}") for r in records], 4)
            rows.append(row)
    return rows


def _shown(group: Group, others: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """What Figures 3 and 4 have: the methods, by seed, and the further recommenders."""
    methods = [m for m in ("original", "retrain", "attribution", "attribution_plus") if group.of(m)]
    asked = [(style(method).name, group.of(method)) for method in methods]
    return [*asked, *((model_name(record.model), [record]) for record in others if record.request == group.request)]


def _definitions(group: Group) -> Rows:
    """The same edit, by every definition of removal that the paper's text allows."""
    rows = []
    for method in ("attribution", "attribution_plus", "output_mask"):
        if not group.of(method):
            continue
        for split, said in SPLITS.items():
            for ending, ranking in RANKINGS.items():
                rates = {f"1 - Hit@{k} ratio": _rates(group, method, split, f"hit_{k}{ending}") for k in CUT_OFFS}
                rates["1 - MRR ratio"] = _rates(group, method, split, f"mrr{ending}")
                row = {"Category": category(group.first), "Method": style(method).name, "Of": said, "Ranking": ranking}
                rows.append({**row, **rates})
    return rows


def _protocols(group: Group, by_protocol: Mapping[str, Sequence[Record]], changes: Mapping[str, Sequence[str]]) -> Rows:
    """The paper's edit of one category under the preset, and under each protocol, by every ranking and definition."""
    found = {"as in the other tables": group.records, **by_protocol}
    rows = []
    for name, records in found.items():
        here = {r.method: r for r in records if r.request == group.request and r.seed == 0}
        if not {"original", "attribution"} <= here.keys():
            continue
        before, after = here["original"], here["attribution"]
        row = {
            "Category": category(after),
            "Protocol": name,
            "Changed": ", ".join(changes.get(name, ())) or NONE,
            "Neurons": str(len(after.info["edits"])),
            "Targets": _number(before.value("in_category", "num_events"), 0),
            "Hit@10 before": _number(before.value("in_category", "hit_10"), 4),
            "of 100 sampled": _number(before.value("in_category", "hit_10_sampled"), 4),
        }
        for split, said in SPLITS.items():
            for ending, ranking in RANKINGS.items():
                rate = _removed(before.value(split, f"hit_10{ending}"), after.value(split, f"hit_10{ending}"))
                row[f"Removed: {said}, {ranking}"] = _percent(rate)
        rows.append({**row, "Removed: of lists": _percent(after.value("in_category", "list_removal_rate_10"))})
    return rows


def _judged(group: Group) -> Rows:
    return [
        {
            "Category": category(group.first),
            "Method": style(method).name,
            "Seeds": str(len(group.of(method))),
            "Removal rate": _shares(group, method, "in_category", "removal_rate_10"),
            "Hit@10 of Retrain's": _shares(group, method, "out_of_category", "hit_10_of_retrain"),
            "NDCG@10 of Retrain's": _shares(group, method, "out_of_category", "ndcg_10_of_retrain"),
            "Probe AUC": _mean([record.value("all_targets", "probe_auc") for record in group.of(method)], 3),
            "nearer than the mask, 95 %": "; ".join(map(_nearer, group.of(method))),
            **_relearning([r.metrics.get("relearning", {}) for r in group.of(method)], ("returned", "retain")),
        }
        for method in _methods(group)
    ]


def _nearer(record: Record) -> str:
    low, high = (record.value("all_targets", f"probe_nearer_{end}") for end in ("low", "high"))
    return NONE if low is None or high is None else f"{low:+.3f} to {high:+.3f}"


def _relearning(figures: Sequence[Mapping[str, float]], ways: Sequence[str]) -> dict[str, str]:
    """Steps and Hit@10 before and after them, over seeds, by way of relearning."""
    row = {}
    for way in ways:
        title = f"Relearning, {WAYS[way]}"
        row[f"{title}: steps"] = steps_text([found[f"{way}_steps"] for found in figures if f"{way}_steps" in found])
        ends = [_mean([found.get(f"{way}_hit_10_{end}") for found in figures], 4) for end in ("first", "last")]
        row[f"{title}: Hit@10"] = " to ".join(ends) if NONE not in ends else NONE
    return row


def _controls(request: str, study: Mapping[str, Any]) -> Rows:
    rows = []
    for name, values in study["controls"].items():
        advantage, interval = NONE, NONE
        if "advantage" in values:
            advantage = _percent(values["advantage"])
            interval = f"{_percent(values['advantage_low'])} to {_percent(values['advantage_high'])}"
        rows.append(
            {
                "Request": request,
                "Neurons": name,
                "Number": _number(values["num_neurons"], 1),
                "Removal rate": _percent(values["removal_rate_10"]),
                "of draws, 95 %": _interval(values),
                "Hit@10 kept": _percent(values["hit_10_kept"]),
                "attribution removes more by": advantage,
                "95 %": interval,
            }
        )
    return rows


def _interval(values: Mapping[str, float]) -> str:
    if "removal_rate_10_low" not in values:
        return NONE
    return f"{_percent(values['removal_rate_10_low'])} to {_percent(values['removal_rate_10_high'])}"


def _ablation(group: Group, study: Mapping[str, Any]) -> Rows:
    originals, retrains = group.of("original")[:1], group.retrains  # the study is of the first Original
    return [
        {
            "Request": group.request,
            "attribution_plus": name,
            "Neurons": _number(values["num_neurons"], 0),
            "Removal rate": _percent(values["removal_rate_10"]),
            "Hit@10 kept": _percent(values["hit_10_kept"]),
            "NDCG@10 kept": _percent(values["ndcg_10_kept"]),
            "Probe AUC": _number(values["probe_auc"], 3),
            **_relearning([relearning_figures(values["relearning"], originals, retrains)], ("returned",)),
            "Seconds": _number(values["seconds"], 1),
        }
        for name, values in study["ablation"].items()
    ]


def _number(value: float | None, digits: int) -> str:
    return _mean([value], digits)


def _mean(values: Sequence[float | None], digits: int) -> str:
    """Mean and spread over seeds, of those that have a figure."""
    return mean_text([value for value in values if value is not None and not math.isnan(value)], digits)


def _percents(values: Sequence[float | None]) -> str:
    text = _mean([None if value is None else 100 * value for value in values], 1)
    return text if text == NONE else f"{text} %"


def _percent(value: float | None) -> str:
    return _percents([value])


def draw(groups: Sequence[Group], others: Sequence[Record], studies: Studies) -> dict[str, bytes]:
    """PNG by file name: the paper's figure by both rankings, and the front of removal against loss."""
    found = {}
    for group in groups:
        found[f"figure-3-{group.request}.png"] = _bars(group, others)
        if studies[group.request]["front"]:
            found[f"front-{group.request}.png"] = _front(group, studies[group.request])
    return found


def _bars(group: Group, others: Sequence[Record]) -> bytes:
    """HR@k and NDCG@k of all targets, means over seeds, sampled above and full below."""
    part = _shown(group, others)
    canvas = Canvas(figsize=(11, 7), layout="constrained")
    axes = canvas.subplots(2, 2)
    for line, (ending, ranking) in zip(axes, RANKINGS.items(), strict=True):
        for axis, (metric, title) in zip(line, RATIOS.items(), strict=True):
            width = 0.8 / max(len(part), 1)
            for index, (name, records) in enumerate(part):
                heights = [_height(records, f"{metric}_{k}{ending}") for k in CUT_OFFS]
                places = [k + (index - (len(part) - 1) / 2) * width for k in range(len(CUT_OFFS))]
                axis.bar(places, heights, width, label=name)
            axis.set_xticks(range(len(CUT_OFFS)), [f"{title}@{k}" for k in CUT_OFFS])
            axis.set_title(f"{title}, {ranking} ranking")
    axes[0, 0].legend(frameon=False, fontsize=8)
    canvas.suptitle(f"Figure 3 by our models: request “{group.request}”, all targets of report users")
    return _png(canvas)


def _height(records: Sequence[Record], metric: str) -> float:
    """Mean of all targets; 0 where a figure was not measured."""
    return math.fsum(record.value("all_targets", metric) or 0.0 for record in records) / len(records)


def _front(group: Group, study: Mapping[str, Any]) -> bytes:
    """Removal against Hit@10 kept elsewhere: neurons by dose, and the methods."""
    canvas = Canvas(figsize=(8.5, 6), layout="constrained")
    axes = canvas.subplots()
    for name, rows in study["front"].items():
        points = [(row["hit_10_kept"], row["removal_rate_10"]) for row in rows]
        axes.plot(*zip(*points, strict=True), marker=".", label=f"neurons, {name} first", linewidth=1)
    for record in group.records:
        kept, removed = (
            record.value(*key) for key in (("out_of_category", "hit_10_kept"), ("in_category", "removal_rate_10"))
        )
        if kept is None or removed is None or style(record.method).role == "raw":
            continue
        look = style(record.method)
        label = look.name if record.seed == 0 else None
        axes.plot(kept, removed, look.marker, color=look.colour, markersize=9, markeredgecolor="white", label=label)
    axes.axhline(0, color=INK, linewidth=0.5)
    axes.set(xlabel="Hit@10 kept out of the category (1: as Original)", ylabel="removal rate of the category")
    axes.set_title(f"Removal against loss: request “{group.request}”, test targets of report users")
    axes.legend(frameon=False, fontsize=8)
    return _png(canvas)


def _png(canvas: Canvas) -> bytes:
    png = io.BytesIO()
    canvas.savefig(png, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return png.getvalue()
