"""CSV files of what was tried, a row each; a tool adds to them as it goes, so that a stopped run goes on."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def done(path: Path, key: Sequence[str]) -> set[tuple[str, ...]]:
    """The rows that a file has, as texts of the columns ``key``; none where there is no such file yet."""
    if not path.is_file():
        return set()
    with path.open(newline="", encoding="utf-8") as file:
        return {tuple(row[column] for column in key) for row in csv.DictReader(file)}


def append(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]], digits: int = 5) -> None:
    """Add rows to a file, and its header if it is new; floats get so many significant ``digits``."""
    is_new = not path.is_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows([{name: shown(value, digits) for name, value in row.items()} for row in rows])


def write(path: Path, rows: Sequence[dict[str, Any]], digits: int = 4) -> None:
    """Write a file anew; the first row has all columns."""
    path.unlink(missing_ok=True)
    append(path, list(rows[0]), rows, digits)


def shown(value: Any, digits: int) -> Any:
    """A float with so many significant digits, anything else as it is."""
    return f"{value:.{digits}g}" if isinstance(value, float) else value
