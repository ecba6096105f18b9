"""How each paper's folder is written: tables.md, figures/ and results.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from srun.files import write_folder, write_text
from srun.reporting.texts import markdown_table

Rows = list[dict[str, str]]
"""A table: every row has the same titles; cells are text."""


def markdown(title: str, notes: Sequence[str], tables: Mapping[str, Rows], oddities: Sequence[str]) -> str:
    """Set the tables by title as one text, between notes on them and oddities of the printed figures.

    A table without rows is left out.
    """
    lines = [f"# {title}", "", *(f"- {note}" for note in notes), ""]
    for name, rows in tables.items():
        if rows:
            lines += [f"## {name}", "", *markdown_table(list(rows[0]), [list(row.values()) for row in rows]), ""]
    lines += ["## What is odd in the printed figures", "", *(f"- {oddity}" for oddity in oddities)]
    return "\n".join(lines) + "\n"


def write_document(out: Path, text: str, figures: Mapping[str, bytes], results: str) -> dict[str, str]:
    """Write tables.md, the figures (PNG by file name) and results.csv into ``out``; returns the paths by name."""
    write_text(out / "tables.md", text)
    write_figures(out / "figures", figures)
    write_text(out / "results.csv", results)
    return {name: str(out / name) for name in ("tables.md", "results.csv", "figures")}


def write_figures(folder: Path, figures: Mapping[str, bytes]) -> None:
    """Write PNGs by file name; what the folder held before is gone."""
    with write_folder(folder) as new:
        for file, png in figures.items():
            (new / file).write_bytes(png)
