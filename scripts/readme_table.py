"""Put the report's table and figure of MovieLens 100K into README.md, between its ml-100k markers.

    srun report && python scripts/readme_table.py

The rows are those that `srun report` prints, which it also leaves in runs/reports/all.json.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from srun.errors import DataError, SrunError
from srun.reporting.summary import markdown_table

COLUMNS = ("Method", "Verdict", "Test NDCG@10", "Forget Hit@10", "Gap to Retrain", "Speed-up, seconds")
MARKED = re.compile(r"(<!-- ml-100k: begin -->\n).*?(<!-- ml-100k: end -->)", re.DOTALL)
FIGURE = "utility_vs_suppression"


def main(project: Path) -> None:
    """Write README.md and docs/utility_vs_suppression.png of a project anew; DataError where something is missing."""
    report, readme = project / "runs/reports/all.json", project / "README.md"
    if not report.is_file():
        raise DataError(f"{report} is not there; make it with `srun report`")
    text = readme.read_text(encoding="utf-8")
    if not MARKED.search(text):
        raise DataError(f"{readme}: expected the lines <!-- ml-100k: begin --> and <!-- ml-100k: end -->")
    result = json.loads(report.read_text(encoding="utf-8"))["result"]
    made = "\n".join(table(result)) + "\n"
    figures = sorted((project / "reports/figures").glob(f"{FIGURE}*.png"), key=lambda file: "sasrec" not in file.name)
    if not figures:
        raise DataError(f"{project / 'reports/figures'} has no {FIGURE}*.png; make it with `srun report`")
    readme.write_text(MARKED.sub(lambda found: found[1] + made + found[2], text), encoding="utf-8")
    shutil.copyfile(figures[0], project / f"docs/{FIGURE}.png")


def table(result: dict[str, Any]) -> list[str]:
    """Headlines and Markdown table of what `srun report` returned."""
    rows = [
        [title.split(",")[0], *(row[name] for name in COLUMNS)]
        for title, found in result["tables"].items()
        for row in found
    ]
    return [*(f"- {said}" for said in result["headlines"]), "", *markdown_table(["Model", *COLUMNS], rows)]


if __name__ == "__main__":
    try:
        main(Path.cwd())
    except SrunError as error:
        sys.exit(f"error: {error}")
