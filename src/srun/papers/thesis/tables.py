"""Tables 2 to 6 of the SRUGA thesis: its printed figures and ours, side by side, as text."""

from collections.abc import Mapping
from typing import Any

from srun.judging.styles import model_name, style
from srun.papers.document import Rows
from srun.papers.printed import printed_rows
from srun.papers.texts import mean_text
from srun.papers.thesis.measured import Measured, Runs, models_of, speed_up
from srun.reporting.texts import NONE

METHODS = ("original", "retrain", "sisa", "sruga")
RANKINGS = {"_sampled": "ours, 100 sampled", "": "ours, full ranking"}
SETS = {"test_raw": "D_raw", "test": "D_rem", "forget_report": "D_fgt"}
SHORT = {"ndcg": "N", "recall": "R", "hit": "H"}


def tables(
    dataset: str, sizes: Mapping[str, float], values: Mapping[str, Any], measured: Measured, explanations: Rows
) -> dict[str, Rows]:
    """Rows by title. ``values`` has our value of every dotted key of Table 3, ``explanations`` our rows of Table 6."""
    models = models_of(measured)
    return {
        "Table 2: data": _data(dataset, sizes),
        "Table 3: settings": [
            {"": row["parameter"], "printed": row["value"], "ours": str(values[row["key"]])}
            for row in printed_rows("thesis-table-3")
        ],
        "Table 4: recommendation and forgetting": [row for model in models for row in _ranks(dataset, model, measured)],
        "Table 5: minutes": [row for model in models for row in _minutes(dataset, model, measured)],
        "Table 6: a case": [*_printed_explanation(), *explanations],
    }


def _data(dataset: str, sizes: Mapping[str, float]) -> Rows:
    [printed] = printed_rows("thesis-table-2", dataset=dataset)
    ours = {name: f"{value:,.0f}" if value > 1000 else f"{value:.1f}" for name, value in sizes.items()}
    return [{"": name.replace("_", " "), "printed": printed[name], "ours": ours[name]} for name in sizes]


def _ranks(dataset: str, model: str, measured: Measured) -> Rows:
    rows = []
    for method in METHODS:
        [printed] = printed_rows("thesis-table-4", dataset=dataset, model=model, method=method)
        titles = {key: _title(key) for key in printed if "/" in key}
        names = {"Model": model_name(model), "Method": style(method).name}
        rows.append({**names, "": "printed", **{title: printed[key] for key, title in titles.items()}})
        if runs := measured.get((model, method)):
            for suffix, ranking in RANKINGS.items():
                ours = {title: mean_text(runs.of(key + suffix), 4) for key, title in titles.items()}
                rows.append({**names, "": ranking, **ours})
    return rows


def _title(key: str) -> str:
    """The thesis' name of a figure: ``test_raw/ndcg_20`` is D_raw N@20."""
    split, _, metric = key.partition("/")
    name, _, cut_off = metric.partition("_")
    return f"{SETS[split]} {SHORT[name]}@{cut_off}"


def _minutes(dataset: str, model: str, measured: Measured) -> Rows:
    """To the returned model, as a cost; with the epochs of patience after it, as the thesis seems to count."""
    printed = {
        row["method"]: float(row["minutes"]) for row in printed_rows("thesis-table-5", dataset=dataset, model=model)
    }
    reference = measured.get((model, "retrain"), Runs())
    rows = []
    for method, minutes in printed.items():
        runs = measured.get((model, method), Runs())
        row = {"Model": model_name(model), "Method": style(method).name, "printed": f"{minutes:.2f}"}
        row["printed speed-up"] = _times(speed_up([minutes], [printed["retrain"]]))
        row["ours"] = mean_text(runs.minutes, 2)
        row["ours: speed-up"] = _times(speed_up(runs.minutes, reference.minutes))
        row["ours, with patience"] = mean_text(runs.minutes_with_patience, 2)
        ratio = speed_up(runs.minutes_with_patience, reference.minutes_with_patience)
        row["ours, with patience: speed-up"] = _times(ratio)
        rows.append(row)
    return rows


def _times(ratio: float | None) -> str:
    return NONE if ratio is None else f"{ratio:.1f}×"


def _printed_explanation() -> Rows:
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
