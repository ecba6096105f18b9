"""Put the report's table and figure of MovieLens 100K into README.md, between its ml-100k markers.

    srun report && python scripts/readme_table.py

The rows are those that `srun report` prints, made from reports/judgement.json.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from srun.errors import DataError, SrunError
from srun.judging.judgement import Judgement, read_judgement
from srun.judging.styles import model_name
from srun.reporting.summary import FORGET_HIT, GAP, METHOD, SPEEDUP, TEST_NDCG, VERDICT, cell_text, headlines
from srun.reporting.texts import markdown_table

COLUMNS = (METHOD, VERDICT, TEST_NDCG, FORGET_HIT, GAP, SPEEDUP)
MARKED = re.compile(r"(<!-- ml-100k: begin -->\n).*?(<!-- ml-100k: end -->)", re.DOTALL)
FIGURE = "utility_vs_suppression"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="folder of README.md; default this one")
    options = parser.parse_args(words)
    try:
        write(options.project)
    except SrunError as error:
        sys.exit(f"error: {error}")


def write(project: Path) -> None:
    """Write README.md and docs/utility_vs_suppression.png of a project anew; DataError where something is missing."""
    readme = project / "README.md"
    judgement = read_judgement(project / "reports/judgement.json")
    text = readme.read_text(encoding="utf-8")
    if not MARKED.search(text):
        raise DataError(f"{readme}: expected the lines <!-- ml-100k: begin --> and <!-- ml-100k: end -->")
    lines = "\n".join(table(judgement)) + "\n"
    figures = sorted((project / "reports/figures").glob(f"{FIGURE}*.png"), key=lambda file: "sasrec" not in file.name)
    if not figures:
        raise DataError(f"{project / 'reports/figures'} has no {FIGURE}*.png; make it with `srun report`")
    readme.write_text(MARKED.sub(lambda marked: marked[1] + lines + marked[2], text), encoding="utf-8")
    shutil.copyfile(figures[0], project / f"docs/{FIGURE}.png")


def table(judgement: Judgement) -> list[str]:
    """Headlines and Markdown table of a report."""
    cells = [
        [model_name(comparison.model), *(cell_text(column, comparison, method) for column in COLUMNS)]
        for comparison in judgement.comparisons
        for method in comparison.methods
    ]
    titles = ["Model", *(column.title for column in COLUMNS)]
    return [*(f"- {headline}" for headline in headlines(judgement.comparisons)), "", *markdown_table(titles, cells)]


if __name__ == "__main__":
    main()
