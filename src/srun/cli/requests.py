"""srun partition: what must be forgotten, drawn by params.yaml or read from a file of the user's own.

srun requests: files of requests, made for benchmarks.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from srun.cli.options import Common, InOrder, flow_options, original_option, request_option
from srun.cli.printing import print_mapping, print_rows, show
from srun.cli.selection import choose_original, name_request

NUM_ROWS_SHOWN = 20
"""Rows of a request that a terminal shows; there may be thousands."""


@click.command()
@request_option("Name of the request; interactions if not given.")
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


@click.group(cls=InOrder)
def requests() -> None:
    """Make request files, which `srun partition --file` and blocks of `partition` read."""


@requests.command("draw")
@click.option(
    "--expected",
    type=click.Choice(["most", "least"]),
    required=True,
    help="Draw the events with most expected memory (a core draw), or with least (an edge draw).",
)
@click.option("--events", type=click.IntRange(min=1), required=True, help="Number of events.")
@original_option("expect memory by: of another seed than those that will forget")
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="CSV to write.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw.")
@click.option(
    "--level-from",
    type=click.Choice(["crossfit", "retained"]),
    default="crossfit",
    show_default=True,
    help="What levels are predicted from: the table of `srun levels`, or retained data alone.",
)
@flow_options
def requests_draw(
    expected: Any, events: int, original: str | None, file: Path, seed: int, level_from: Any, common: Common
) -> None:
    """Draw a request for a benchmark: events that models remember most or least, as far as data alone can tell.

    How far an Original lifts events above their levels is predicted from features of other users' events, and events
    are drawn by that, at most 30 % of a user's. How it was drawn stands beside FILE, as JSON.

    \b
    Example:
      srun requests draw --expected most --events 2000 --original sasrec-1 --file core.csv
      srun partition --request core --file core.csv
    """
    from srun.flow import draw

    project = common.project()
    name = choose_original(project, original)
    with_times = project.raw_info().get("time") != "order"
    drawn = draw.run(project.layout, name, file, expected, events, seed, level_from, with_times, project.params.runtime)
    show(drawn, common.as_json, print_mapping)
