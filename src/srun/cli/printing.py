"""Prints results: as JSON where --json is given, else as tables and lines."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from srun.system.distributed import rank

Result = TypeVar("Result")
Row = Mapping[str, Any]

SPLIT_COLUMNS = ("num_events", "recall_10", "hit_10", "ndcg_10", "mrr", "ndcg_10_sampled")


def show(result: Result, as_json: bool, print_text: Callable[[Result], object]) -> None:
    """Print a result as JSON, or as text by ``print_text``; of processes that train together the first prints."""
    if rank():
        return
    if as_json:
        click.echo(json.dumps(result, indent=1, default=str))
    else:
        print_text(result)


def print_mapping(values: Mapping[str, Any]) -> None:
    """A row for each value, nested ones by their dotted key."""
    from srun.config import flatten

    print_table(["", "value"], [[key, shown(value)] for key, value in flatten(values).items()])


def print_rows(rows: Sequence[Row]) -> None:
    """A table whose columns are those of the first row; nothing where there is no row."""
    if rows:
        print_table(list(rows[0]), [[shown(value) for value in row.values()] for row in rows])


def print_splits(metrics: Mapping[str, Mapping[str, float]]) -> None:
    """A row for each split, with the figures that terminals have room for."""
    rows = [[split, *(shown(figures.get(column)) for column in SPLIT_COLUMNS)] for split, figures in metrics.items()]
    print_table(["split", *SPLIT_COLUMNS], rows)


def print_report(report: Mapping[str, Any]) -> None:
    """The tables of a report, its headlines, what is missing, the files written and the steps that are left."""
    for title, rows in report.get("tables", {}).items():
        click.echo(f"\n{title}")
        print_rows(rows)
    for text in [*report.get("headlines", []), *report.get("missing", [])]:
        click.echo(f"\n{text}")
    click.echo("\n".join(["", *report.get("written", {}).values()]))
    if report.get("left"):
        click.echo(f"left, for the same command to go on with: {', '.join(report['left'])}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of texts, each printed as it is."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)  # cells are data: "[red]" is an id like another
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no width of its own, and should lose nothing to one
    table = Table(*header, box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def shown(value: Any) -> str:
    """A value as a table shows it."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.4f}"
    return "" if value is None else str(value)
