"""JSON files and Markdown tables, as the benchmarks write them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What ``write_rows`` wrote; nothing where there is no such file yet."""
    return list(json.loads(path.read_text())) if path.is_file() else []


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a JSON list, a row a line."""
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def write_json(record: Any, path: Path) -> None:
    """Write a JSON file with a line a value."""
    path.write_text(json.dumps(record, indent=1) + "\n")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; cells are text."""
    return [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
