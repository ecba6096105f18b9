"""srun optimize: search a method's settings, look at a study, carry out a trial."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from srun.cli.options import (
    WORDS,
    Common,
    InOrder,
    category_option,
    combine,
    flow_options,
    original_option,
    request_option,
    study_option,
)
from srun.cli.printing import print_rows, print_splits, show
from srun.cli.selection import choose_searched

if TYPE_CHECKING:
    from srun.search.results import StudyResult


@click.group(cls=InOrder, invoke_without_command=True)
@click.option(
    "--objective",
    "objective",
    multiple=True,
    help="Of optimize.objectives: pareto, match, suppress, utility, cost; or a text as there. May be repeated.",
)
@click.option("--method", default=None, help="Block of `unlearn` to search: sruga, attribution, ...")
@original_option("start from")
@category_option
@request_option()
@click.option("--trials", type=click.IntRange(1), default=None, help="Finished trials, over all workers and runs.")
@click.option(
    "--timeout", type=float, default=None, help="Seconds after which no new trial begins; the exit code is 0 then too."
)
@click.option("--sampler", default=None, help="tpe, nsga2, nsga3, gp or random.")
@study_option("Name; made of what is searched if not given.")
@click.option("--storage", default=None, metavar="URL|PATH", help="PostgreSQL, or a journal file on a shared folder.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Local processes.")
@flow_options
@click.pass_context
def optimize(
    ctx: click.Context, /, study: str | None, storage: str | None, workers: int, common: Common, **selectors: Any
) -> None:
    """Search a method's settings for the trade-off between utility and forgetting; the same command goes on.

    \b
    Example:
      srun optimize --objective pareto
      srun optimize --objective pareto --method attribution --category Action --workers 2
      srun optimize show
      srun optimize apply --trial 12
    """
    if ctx.invoked_subcommand is not None:
        _refuse_options(ctx, ctx.invoked_subcommand)
        return
    from srun.flow import optimize as searches
    from srun.flow.preflight import check_search
    from srun.search.storage import open_storage
    from srun.search.workers import run_workers

    project = common.project()
    if storage is not None:
        open_storage(storage)  # before a category's partition is made: a wrong one is known at once
    project, cell = choose_searched(project, **selectors)
    check_search(project.params, cell)
    name = study or searches.study_name(project, cell)
    work = None if workers == 1 else lambda logs: run_workers(ctx.meta[WORDS], workers, logs)
    result = searches.optimize(project, cell, name, storage, work)
    num_trials = project.params.optimize.trials
    left = {"trials": num_trials, "left": max(0, num_trials - result.num_finished)}
    show(_front(result, left), common.as_json, lambda front: _print_front(result, front))


def _refuse_options(ctx: click.Context, subcommand: str) -> None:
    """Options before a sub-command would do nothing."""
    if any(ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ctx.params):
        raise click.UsageError(f"options belong after {subcommand}, not before it")


study_options = combine(
    study_option("Its name; as `srun optimize` has it if not given."),
    click.option("--storage", default=None, metavar="URL|PATH", help="Where it is, if not in runs/optimize."),
)
"""The selectors of a study."""


@optimize.command("show")
@study_options
@flow_options
def optimize_show(study: str | None, storage: str | None, common: Common) -> None:
    """Print the front of a study and write its report anew.

    \b
    Example:
      srun optimize show --study sasrec-0-core-sruga-pareto
    """
    from srun.flow.optimize import show_study, study_name

    project, cell = choose_searched(common.project())
    result = show_study(project, study or study_name(project, cell), storage)
    show(_front(result), common.as_json, lambda front: _print_front(result, front))


@optimize.command("apply")
@click.option("--trial", type=int, required=True, help="Number of a trial: see `srun optimize show`.")
@study_options
@flow_options
def optimize_apply(trial: int, study: str | None, storage: str | None, common: Common) -> None:
    """Carry out a trial: write its settings as a preset, unlearn with them, evaluate on forget_report and test.

    \b
    Example:
      srun optimize apply --trial 12
    """
    from srun.flow.optimize import apply_trial, study_name

    project, cell = choose_searched(common.project())
    written, metrics = apply_trial(project, study or study_name(project, cell), trial, storage)
    if not common.as_json:
        click.echo("\n".join(str(path) for path in written))
    show(metrics, common.as_json, print_splits)


def _front(result: "StudyResult", left: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The trials on the front of a study; ``left``: how many trials were wanted, and how many are missing."""
    from srun.reporting.pareto import trial_rows

    rows = {row["trial"]: row for row in trial_rows(result)}
    front = [rows[trial.number] for trial in result.front]
    return {"study": result.name, "finished": result.num_finished, **(left or {}), "front": front}


def _print_front(result: "StudyResult", front: Mapping[str, Any]) -> None:
    """A row for each trial on the front: its objectives and its settings."""
    rows = front["front"]
    prefix = f"unlearn.{result.about['cell']['method']}."
    columns = ["trial", *(objective.key for objective in result.goal.objectives)]
    columns += [key for key in (rows[0] if rows else {}) if key.startswith(prefix)]
    print_rows([{key.removeprefix(prefix): _short(row[key]) for key in columns} for row in rows])
    wanted = f" of {front['trials']}" if "trials" in front else ""
    click.echo(f'\nstudy "{result.name}": {result.num_finished}{wanted} trials, {len(rows)} on the front')
    if front.get("left"):
        click.echo("the time is over; go on with the same command")


def _short(value: Any) -> Any:
    """Settings differ by orders of magnitude, so digits count and not places."""
    return f"{value:.3g}" if isinstance(value, float) else value
