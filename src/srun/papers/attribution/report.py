"""The folder written of the attribution paper: tables, figures and results.csv of all that is finished."""

from collections.abc import Mapping, Sequence
from typing import Any

from srun.flow.cells import Cell
from srun.flow.judge import read_original, read_record
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset
from srun.judging.records import Record, group_records, judge_beside_others
from srun.papers.attribution.category import CategoryFigures
from srun.papers.attribution.experiment import PROTOCOLS, step_under
from srun.papers.attribution.findings import Findings, gather
from srun.papers.attribution.results import results_csv
from srun.papers.attribution.tables import tables
from srun.papers.document import markdown, write_document
from srun.papers.printed import ATTRIBUTION_ODDITIES


def finished_records(
    layout: Layout, cells: Mapping[str, Cell], left: Sequence[str], protocol: str = ""
) -> list[Record]:
    """What was measured of the cells of which no step is ``left``."""
    steps = {name: {step_under(protocol, f"{stage} {name}") for stage in ("unlearn", "evaluate")} for name in cells}
    return [read_record(layout, name, cell) for name, cell in cells.items() if not steps[name] & set(left)]


def write(
    layout: Layout,
    cells: Mapping[str, Cell],
    dataset: str,
    left: Sequence[str],
    categories: Mapping[str, CategoryFigures],
    protocols: Mapping[str, Sequence[Record]],
) -> dict[str, Any]:
    """Write tables, figures and results.csv of what is finished; returns the paths and the tables.

    ``categories``: by request; ``protocols``: by protocol, what is finished under it.
    """
    from srun.papers.attribution.figures import draw  # matplotlib, which a run should not wait for

    records = finished_records(layout, cells, left)
    findings = _findings(layout, records, categories, protocols)
    made = tables(dataset, load_dataset(layout), findings, PROTOCOLS)
    text = markdown(f"The attribution paper on {dataset}", _notes(records, left), made, ATTRIBUTION_ODDITIES)
    written = write_document(layout.root, text, draw(findings), results_csv(findings))
    return {"written": written, "tables": made}


def _findings(
    layout: Layout,
    records: Sequence[Record],
    categories: Mapping[str, CategoryFigures],
    protocols: Mapping[str, Sequence[Record]],
) -> Findings:
    judged = {record.request for record in records if record.method == "retrain"} & categories.keys()
    mains = [record for record in records if record.model == "bert4rec" and record.request in judged]
    originals = [read_original(layout, name) for name in sorted({record.original for record in mains})]
    return gather(
        group_records(mains, originals) if mains else [],
        [record for record in records if record.model != "bert4rec"],
        categories,
        {protocol: judge_beside_others(rows) for protocol, rows in protocols.items()},
    )


def _notes(records: Sequence[Record], left: Sequence[str]) -> list[str]:
    trained = {record.original: record.info["train"] for record in records if record.method == "original"}
    notes = [
        "Figures are of report users (20 %); neurons come from the others' training transitions. Contexts leave the "
        "category's items out.",
        "“Sampled” ranks a target among 100 items the user never had; “full” among the whole catalogue.",
    ]
    for name, recipe in trained.items():
        notes.append(f"{name}: at most {recipe['max_epochs']} epochs, as its Retrain; the best on validation is kept.")
    return [*notes, f"Not done yet: {', '.join(left)}."] if left else notes
