"""The folder written of the SRUGA thesis: tables, figures and results.csv of the finished cells."""

from collections.abc import Mapping, Sequence
from typing import Any

from srun.data.synthetic import STEAM
from srun.flow.cells import Cell
from srun.flow.explain import examples
from srun.flow.judge import read_original, read_record
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset
from srun.judging.records import Record, group_records
from srun.judging.results import long_form, to_csv
from srun.judging.styles import model_name, style
from srun.papers.document import Rows, markdown, write_document
from srun.papers.printed import THESIS_ODDITIES
from srun.papers.thesis.measured import measure
from srun.papers.thesis.tables import tables


def write(
    layout: Layout, cells: Mapping[str, Cell], dataset: str, values: Mapping[str, Any], left: Sequence[str]
) -> dict[str, Any]:
    """Write tables, figures and results.csv of the finished cells; returns the paths and the tables.

    ``values``: our value of every key of Table 3. A model whose Retrain is not finished is not in results.csv.
    """
    from srun.papers.thesis.figures import draw  # matplotlib, which a run should not wait for

    finished = {name: cell for name, cell in cells.items() if not {f"unlearn {name}", f"evaluate {name}"} & set(left)}
    records = [read_record(layout, name, cell) for name, cell in finished.items()]
    runs = measure(records)
    made = tables(dataset, _sizes(layout), values, runs, explanation_rows(layout, finished))
    notes = _notes(str(load_dataset(layout).info["name"]), records, left)
    text = markdown(f"The SRUGA thesis on {dataset.title()}", notes, made, THESIS_ODDITIES)
    written = write_document(layout.root, text, draw(dataset, runs), _results(layout, records))
    return {"written": written, "tables": made}


def explanation_rows(layout: Layout, cells: Mapping[str, Cell]) -> Rows:
    """Rows of Table 6: a user of ours under Original and SRUGA, of the first seed, by item numbers."""
    compared = ("original", "sruga")
    starts = {(cell.original, cell.method) for cell in cells.values()}
    chosen = {
        name: cell
        for name, cell in cells.items()
        if cell.method in compared and {(cell.original, method) for method in compared} <= starts
    }
    if not chosen:
        return []
    return [
        {
            "Model": f"{model_name(original.split('-')[0])} (ours, {original})",
            "Method": style(method).name,
            "Question": question.split,
            "History": ", ".join(map(str, question.history[-10:])),
            "Target": str(question.target),
            "Rank": f"{rank:g}",
            "Top": ", ".join(map(str, question.top[method])),
        }
        for original, explanation in examples(layout, chosen).items()
        for question in explanation.questions
        for method, rank in question.ranks.items()
    ]


def _sizes(layout: Layout) -> dict[str, float]:
    """What Table 2 counts of a data set."""
    data = load_dataset(layout)
    num_events = len(data.item)
    return {
        "users": data.num_users,
        "items": data.num_items,
        "actions_per_user": num_events / data.num_users,
        "actions_per_item": num_events / data.num_items,
    }


def _notes(name: str, records: Sequence[Record], left: Sequence[str]) -> list[str]:
    seeds = sorted({record.seed for record in records})
    notes = [
        f"Data: {name}. Seeds: {', '.join(map(str, seeds)) or 'none yet'}; ± is the standard deviation over them.",
        "D_raw: test after the raw history; D_rem: test after the retained one; D_fgt: forgotten events of the "
        "report half of the request's users, which no stop has looked at (the thesis stops on all that it reports).",
        "Minutes of ours are of one machine, one after the other, to the returned model; the patience is apart.",
    ]
    if name == STEAM:
        notes.insert(0, "The log is synthetic, drawn in the shape of Steam's: its figures say nothing about Steam.")
    if left:
        notes.append(f"Not done yet: {', '.join(left)}.")
    return notes


def _results(layout: Layout, records: Sequence[Record]) -> str:
    judged = {record.model for record in records if record.method == "retrain"}
    kept = [record for record in records if record.model in judged]
    if not kept:
        return to_csv([])
    originals = [read_original(layout, name) for name in dict.fromkeys(record.original for record in kept)]
    return to_csv(long_form(group_records(kept, originals)))
