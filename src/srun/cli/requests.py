"""srun partition: what must be forgotten, drawn by params.yaml or read from a file of the user's own."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import click

from srun.cli.options import Common, flow_options, request_option
from srun.cli.printing import print_rows, show
from srun.cli.selection import name_request

NUM_ROWS_SHOWN = 20
"""Rows of a request that a terminal shows; there may be thousands."""


@click.command()
@request_option("Name of the request; the first of `requests` if not given.")
@click.option("--file", default=None, metavar="FILE", help="What to forget, in any form that `data import` reads.")
@click.option("--format", "form", default=None, help="Of the file: as of `data import`; else guessed.")
@click.option("--columns", default=None, metavar="user=A,item=B,time=C", help="Of the file: as of `data import`.")
@click.option(
    "--kind",
    type=click.Choice(["interactions", "users"]),
    default=None,
    help="Whether the file names events or whole users; by its columns if not given.",
)
@click.option("--category", default=None, help="Forget this category, by the first category request of params.yaml.")
@click.option("--after", default=None, metavar="REQUEST", help="Go on from models that have forgotten this one.")
@flow_options
def partition(
    request: str | None,
    file: str | None,
    form: str | None,
    columns: str | None,
    kind: str | None,
    category: str | None,
    after: str | None,
    common: Common,
) -> None:
    """Split the prepared data by a forget request: one of params.yaml, or your own in a file.

    A file has a row for each thing to forget: a user and an item, with or without the time; or users alone, for all
    they ever did. Every row gets an outcome. Later commands know the request by its name. One that comes --after
    another forgets what is new, and `srun unlearn` goes on from the same method's model of the other.

    \b
    Example:
      srun partition --request may --file requests.csv
      srun partition --request june --file more.csv --after may
      srun partition --category Drama
    """
    from srun.flow.stages import partition_step

    project = common.project()
    if file is None:
        for flag, value in {"--format": form, "--columns": columns, "--kind": kind}.items():
            if value:
                raise click.UsageError(f"{flag} goes with --file")
        project, name = name_request(project, request, category)
    else:
        from srun.data.importing import column_mapping

        if request is None or category is not None:
            raise click.UsageError("--file goes with --request NAME, the name that later commands know it by")
        project, name = project.with_given(request, file, form, column_mapping(columns), kind), request
    project = project if after is None else project.with_chain(name, after)
    partitioned = partition_step(project, name).run()
    show(partitioned, common.as_json, lambda partitioned: _print_partition(partitioned, common.words))


def _print_partition(partitioned: Mapping[str, Any], options: Sequence[str]) -> None:
    """The outcome of every row, the events that leave, and the next command with the same ``options``."""
    name, kind = partitioned["name"], partitioned["request"]["kind"]
    if "rows" in partitioned:
        _print_outcomes(f'request "{name}" ({kind})', partitioned["rows"], partitioned["not_forgotten"])
    else:
        click.echo(f'request "{name}" ({kind})')
    click.echo(
        f"{partitioned['num_forget']} events of {partitioned['num_users']} users leave training,"
        f" {partitioned['num_retain']} stay; {partitioned['num_held_out_removed']} leave validation and test"
    )
    if "no_tune_half" in partitioned:
        click.echo(f"note: {partitioned['no_tune_half']}")
    step = "unlearn --method attribution" if kind == "category" else "run"
    click.echo(f"next: {shlex.join(['srun', *step.split(), '--request', name, *options])}")


def _print_outcomes(title: str, outcomes: Mapping[str, int], not_forgotten: Sequence[Mapping[str, Any]]) -> None:
    counts = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items() if number)
    click.echo(f"{title}, {sum(outcomes.values())} rows: {counts}")
    print_rows(not_forgotten[:NUM_ROWS_SHOWN])
    if len(not_forgotten) > NUM_ROWS_SHOWN:
        click.echo(f"... and {len(not_forgotten) - NUM_ROWS_SHOWN} more; --json has them all")
