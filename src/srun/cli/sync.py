"""srun sync: give the tracker what it does not have yet."""

from pathlib import Path

import click

from srun.cli.options import json_option
from srun.cli.printing import print_rows, show
from srun.errors import RunError


@click.command()
@click.option("--all", "is_for_any", is_flag=True, help="Also what was meant for another store than the present one.")
@json_option
def sync(is_for_any: bool, as_json: bool) -> None:
    """Give the tracker what earlier runs could not, while it was away; each event arrives once.

    The next tracked run does so by itself. Runs that were killed are closed.

    \b
    Example:
      srun sync
    """
    from srun.tracking.runs import is_kept, sync_spools

    rows = sync_spools(Path.cwd(), is_for_any)
    show(rows, as_json, print_rows)
    if num_kept := sum(map(is_kept, rows)):
        raise RunError(f"{num_kept} of {len(rows)} runs stay in runs/spool: mend what their rows say, then sync again")
