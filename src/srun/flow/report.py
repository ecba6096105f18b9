"""Stage report: judgement.json -> summary.md, figures, index.html."""

from typing import Any

from srun.files import write_folder, write_text
from srun.flow.layout import Layout
from srun.judging.judgement import Judgement, read_judgement
from srun.reporting.page import render
from srun.reporting.summary import headline_rows, headlines, title, write_summary
from srun.tracking import Tracker


def run(layout: Layout, tracker: Tracker) -> dict[str, Any]:
    """Render the judgement that is there; returns what ``made`` does.

    Raises DataError when there is no judgement.
    """
    from srun.reporting.figures import draw  # matplotlib, which other stages should not wait for

    judgement = read_judgement(layout.judgement)
    figures = draw(judgement)
    summary, page, pictures = layout.rendered
    write_text(summary, write_summary(judgement))
    write_text(page, render(judgement, figures))
    with write_folder(pictures) as new:
        for figure in figures:
            (new / figure.file).write_bytes(figure.png)
    for path in layout.rendered:
        tracker.artifact(path, "figures" if path == pictures else "report")
    return _made(layout, judgement)


def made(layout: Layout) -> dict[str, Any]:
    """Paths of the report that is there, its headlines, the rows behind them, and what is missing.

    Raises DataError when there is no judgement.
    """
    return _made(layout, read_judgement(layout.judgement))


def _made(layout: Layout, judgement: Judgement) -> dict[str, Any]:
    return {
        "written": {path.name: str(path) for path in (*layout.rendered, *layout.judged)},
        "tables": {title(comparison): headline_rows(comparison) for comparison in judgement.comparisons},
        "headlines": headlines(judgement.comparisons),
        "missing": list(judgement.missing),
    }
