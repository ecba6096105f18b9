"""Put the report's table and figure of MovieLens 100K into README.md, between its ml-100k markers.

    srun report && python scripts/readme_table.py

The rows are those that `srun report` prints, which it also leaves in runs/reports/all.json.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srun.errors import DataError, SrunError
from srun.reporting.summary import markdown_table

COLUMNS = ("Method", "Verdict", "Test NDCG@10", "Forget Hit@10", "Gap to Retrain", "Speed-up, seconds")
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
    report, readme = project / "runs/reports/all.json", project / "README.md"
    if not report.is_file():
        raise DataError(f"{report} is not there; make it with `srun report`")
    text = readme.read_text(encoding="utf-8")
    if not MARKED.search(text):
        raise DataError(f"{readme}: expected the lines <!-- ml-100k: begin --> and <!-- ml-100k: end -->")
    result = json.loads(report.read_text(encoding="utf-8"))["result"]
    lines = "\n".join(table(result)) + "\n"
    figures = sorted((project / "reports/figures").glob(f"{FIGURE}*.png"), key=lambda file: "sasrec" not in file.name)
    if not figures:
        raise DataError(f"{project / 'reports/figures'} has no {FIGURE}*.png; make it with `srun report`")
    readme.write_text(MARKED.sub(lambda marked: marked[1] + lines + marked[2], text), encoding="utf-8")
    shutil.copyfile(figures[0], project / f"docs/{FIGURE}.png")


def table(result: dict[str, Any]) -> list[str]:
    """Headlines and Markdown table of what `srun report` returned."""
    cells = [
        [title.split(",")[0], *(row[name] for name in COLUMNS)]
        for title, rows in result["tables"].items()
        for row in rows
    ]
    return [*(f"- {headline}" for headline in result["headlines"]), "", *markdown_table(["Model", *COLUMNS], cells)]


if __name__ == "__main__":
    main()
