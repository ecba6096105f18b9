"""The command line: one short function a command; everything heavy is imported inside the command that needs it."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srun.errors import SrunError

if TYPE_CHECKING:
    from srun.params import Cell
    from srun.pipeline import Pipeline


class Cli(click.Group):
    """Turns our errors into one line on standard error and exit code 1; ``--debug`` shows where they came from."""

    def invoke(self, ctx: click.Context) -> Any:
        # spinning OpenMP threads beside a busy neighbour are many times slower than one thread
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            return super().invoke(ctx)
        except SrunError as error:
            if ctx.params.get("debug"):
                raise
            raise click.ClickException(str(error)) from error


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="Log warnings and errors only.")
def cli(debug: bool, quiet: bool) -> None:
    """srun: Sequential Recommender UNlearning.

    Data flows one way: fetch, prepare, partition, train, unlearn, evaluate, report. `dvc repro` runs what has
    changed; `srun run` runs everything in one process; each stage is a command of its own.

    \b
    Example:
      srun data fetch ml-100k
      srun run --params experiments/quick.yaml
    """
    import logging

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING if quiet else logging.INFO, format="%(message)s")
    for noisy in ("alembic", "mlflow", "matplotlib", "urllib3", "git"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def params_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --params, --set and --json to a command."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
        click.option(
            "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override one value of params.yaml."
        ),
        click.option(
            "--params", "presets", multiple=True, metavar="FILE", help="Lay a preset over params.yaml; may be repeated."
        ),
    ):
        command = option(command)
    return command


def cell_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the selectors of a cell to a command."""
    for option in (
        click.option("--seed", type=int, default=None, help="Training seed of the row; that of Original if not given."),
        click.option("--original", type=int, default=0, show_default=True, help="Training seed of the Original."),
        click.option("--method", required=True, help="Block of `unlearn` in params.yaml, such as sruga."),
        click.option("--model", required=True, help="Block of `model` in params.yaml, such as sasrec."),
        click.option("--request", default="interactions", show_default=True, help="Block of `partition`."),
    ):
        command = option(command)
    return command


@cli.group()
def data() -> None:
    """List, fetch, import and describe raw data sets."""


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def data_list(as_json: bool) -> None:
    """List known data sets and those of your own.

    \b
    Example:
      srun data list
    """
    from srun.stages.fetch import list_sources

    rows = list_sources(Path("data/raw"))
    _print_rows(rows, as_json)


@data.command("fetch")
@click.argument("name")
@click.option("--from", "place", default=None, metavar="PATH_OR_URL", help="A file, folder or mirror to try first.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder to write; default data/raw/NAME.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def data_fetch(name: str, place: str | None, out: Path | None, as_json: bool) -> None:
    """Fetch a known data set into data/raw/NAME, verified by its sha256.

    \b
    Example:
      srun data fetch ml-1m
    """
    from srun.stages.fetch import fetch

    _print_mapping(fetch(name, out or Path("data/raw") / name, place), as_json)


@data.command("describe")
@click.argument("name")
@params_options
def data_describe(name: str, presets: Sequence[str], assignments: Sequence[str], as_json: bool) -> None:
    """Count users, items and interactions of a raw data set, before and after the filter of params.yaml.

    \b
    Example:
      srun data describe ml-1m --json
    """
    from srun.data.interactions import describe
    from srun.data.raw import read_raw

    pipeline = _pipeline(presets, assignments)
    _print_mapping(describe(read_raw(pipeline.layout.raw(name)), pipeline.params.prepare), as_json)


@cli.command()
@params_options
def prepare(presets: Sequence[str], assignments: Sequence[str], as_json: bool) -> None:
    """Filter raw data, make ids dense, hold out targets.

    \b
    Example:
      srun prepare --set prepare.max_length=50
    """
    _print_mapping(_pipeline(presets, assignments).prepare(), as_json)


@cli.command()
@click.option("--request", default="interactions", show_default=True, help="Block of `partition` in params.yaml.")
@params_options
def partition(request: str, presets: Sequence[str], assignments: Sequence[str], as_json: bool) -> None:
    """Split the prepared data by a forget request.

    \b
    Example:
      srun partition --request interactions --set partition.interactions.file=requests.csv
    """
    _print_mapping(_pipeline(presets, assignments).partition(request), as_json)


@cli.command()
@click.option("--model", default="sasrec", show_default=True, help="Block of `model` in params.yaml.")
@click.option("--seed", type=int, default=0, show_default=True, help="Training seed.")
@params_options
def train(model: str, seed: int, presets: Sequence[str], assignments: Sequence[str], as_json: bool) -> None:
    """Train an Original on everything, on a GPU where there is one.

    \b
    Example:
      srun train --model sasrec --seed 0 --set train.loss=bce
    """
    _print_mapping(_pipeline(presets, assignments).train(model, seed), as_json)


@cli.command()
@cell_options
@params_options
def unlearn(presets: Sequence[str], assignments: Sequence[str], as_json: bool, **selectors: Any) -> None:
    """Carry out a request by one method: a new model version, Original untouched.

    \b
    Example:
      srun unlearn --model sasrec --method sruga --set unlearn.sruga.ascent_weight=0.3
    """
    _print_mapping(_pipeline(presets, assignments).unlearn(_cell(**selectors)), as_json)


@cli.command()
@cell_options
@params_options
def evaluate(presets: Sequence[str], assignments: Sequence[str], as_json: bool, **selectors: Any) -> None:
    """Rank every split of a request with one method's model.

    \b
    Example:
      srun evaluate --model sasrec --method sruga --json
    """
    _print_splits(_pipeline(presets, assignments).evaluate(_cell(**selectors)), as_json)


@cli.command()
@params_options
def report(presets: Sequence[str], assignments: Sequence[str], as_json: bool) -> None:
    """Write the tables, figures and the page in reports/.

    \b
    Example:
      srun report
    """
    _print_mapping(_pipeline(presets, assignments).report(), as_json)


@cli.command()
@params_options
def run(presets: Sequence[str], assignments: Sequence[str], as_json: bool) -> None:
    """Run every stage after fetch, in this process and folder (dvc repro runs only what has changed).

    \b
    Example:
      srun run --params experiments/quick.yaml
    """
    _print_mapping(_pipeline(presets, assignments).run(), as_json)


@cli.command("params")
@params_options
def show_params(presets: Sequence[str], assignments: Sequence[str], as_json: bool) -> None:
    """Print every parameter as it stands, presets and overrides applied.

    \b
    Example:
      srun params --params experiments/quick.yaml
    """
    from srun.config import flatten
    from srun.params import load, load_values

    files = [Path(preset) for preset in presets]
    load(Path("params.yaml"), files, assignments)
    _print_mapping(flatten(load_values(Path("params.yaml"), files, assignments)), as_json)


def _pipeline(presets: Sequence[str], assignments: Sequence[str]) -> "Pipeline":
    from srun.params import load
    from srun.pipeline import Pipeline

    return Pipeline(load(Path("params.yaml"), [Path(preset) for preset in presets], assignments), Path.cwd())


def _cell(request: str, model: str, method: str, original: int, seed: int | None) -> "Cell":
    from srun.params import Cell

    return Cell(request=request, model=model, method=method, original=original, seed=original if seed is None else seed)


def _print_mapping(values: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(values, indent=1, default=str))
        return
    from srun.config import flatten

    _table(["", "value"], [[key, _shown(value)] for key, value in flatten(values).items()])


def _print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=1, default=str))
    elif rows:
        _table(list(rows[0]), [[_shown(value) for value in row.values()] for row in rows])


def _print_splits(metrics: Mapping[str, Mapping[str, float]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(metrics, indent=1))
        return
    columns = ["num_events", "recall_10", "hit_10", "ndcg_10", "mrr", "ndcg_10_sampled"]
    rows = [[split, *(_shown(part[c]) if c in part else "" for c in columns)] for split, part in metrics.items()]
    _table(["split", *columns], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.4f}"
    return "" if value is None else str(value)


def main() -> None:
    """Entry point of the console script ``srun``."""
    cli(prog_name="srun")
