"""Stage report: evaluations -> results.csv, summary.md, figures, index.html."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from srun.errors import DataError
from srun.files import read_json, verify_folder, write_folder, write_text
from srun.models.scorer import HISTORY_FILE, load_history
from srun.reporting.page import render, what_was_run
from srun.reporting.records import EventRanks, History, ProbeScores, Record, Trained, group_records
from srun.reporting.results import long_form, to_csv
from srun.reporting.summary import Comparison, compare, write_summary
from srun.stages.cells import Cell
from srun.stages.common import has_key, stage_key, weights_sha256
from srun.stages.layout import CellPaths, Layout
from srun.tracking import Tracker


class Measured(BaseModel):
    """What of a run file the report reads."""

    model_config = ConfigDict(strict=True)
    cost: dict[str, float] | None = None
    machine: dict[str, str] | None = None


def run(layout: Layout, cells: Mapping[str, Cell], tracker: Tracker) -> dict[str, Any]:
    """Write the tables, figures and the page of exactly these cells; returns the paths and the headline rows.

    Raises DataError when a cell has no evaluation, when rows do not belong together, or when Retrain is missing.
    """
    from srun.reporting.figures import draw  # matplotlib, which other stages should not wait for

    records = [read_record(layout, name, cell) for name, cell in cells.items()]
    originals = dict.fromkeys(cell.original for cell in cells.values())
    groups = group_records(records, [read_original(layout, name) for name in originals])
    rows, comparisons = long_form(groups), [compare(group) for group in groups]
    figures, facts = draw(groups), what_was_run(groups)
    out = layout.reports
    write_text(out / "results.csv", to_csv(rows))
    write_text(out / "summary.md", write_summary(comparisons, facts))
    with write_folder(out / "figures") as new:
        for figure in figures:
            (new / figure.file).write_bytes(figure.png)
    write_text(out / "index.html", render(groups, comparisons, figures, facts))
    for file in ("results.csv", "summary.md", "index.html", "figures"):
        tracker.artifact(out / file, "figures" if file == "figures" else "report")
    written = [out / "index.html", out / "summary.md", out / "results.csv", out / "figures"]
    result = {"written": {path.name: str(path) for path in written}, "tables": _headlines(comparisons)}
    write_text(layout.report_run, json.dumps({"key": key(layout, cells), "result": result}, indent=1) + "\n")
    return result


def key(layout: Layout, cells: Mapping[str, Cell]) -> str:
    """What a report is made of: evaluations, models' files of text, and what was measured."""
    paths = [layout.cell(cell) for cell in cells.values()]
    paths += [layout.original(name) for name in dict.fromkeys(cell.original for cell in cells.values())]
    inputs = [file for path in paths for file in (path.evaluation / "report.json", path.model / "model.json", path.run)]
    return stage_key(
        "report", inputs, cells={name: vars(cell) for name, cell in cells.items()}, out=str(layout.reports)
    )


def made(layout: Layout, cells: Mapping[str, Cell]) -> dict[str, Any] | None:
    """What ``run`` returned, where it need not be done again."""
    if not has_key(layout.report_run, key(layout, cells)):
        return None
    result: dict[str, Any] = read_json(layout.report_run, DataError, "remove it, then run again")["result"]
    return result if all(Path(path).exists() for path in result["written"].values()) else None


def _headlines(comparisons: list[Comparison]) -> dict[str, list[dict[str, str]]]:
    """A row a method, by the comparison's title: the figures that decide, and the verdict."""
    shown = ("Test NDCG@10", "Forget Hit@10", "Gap to Retrain", "KS D", "Speed-up, seconds")
    tables: dict[str, list[dict[str, str]]] = {}
    for table in comparisons:
        rows = [(line, dict(zip(table.header, line.cells, strict=True))) for line in table.lines]
        tables[table.title] = [
            {"Method": line.name, **{title: figures.get(title, "") for title in shown}, "Verdict": line.verdict}
            for line, figures in rows
        ]
    return tables


def read_record(layout: Layout, name: str, cell: Cell) -> Record:
    """What was measured of a cell; raises DataError naming the command when it was not evaluated."""
    paths = layout.cell(cell)
    selectors = f"--request {cell.request} --original {cell.original} --method {cell.method} --seed {cell.seed}"
    found = _read_sealed(paths.evaluation / "report.json", f"cell {name}", f"srun evaluate {selectors}")
    info = _read_sealed(paths.model / "model.json", f"cell {name}", f"srun unlearn {selectors}")
    if found["weights_sha256"] != weights_sha256(paths.model):
        raise DataError(f"cell {name}: its model is newer than its evaluation; run `srun evaluate {selectors}`")
    run = _read_run(paths)
    return Record(
        cell=name,
        request=cell.request,
        model=found["model"],
        method=cell.method,
        original=cell.original,
        seed=cell.seed,
        dataset=found["dataset"],
        fingerprint=found["fingerprint"],
        partition=found["request"],
        metrics=found["metrics"],
        untrained_raw=found["untrained_raw"],
        counts=found["cost"],
        measured=run.get("cost"),
        machine=run.get("machine"),
        info=info,
        history=_history(paths),
        probe=_read_probe(paths.evaluation / "probe.parquet"),
        relearning=found.get("relearning", {}),
        events=_read_events(paths.evaluation / "events.parquet"),
    )


def _read_events(file: Path) -> dict[str, EventRanks]:
    """Ranks by split, in the order of the evaluation."""
    import pandas as pd

    table = pd.read_parquet(file, columns=["split", "event", "user", "rank"])
    parts = {str(split): part for split, part in table.groupby("split", sort=False)}
    return {
        split: EventRanks(*(part[name].to_numpy() for name in ("event", "user", "rank")))
        for split, part in parts.items()
    }


def _read_probe(file: Path) -> ProbeScores | None:
    """Of report users; None for a request that is not of a category."""
    import pandas as pd

    if not file.is_file():
        return None
    table = pd.read_parquet(file)
    table = table[table["report"]]
    return ProbeScores(*(table[name].to_numpy() for name in ("user", "score", "inside")))


def read_original(layout: Layout, name: str) -> Trained:
    """What is known of a trained Original; raises DataError naming the command when it is not there."""
    paths = layout.original(name)
    info = _read_sealed(paths.model / "model.json", f"Original {name}", f"srun train --original {name}")
    return Trained(name, info, _read_run(paths).get("cost"), _history(paths))


def _read_run(paths: CellPaths) -> dict[str, Any]:
    """What was measured; nothing where the results came from a cache and were not computed here."""
    if not paths.run.is_file():
        return {}
    mend = "remove it, and costs are not measured here; or compute it anew"
    values = read_json(paths.run, DataError, mend)
    try:
        Measured.model_validate(values)
    except ValidationError as error:
        where = ascii(".".join(map(str, error.errors()[0]["loc"])))[:60]
        raise DataError(f"{paths.run}: {where}: not what a run writes; {mend}") from error
    return values


def _read_sealed(file: Path, what: str, command: str) -> dict[str, Any]:
    """A JSON file of a published folder; raises DataError where it is not there, or the folder is damaged."""
    if not file.is_file():
        raise DataError(f"{file}: {what} is not there yet; make it with `{command}`")
    mend = f"make it again with `{command}`"
    verify_folder(file.parent, DataError, mend)
    return read_json(file, DataError, mend)


def _history(paths: CellPaths) -> History:
    """Curves of a published model, if it has any."""
    return load_history(paths.model) if (paths.model / HISTORY_FILE).is_file() else []
