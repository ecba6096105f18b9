"""Stage report: judgement.json -> summary.md, figures, index.html."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srun.errors import DataError
from srun.files import read_json, write_folder, write_text
from srun.flow.layout import Layout
from srun.judging.judgement import read_judgement
from srun.reporting.page import render
from srun.reporting.summary import headline_rows, headlines, title, write_summary
from srun.tracking import Tracker

if TYPE_CHECKING:
    from srun.reporting.figures import Figure


def run(layout: Layout, tracker: Tracker) -> dict[str, Any]:
    """Render the judgement that is there; returns paths, headlines, the rows behind them, and what is missing.

    Raises DataError when there is no judgement.
    """
    from srun.reporting.figures import draw  # matplotlib, which other stages should not wait for

    judgement = read_judgement(layout.judgement)
    figures = draw(judgement)
    texts = {"index.html": render(judgement, figures), "summary.md": write_summary(judgement)}
    files = {**_write(layout.reports, texts, figures, tracker), **{path.name: path for path in layout.judged}}
    result = {
        "written": {name: str(path) for name, path in files.items()},
        "tables": {title(comparison): headline_rows(comparison) for comparison in judgement.comparisons},
        "headlines": headlines(judgement.comparisons),
        "missing": list(judgement.missing),
    }
    write_text(layout.report_run, json.dumps({"result": result}, indent=1) + "\n")
    return result


def last_report(layout: Layout) -> dict[str, Any]:
    """What ``run`` returned when the report was made that is there."""
    result: dict[str, Any] = read_json(layout.report_run, DataError, "remove it, then run again")["result"]
    return result


def _write(out: Path, texts: Mapping[str, str], figures: Sequence["Figure"], tracker: Tracker) -> dict[str, Path]:
    """Write a report's files and give them to the tracker; returns their paths by name."""
    for name, text in texts.items():
        write_text(out / name, text)
    with write_folder(out / "figures") as new:
        for figure in figures:
            (new / figure.file).write_bytes(figure.png)
    paths = {name: out / name for name in (*texts, "figures")}
    for name, path in paths.items():
        tracker.artifact(path, "figures" if name == "figures" else "report")
    return paths
