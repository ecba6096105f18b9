"""Commands of the flow: a project's files, and each stage by itself or all together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from srun.cli.options import (
    Common,
    budget_option,
    cell_options,
    file_options,
    flow_options,
    original_option,
    read_budget,
    request_option,
)
from srun.cli.printing import print_mapping, print_report, print_splits, show
from srun.cli.selection import check_flow, choose_cell, choose_original
from srun.errors import one_line
from srun.system.distributed import joined


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
def init(folder: Path) -> None:
    """Write params.yaml, presets, dvc.yaml and MLproject into FOLDER, so that every command works there.

    `dvc repro` works there too, in a Git repository or outside one. A checkout of srun has all this already. A file
    that is there is never replaced.

    \b
    Example:
      srun init shop
    """
    from srun.flow.starter import write_starter

    written = write_starter(folder)
    click.echo("\n".join(map(str, written)) if written else f"{folder}: everything is there already")


@click.command("params")
@file_options
def show_params(common: Common) -> None:
    """Print every parameter as it stands, presets and overrides applied.

    \b
    Example:
      srun params --params presets/quick.yaml
    """
    from srun.config import flatten
    from srun.flow.params import load, load_values

    files = [Path(preset) for preset in common.presets]
    load(Path("params.yaml"), files, common.assignments)  # which checks them
    show(flatten(load_values(Path("params.yaml"), files, common.assignments)), common.as_json, print_mapping)


@click.command()
@flow_options
def prepare(common: Common) -> None:
    """Filter raw data, make ids dense, hold out targets.

    \b
    Example:
      srun prepare --set prepare.max_length=50
    """
    from srun.flow.stages import prepare_step

    show(prepare_step(common.project()).run(), common.as_json, print_mapping)


@click.command()
@flow_options
def digests(common: Common) -> None:
    """Write digests of the code of each stage and of the request files, by which `dvc repro` notices a change.

    \b
    Example:
      srun digests
    """
    from srun.flow.digests import write_digests

    project = common.project()
    written = {"written": str(write_digests(project.layout, project.params))}
    show(written, common.as_json, lambda written: click.echo(written["written"]))


@click.command()
@original_option("train")
@flow_options
def train(original: str | None, common: Common) -> None:
    """Train an Original on everything, on a GPU where there is one, or on several: see docs/scale.md.

    \b
    Example:
      srun train --original sasrec-0 --set train.loss=bce
    """
    from srun.flow.preflight import check_training
    from srun.flow.stages import train_step

    project = common.project()
    name = choose_original(project, original)
    with joined():
        check_training(project.params, name)
        show(train_step(project, name).run(), common.as_json, print_mapping)


@click.command()
@original_option("make the table for")
@click.option("--after", default=None, metavar="REQUEST", help="Train on nothing that this request's chain forgot.")
@click.option("--erase", default=None, metavar="REQUEST", help="Only take what this request's chain forgot out of it.")
@click.option("--where-needed", is_flag=True, help="Make it only where a cell or a draw of the parameters needs it.")
@flow_options
def levels(original: str | None, after: str | None, erase: str | None, where_needed: bool, common: Common) -> None:
    """Make the private table that levels by event are predicted from: one number an event, of cross-fitted models.

    It takes about one more training, and lies in runs/private: no pull or push takes it along. An Original needs none
    where it has shards or levels.folds is 0.

    \b
    Example:
      srun levels --original sasrec-0
      srun levels --original sasrec-0 --erase may
    """
    from srun.flow.preflight import check_training
    from srun.flow.stages import crossfit_step, erase_from_crossfit

    if after is not None and erase is not None:
        raise click.UsageError("--after and --erase exclude each other")
    project = common.project()
    name = choose_original(project, original)
    if erase is not None:
        show(erase_from_crossfit(project, name, erase), common.as_json, print_mapping)
        return
    with joined():
        check_training(project.params, name)
        show(crossfit_step(project, name, after, where_needed).run(), common.as_json, print_mapping)


@click.command()
@original_option("draw by")
@flow_options
def draw(original: str | None, common: Common) -> None:
    """Draw the events of core and edge requests: those of which most or least memory is expected.

    It draws the requests of the flow whose block of `partition` names this Original. How far the Original lifts events
    above their levels is predicted from features of other users' events, never taken from the event itself. It needs
    the Original and its private table, and no row on such a request starts from it.

    \b
    Example:
      srun draw --original sasrec-2
    """
    from srun.flow.preflight import check_training
    from srun.flow.stages import draw_step

    project = common.project()
    name = choose_original(project, original)
    check_training(project.params, name)
    show(draw_step(project, name).run(), common.as_json, print_mapping)


@click.command()
@cell_options
@flow_options
def unlearn(common: Common, **selectors: Any) -> None:
    """Carry out a request by one method: a new model version, Original untouched.

    \b
    Example:
      srun unlearn --original sasrec-0 --method sruga --set unlearn.sruga.ascent_weight=0.3
      srun unlearn --original sasrec-0 --method attribution --category Action
    """
    from srun.flow.preflight import check_cell
    from srun.flow.stages import unlearn_step

    project = common.project()
    with joined():
        project, cell = choose_cell(project, **selectors)
        check_cell(project.params, cell)
        show(unlearn_step(project, cell).run(), common.as_json, print_mapping)


@click.command()
@cell_options
@flow_options
def evaluate(common: Common, **selectors: Any) -> None:
    """Rank every split of a request with one method's model.

    \b
    Example:
      srun evaluate --original sasrec-0 --method sruga --json
    """
    from srun.flow.stages import evaluate_step

    project = common.project()
    with joined():
        project, cell = choose_cell(project, **selectors)
        show(evaluate_step(project, cell).run(), common.as_json, print_splits)


@click.command()
@request_option("On this request alone, in reports/requests/NAME.")
@flow_options
def judge(request: str | None, common: Common) -> None:
    """Compute every figure of the report: results.csv, results.parquet and judgement.json in reports/.

    \b
    Example:
      srun judge
      srun judge --request may
    """
    from srun.flow.stages import judge_step

    project = common.project_on(request)
    show(judge_step(project).run(), common.as_json, print_report)


@click.command()
@request_option("On this request alone, in reports/requests/NAME.")
@flow_options
def report(request: str | None, common: Common) -> None:
    """Write the tables, pictures and the page in reports/; where evaluations are newer, `srun judge` runs first.

    \b
    Example:
      srun report
      srun report --request may
    """
    from srun.flow.stages import judge_and_report

    project = common.project_on(request)
    show(judge_and_report(project), common.as_json, print_report)


@click.command()
@request_option("Only this request, with every row of cells that can carry it out.")
@budget_option
@flow_options
def run(request: str | None, budget: float | None, common: Common) -> None:
    """Run every stage after fetch in one process, where its output is not there yet or is of something else.

    One at a time in a folder: a second one, or a second training of one model, ends and says what goes on there.

    \b
    Example:
      srun run --params presets/quick.yaml --out out/quick
      srun run --request may
    """
    from srun.flow import stages

    project = common.project_on(request)
    check_flow(project)
    show(stages.run(project, read_budget(budget)), common.as_json, print_report)


@click.command()
@click.argument("steps", nargs=-1, metavar="[STEP]...")
@request_option("Of the flow of this request alone, as of `srun run --request`.")
@flow_options
def accept(steps: tuple[str, ...], request: str | None, common: Common) -> None:
    """Keep outputs as they are after a change that is known not to matter, so that nothing makes them again.

    A STEP has the name that `srun run` tells, such as "train sasrec-0"; without one, every stale output is accepted.
    An output that is not there, or is not as its step left it, is refused.

    \b
    Example:
      srun accept
      srun accept "train sasrec-0" "evaluate sasrec-sruga"
    """
    from srun.flow import stages

    project = common.project_on(request)
    show(stages.accept(project, steps), common.as_json, _print_accepted)


def _print_accepted(result: Mapping[str, Any]) -> None:
    """Each accepted step with why it was stale, and the command that tells DVC."""
    for name, reasons in result["accepted"].items():
        click.echo(one_line(f"accepted {name}: {'; '.join(reasons)}"))
    if not result["accepted"]:
        click.echo("everything that was made is up to date")
    if result["dvc"]:
        click.echo(f"for dvc repro: {result['dvc']}")
