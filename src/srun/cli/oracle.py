"""The command that makes an oracle: many Originals and Retrains that models are held against."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from srun.cli.options import WORDS, Common, budget_option, flow_options, original_option, read_budget, request_option
from srun.cli.printing import show
from srun.cli.selection import choose_original, choose_request_name


def _check_even(ctx: click.Context, param: click.Parameter, value: int) -> int:
    """Half-models come in pairs: a random half of the users, and the other."""
    if value % 2:
        raise click.BadParameter(f"{value}: expected an even number, for half-models come in pairs")
    return value


@click.command()
@original_option("take the recipe of: its model, with the settings of params.yaml")
@request_option()
@click.option("--originals", type=click.IntRange(1), default=32, show_default=True, help="Trained on everything.")
@click.option("--retrains", type=click.IntRange(0), default=32, show_default=True, help="Trained on what is retained.")
@click.option(
    "--halves",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    callback=_check_even,
    help="Trained on random halves of the users, as a check.",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Local processes, a thread each.")
@click.option(
    "--ranks",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Also write the ranks alone to this Parquet file, which holds no data.",
)
@budget_option
@flow_options
@click.pass_context
def oracle(
    ctx: click.Context,
    original: str | None,
    request: str | None,
    originals: int,
    retrains: int,
    halves: int,
    workers: int,
    ranks: Path | None,
    budget: float | None,
    common: Common,
) -> None:
    """Train the references of a request once, for `srun audit` to hold every model against; the same command goes on.

    They lie in runs/oracle, in a folder that is named for data, recipe and request. Several processes share the work,
    also those of a Slurm array that run this same command.

    \b
    Example:
      srun oracle --request interactions --workers 2
      srun oracle --request interactions --originals 8 --retrains 8 --budget 30
      srun oracle --request interactions --ranks oracle.parquet
    """
    from srun.flow.ensemble import export, make
    from srun.flow.oracle import members
    from srun.search.workers import run_workers

    project = common.project()
    name = choose_original(project, original)
    request = choose_request_name(project, request)
    wanted = members(originals, retrains, halves)
    work = None if workers == 1 else lambda logs: run_workers(ctx.meta[WORDS], workers, logs)
    made = make(project, name, request, wanted, read_budget(budget), work)
    if ranks is not None:
        made |= {"ranks": {"file": str(ranks), "rows": export(project, name, request, ranks)}}
    show(made, common.as_json, _print_made)


def _print_made(made: Mapping[str, Any]) -> None:
    """What there is, what it cost, and what is left."""
    seeds, cost = made["seeds"], made.get("cost")
    names = {"original": "Originals", "retrain": "Retrains", "halves": "pairs of half-models"}
    click.echo(f"{made['folder']}: " + ", ".join(f"{len(seeds[role])} {name}" for role, name in names.items()))
    if cost:
        click.echo(
            f"{cost['members']} made in {cost['seconds']:.0f} s, {cost['processor_seconds']:.0f} s of processors"
        )
    if made.get("halves_lira_auc"):
        values = ", ".join(f"{value:.3f}" for value in made["halves_lira_auc"])
        click.echo(f"check: LiRA tells which half of the users a half-model saw with an AUC of {values}")
    if "ranks" in made:
        click.echo(f"{made['ranks']['file']}: {made['ranks']['rows']} ranks")
    if made["left"]:
        click.echo(f"left: {len(made['left'])} members, which others make now or the same command goes on with")
