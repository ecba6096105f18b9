"""Tables 2 to 6 and Figures 6 to 8 of the SRUGA thesis: what it prints and what was run here, side by side."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure as Canvas

from srun.judging.methods import model_name, style
from srun.judging.records import Record
from srun.metrics.ranking import mean_and_spread
from srun.models import MODELS
from srun.papers.printed import ODDITIES, printed_rows
from srun.reporting.figures import DOTS_PER_INCH, INK
from srun.reporting.summary import NONE, markdown_table, mean_text

METHODS = ("original", "retrain", "sisa", "sruga")
RANKINGS = {"_sampled": "ours, 100 sampled", "": "ours, full ranking"}
SETS = {"test_raw": "D_raw", "test": "D_rem", "forget_report": "D_fgt"}
SHORT = {"ndcg": "N", "recall": "R", "hit": "H"}
FIGURES = {
    "figure-6.png": ("test_raw", "ndcg_10", "Figure 6: NDCG@10 on D_raw"),
    "figure-7.png": ("forget_report", "hit_10", "Figure 7: Hit@10 on D_fgt"),
    "figure-8.png": ("test", "recall_10", "Figure 8: Recall@10 on D_rem"),
}
Rows = list[dict[str, str]]


def tables(
    dataset: str, sizes: Mapping[str, float], values: Mapping[str, Any], records: Sequence[Record], studies: Rows
) -> dict[str, Rows]:
    """Rows by title. ``values`` has our value of every dotted key of Table 3, ``studies`` the rows of Table 6."""
    models = [model for model in MODELS if any(record.model == model for record in records)]
    return {
        "Table 2: data": _data(dataset, sizes),
        "Table 3: settings": [
            {"": row["parameter"], "printed": row["value"], "ours": str(values[row["key"]])}
            for row in printed_rows("thesis-table-3")
        ],
        "Table 4: recommendation and forgetting": [
            row for model in models for row in _figures(dataset, model, records)
        ],
        "Table 5: minutes": [row for model in models for row in _minutes(dataset, model, records)],
        "Table 6: a case": [*_printed_case(), *studies],
    }


def write_markdown(title: str, notes: Sequence[str], found: Mapping[str, Rows]) -> str:
    """The tables as one text, with what is to be known of them."""
    lines = [f"# {title}", "", *(f"- {note}" for note in notes), ""]
    for name, rows in found.items():
        if rows:
            lines += [f"## {name}", "", *markdown_table(list(rows[0]), [list(row.values()) for row in rows]), ""]
    lines += ["## What is odd in the printed figures", "", *(f"- {line}" for line in ODDITIES)]
    return "\n".join(lines) + "\n"


def draw(dataset: str, records: Sequence[Record]) -> dict[str, bytes]:
    """PNG by file name: bars of every model and method, printed beside ours among sampled candidates."""
    models = [model for model in MODELS if any(record.model == model for record in records)]
    return {
        file: _bars(dataset, models, records, split, metric, title)
        for file, (split, metric, title) in FIGURES.items()
        if models
    }


def _data(dataset: str, sizes: Mapping[str, float]) -> Rows:
    [printed] = printed_rows("thesis-table-2", dataset=dataset)
    ours = {name: f"{value:,.0f}" if value > 1000 else f"{value:.1f}" for name, value in sizes.items()}
    return [{"": name.replace("_", " "), "printed": printed[name], "ours": ours[name]} for name in sizes]


def _of(records: Sequence[Record], model: str, method: str) -> list[Record]:
    return [record for record in records if (record.model, record.method) == (model, method)]


def _values(records: Sequence[Record], split: str, metric: str) -> list[float]:
    return [value for record in records if (value := record.value(split, metric)) is not None]


def _figures(dataset: str, model: str, records: Sequence[Record]) -> Rows:
    rows = []
    for method in METHODS:
        [printed] = printed_rows("thesis-table-4", dataset=dataset, model=model, method=method)
        columns = [tuple(name.split("/")) for name in printed if "/" in name]
        titles = [f"{SETS[split]} {SHORT[metric.split('_')[0]]}@{metric.split('_')[1]}" for split, metric in columns]
        names = {"Model": model_name(model), "Method": style(method).name}
        figures = [printed["/".join(column)] for column in columns]
        rows.append({**names, "": "printed", **dict(zip(titles, figures, strict=True))})
        own = _of(records, model, method)
        for suffix, what in RANKINGS.items() if own else ():
            figures = [mean_text(_values(own, split, metric + suffix), 4) for split, metric in columns]
            rows.append({**names, "": what, **dict(zip(titles, figures, strict=True))})
    return rows


def _minutes(dataset: str, model: str, records: Sequence[Record]) -> Rows:
    """To the returned model, as a cost; with the epochs of patience after it, as the thesis seems to count."""
    printed = {
        row["method"]: float(row["minutes"]) for row in printed_rows("thesis-table-5", dataset=dataset, model=model)
    }
    own = {method: _measured(_of(records, model, method)) for method in printed}
    rows = []
    for method, minutes in printed.items():
        row = {"Model": model_name(model), "Method": style(method).name, "printed": f"{minutes:.2f}"}
        row["printed speed-up"] = f"{printed['retrain'] / minutes:.1f}×"
        for title, index in (("ours", 0), ("ours, with patience", 1)):
            mine, reference = own[method][index], own["retrain"][index]
            row[title] = mean_text(mine, 2)
            ratio = mean_and_spread(reference)[0] / mean_and_spread(mine)[0] if mine and reference else None
            row[f"{title}: speed-up"] = NONE if ratio is None else f"{ratio:.1f}×"
        rows.append(row)
    return rows


def _measured(records: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Minutes to the returned model, and to the end of the run, of every row that was measured."""
    costs = [record.measured for record in records if record.measured]
    return [cost["seconds"] / 60 for cost in costs], [
        (cost["seconds"] + cost["seconds_patience"]) / 60 for cost in costs
    ]


def _printed_case() -> Rows:
    return [
        {
            "Model": "SASRec (printed)",
            "Method": style(row["method"]).name,
            "Question": row["sequence"],
            "History": row["history"].replace(" ", ", "),
            "Target": row["target"],
            "Rank": row["rank"],
            "Top": row["top_10"].replace(" ", ", "),
        }
        for row in printed_rows("thesis-table-6")
    ]


def _bars(dataset: str, models: Sequence[str], records: Sequence[Record], split: str, metric: str, title: str) -> bytes:
    canvas = Canvas(figsize=(2.2 + 2.6 * len(models), 3.9), layout="constrained")
    axes = canvas.subplots()
    width = 0.8 / (2 * len(METHODS))
    for place, (method, ours) in enumerate((method, ours) for method in METHODS for ours in (False, True)):
        look, spots = style(method), [index - 0.4 + (place + 0.5) * width for index in range(len(models))]
        heights = [_height(dataset, model, method, records, split, metric, ours) for model in models]
        name = f"{look.name}, {'ours (100 sampled)' if ours else 'printed'}"
        colour, hatch = (look.colour, None) if ours else ("white", "////")
        axes.bar(spots, heights, width * 0.9, color=colour, edgecolor=look.colour, hatch=hatch, label=name)
    axes.set_xticks(range(len(models)), [model_name(model) for model in models])
    axes.set_title(title, fontsize=10.5, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    canvas.legend(loc="outside lower center", ncols=min(4, 2 * len(models)), frameon=False, fontsize=7.5)
    out = io.BytesIO()
    canvas.savefig(out, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    return out.getvalue()


def _height(
    dataset: str, model: str, method: str, records: Sequence[Record], split: str, metric: str, ours: bool
) -> float:
    """The height of a bar; 0, which is no bar, where nothing was run."""
    if not ours:
        [row] = printed_rows("thesis-table-4", dataset=dataset, model=model, method=method)
        return float(row[f"{split}/{metric}"])
    values = _values(_of(records, model, method), split, f"{metric}_sampled")
    return mean_and_spread(values)[0] if values else 0.0
