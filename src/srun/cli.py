"""The command line: one short function a command; everything heavy is imported inside the command that needs it."""

import functools
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.exceptions import NoArgsIsHelpError

from srun import __version__
from srun.errors import ConfigError, RunError, SrunError, in_lines, one_line
from srun.names import name_fault
from srun.system.distributed import joined, rank

if TYPE_CHECKING:
    from srun.flow.cells import Cell
    from srun.flow.pipeline import Pipeline
    from srun.progress import Budget
    from srun.search.results import StudyResult


NUM_ROWS_SHOWN = 20
"""Rows of a request that a terminal shows; there may be thousands."""

WORDS = "srun.words"
"""Where a context has its whole command line, whichever console script it came from."""
OPTIONS = "srun.options"
"""Where it has the words --params, --set and --out as they were given, which the commands that it tells of need too."""
STAGE = re.compile(r"`(srun (?:prepare|partition|train|unlearn|evaluate|report|run|explain|neurons|optimize)\b[^`]*)`")


class InOrder(click.Group):
    """Lists its commands in the order in which they stand here, which is that of the flow."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class Cli(InOrder):
    """Turns our errors into lines on standard error and exit code 1; ``--debug`` shows where they came from.

    Whatever a message quotes, its lines are short and hold nothing that a terminal would act on.
    """

    group_class = InOrder

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except NoArgsIsHelpError:  # its message is the help
            raise
        except click.ClickException as error:
            raise _in_one_line(error) from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        # spinning OpenMP threads beside a busy neighbour are many times slower than one thread
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            return super().invoke(ctx)
        except SrunError as error:
            if ctx.params.get("debug"):
                raise
            words = shlex.join(ctx.meta.get(OPTIONS, []))
            faults = [STAGE.sub(lambda told: f"`{told[1]} {words}".rstrip() + "`", fault) for fault in error.faults]
            raise click.ClickException(in_lines(faults)) from error
        except NoArgsIsHelpError:
            raise
        except click.ClickException as error:
            raise _in_one_line(error) from error


def _in_one_line(error: click.ClickException) -> click.ClickException:
    """Click's own error, whose message quotes what was typed."""
    message = one_line(error.format_message())
    return (
        click.UsageError(message, error.ctx) if isinstance(error, click.UsageError) else click.ClickException(message)
    )


@dataclass(frozen=True)
class Common:
    """The options that most commands share."""

    presets: tuple[str, ...]
    assignments: tuple[str, ...]
    as_json: bool
    out: Path | None = None

    def pipeline(
        self, presets: Sequence[str] = (), assignments: Sequence[str] = (), out: Path | None = None
    ) -> "Pipeline":
        """The pipeline of these options, laid over presets, assignments and a folder of the command's own."""
        if not (presets or assignments):
            click.get_current_context().meta[OPTIONS] = self.words
        return _pipeline([*presets, *self.presets], [*assignments, *self.assignments], self.out or out)

    @property
    def words(self) -> list[str]:
        """The options as they were given, --json aside."""
        given = [("--params", preset) for preset in self.presets] + [("--set", one) for one in self.assignments]
        return [word for pair in given + [("--out", str(self.out))] * (self.out is not None) for word in pair]


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="Log warnings and errors only.")
@click.version_option(__version__, message="srun-unlearning %(version)s")
def cli(debug: bool, quiet: bool) -> None:
    """srun: Sequential Recommender UNlearning.

    Data flows one way: fetch, prepare, partition, train, unlearn, evaluate, report. `dvc repro` runs what has
    changed; `srun run` runs everything in one process; each stage is a command of its own.

    \b
    Example:
      srun data fetch ml-100k
      srun run --params presets/quick.yaml --out out/quick
    """
    import logging

    class Lines(logging.Formatter):
        """A record is one line, whatever names and texts it quotes."""

        def format(self, record: logging.LogRecord) -> str:
            return one_line(super().format(record))

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines("%(message)s"))
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, handlers=[handler])
    for noisy in ("alembic", "mlflow", "matplotlib", "urllib3", "git"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _common(takes_out: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --params, --set, --json and, for what reads or writes the flow's folders, --out; they come as ``common``."""

    def decorator(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_common(*args: Any, **others: Any) -> Any:
            names = [name for name in ("presets", "assignments", "as_json", "out") if name in others]
            return command(*args, common=Common(**{name: others.pop(name) for name in names}), **others)

        for option in (*([out_option] if takes_out else []), json_option, set_option, preset_option):
            with_common = option(with_common)
        return with_common

    return decorator


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
set_option = click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override one value of params.yaml."
)
preset_option = click.option(
    "--params", "presets", multiple=True, metavar="FILE", help="Lay a preset over params.yaml; may be repeated."
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder of everything made from data/raw, as of `srun run --out`; this one if not given.",
)


def _a_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A value that files are named for."""
    if value is not None and (fault := name_fault(value, "data set" if param.name == "name" else str(param.name))):
        raise click.BadParameter(f'"{value}": {fault}')
    return value


flow_options, file_options = _common(takes_out=True), _common(takes_out=False)


def cell_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the selectors of a cell to a command."""
    for option in (
        click.option("--seed", type=int, default=None, help="Training seed of the row; that of Original if not given."),
        click.option("--method", required=True, help="Block of `unlearn` in params.yaml, such as sruga."),
        click.option(
            "--original",
            default=None,
            callback=_a_name,
            help="Entry of `originals` to start from; the first if not given.",
        ),
        click.option("--category", default=None, help="Forget this category: its request is found or made."),
        click.option(
            "--request", default=None, callback=_a_name, help="Block of `partition`; interactions if not given."
        ),
    ):
        command = option(command)
    return command


def _a_number(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A number that is one: NaN is in every range."""
    if value is not None and value != value:
        raise click.BadParameter("nan: expected a number of minutes")
    return value


budget_option = click.option(
    "--budget",
    type=click.FloatRange(min=0),
    callback=_a_number,
    default=None,
    metavar="MINUTES",
    help="Begin nothing new after this time; the same command goes on.",
)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
def init(folder: Path) -> None:
    """Write params.yaml and the presets of presets/ into FOLDER, so that every command works there.

    A checkout of srun has them already. A file that is there is never replaced.

    \b
    Example:
      srun init shop
    """
    from srun.flow.starter import write_starter

    written = write_starter(folder)
    click.echo("\n".join(map(str, written)) if written else f"{folder}: everything is there already")


@cli.command("params")
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
    load(Path("params.yaml"), files, common.assignments)
    _print_mapping(flatten(load_values(Path("params.yaml"), files, common.assignments)), common.as_json)


@cli.group()
def data() -> None:
    """List, fetch, import and describe raw data sets."""


@data.command("list")
@json_option
def data_list(as_json: bool) -> None:
    """List known data sets and those of your own.

    \b
    Example:
      srun data list
    """
    from srun.flow.fetch import list_sources

    rows = list_sources(Path("data/raw"))
    _print_rows(rows, as_json)


@data.command("fetch")
@click.argument("name")
@click.option("--from", "place", default=None, metavar="PATH_OR_URL", help="A file, folder or mirror to try first.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder to write; default data/raw/NAME.")
@json_option
def data_fetch(name: str, place: str | None, out: Path | None, as_json: bool) -> None:
    """Fetch a known data set into data/raw/NAME, verified by its sha256.

    \b
    Example:
      srun data fetch ml-1m
    """
    from srun.flow.fetch import fetch

    _print_mapping(fetch(name, out or Path("data/raw") / name, place), as_json)


@data.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the new data set: a folder of data/raw.")
@click.option(
    "--format",
    "form",
    default=None,
    help="csv, tsv, semicolons, parquet, pairs, sequences, amazon, steam; else guessed.",
)
@click.option(
    "--columns", default=None, metavar="user=A,item=B,time=C", help="Which column is what; time=none: by line."
)
@click.option("--items", type=click.Path(path_type=Path), default=None, help="Item table: ids, titles, categories.")
@click.option(
    "--item-columns", default=None, metavar="item=A,title=B,categories=C", help="The same for the item table."
)
@json_option
def data_import(
    file: Path,
    name: str,
    form: str | None,
    columns: str | None,
    items: Path | None,
    item_columns: str | None,
    as_json: bool,
) -> None:
    """Import a log of your own as data/raw/NAME.

    CSV (commas or semicolons), TSV, Parquet, "user item" or "user item item ..." lines, plain or gzip. Times are ISO
    8601 dates or numbers since 1970 from seconds to nanoseconds, all in one unit; fractions of a second decide the
    order and are then cut off.

    \b
    Example:
      srun data import clicks.csv --name shop --columns user=customer,item=sku,time=clicked_at --items products.csv
      srun run --set data.name=shop --out out/shop
    """
    from srun.data.importing import column_mapping
    from srun.flow.fetch import import_file

    info = import_file(
        file,
        name,
        Path("data/raw"),
        form=form,
        columns=None if columns is None else column_mapping(columns),
        items=items,
        item_columns=None if item_columns is None else column_mapping(item_columns),
    )
    _print_mapping(info, as_json)


@data.command("describe")
@click.argument("name", callback=_a_name)
@file_options
def data_describe(name: str, common: Common) -> None:
    """Count users, items and interactions of a raw data set, before and after the filter of params.yaml.

    \b
    Example:
      srun data describe ml-1m --json
    """
    from srun.data.dataset import describe
    from srun.data.raw import read_raw

    pipeline = common.pipeline()
    _print_mapping(describe(read_raw(pipeline.layout.raw(name)), pipeline.params.prepare), common.as_json)


@cli.command()
@flow_options
def prepare(common: Common) -> None:
    """Filter raw data, make ids dense, hold out targets.

    \b
    Example:
      srun prepare --set prepare.max_length=50
    """
    _print_mapping(common.pipeline().prepare(), common.as_json)


@cli.command()
@click.option("--request", default=None, callback=_a_name, help="Name of the request; interactions if not given.")
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
@flow_options
def partition(
    request: str | None,
    file: str | None,
    form: str | None,
    columns: str | None,
    kind: str | None,
    category: str | None,
    common: Common,
) -> None:
    """Split the prepared data by a forget request: one of params.yaml, or your own in a file.

    A file has a row for each thing to forget: a user and an item, with or without the time; or users alone, for all
    they ever did. Every row gets an outcome. Later commands know the request by its name.

    \b
    Example:
      srun partition --request may --file requests.csv
      srun partition --category Drama
    """
    pipeline = common.pipeline()
    if file is None:
        if given := [name for name, value in {"--format": form, "--columns": columns, "--kind": kind}.items() if value]:
            raise click.UsageError(f"{given[0]} goes with --file")
        if category is not None:
            request, pipeline.params = pipeline.params.with_category(_only(category, request))
        result = pipeline.partition(request or "interactions")
    else:
        from srun.data.importing import column_mapping

        if request is None or category is not None:
            raise click.UsageError("--file goes with --request NAME, the name that later commands know it by")
        result = pipeline.partition_given(request, file, form, column_mapping(columns), kind)
    _print_partition(result, common.words, common.as_json)


@cli.command()
@flow_options
def digests(common: Common) -> None:
    """Write digests of the code of each stage and of the request files, by which `dvc repro` notices a change.

    \b
    Example:
      srun digests
    """
    folder = str(common.pipeline().digests())
    click.echo(json.dumps({"written": folder}) if common.as_json else folder)


@cli.command()
@click.option(
    "--original", default=None, callback=_a_name, help="Entry of `originals` to train; the first if not given."
)
@flow_options
def train(original: str | None, common: Common) -> None:
    """Train an Original on everything, on a GPU where there is one, or on several: see docs/scale.md.

    \b
    Example:
      srun train --original sasrec-0 --set train.loss=bce
    """
    from srun.flow.plan import check_training

    pipeline = common.pipeline()
    name = original or _first_original(pipeline)
    with joined():
        check_training(pipeline.params, name)
        _print_mapping(pipeline.train(name), common.as_json)


@cli.command()
@cell_options
@flow_options
def unlearn(common: Common, **selectors: Any) -> None:
    """Carry out a request by one method: a new model version, Original untouched.

    \b
    Example:
      srun unlearn --original sasrec-0 --method sruga --set unlearn.sruga.ascent_weight=0.3
      srun unlearn --original sasrec-0 --method attribution --category Action
    """
    from srun.flow.plan import check_cell

    pipeline = common.pipeline()
    with joined():
        cell = _cell(pipeline, **selectors)
        check_cell(pipeline.params, cell)
        _print_mapping(pipeline.unlearn(cell), common.as_json)


@cli.command()
@cell_options
@flow_options
def evaluate(common: Common, **selectors: Any) -> None:
    """Rank every split of a request with one method's model.

    \b
    Example:
      srun evaluate --original sasrec-0 --method sruga --json
    """
    pipeline = common.pipeline()
    with joined():
        _print_splits(pipeline.evaluate(_cell(pipeline, **selectors)), common.as_json)


@cli.command()
@click.option("--request", default=None, callback=_a_name, help="On this request alone, in reports/requests/NAME.")
@flow_options
def report(request: str | None, common: Common) -> None:
    """Write the tables, figures and the page in reports/.

    \b
    Example:
      srun report
      srun report --request may
    """
    pipeline = common.pipeline()
    pipeline = pipeline if request is None else pipeline.only(request)
    _print_report(pipeline.report(), common.as_json)


@cli.command()
@click.option(
    "--request",
    default=None,
    callback=_a_name,
    help="Only this request, with every row of cells that can carry it out.",
)
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
    pipeline = common.pipeline()
    if request is not None:
        pipeline = pipeline.only(request)
    _check_flow(pipeline)
    _print_report(pipeline.run(_budget(budget)), common.as_json)


@cli.command()
@click.argument("user")
@click.option(
    "--request",
    default="interactions",
    show_default=True,
    callback=_a_name,
    help="Block of `partition` in params.yaml.",
)
@flow_options
def explain(user: str, request: str, common: Common) -> None:
    """Tell a user's story: sequence, forgotten items, ranks and top 10 under every model of a request.

    It prints personal data: the user's whole history, and what was forgotten of it. Nothing is written to a file.

    \b
    Example:
      srun explain 293
    """
    study = common.pipeline().explain(user, request)
    if common.as_json:
        click.echo(json.dumps(study, indent=1))
        return
    _print_rows(
        [{**event, "forgotten": "forgotten" if event["forgotten"] else ""} for event in study["sequence"]], False
    )
    for question in study["questions"]:
        click.echo(f"\n{question['split']}: {_named(question['target'])} after {', '.join(question['history'][-10:])}")
        rows = [
            {"model": model, "rank": rank, "top 10": ", ".join(item["item_id"] for item in question["top"][model])}
            for model, rank in question["ranks"].items()
        ]
        _print_rows(rows, False)


@cli.command()
@click.option("--category", default=None, help="The category; its request is found or made.")
@click.option("--request", default=None, callback=_a_name, help="Block of `partition` instead: a category request.")
@click.option(
    "--original", default=None, callback=_a_name, help="Entry of `originals` to look into; the first if not given."
)
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), default=None, help="PNG file to draw.")
@flow_options
def neurons(category: str | None, request: str | None, original: str | None, png: Path | None, common: Common) -> None:
    """Show the neurons of a category: attributions, sharing with other categories, dose and response.

    --png draws them; --out is the folder of the flow, as everywhere.

    \b
    Example:
      srun neurons --category Action --original sasrec-0 --png action.png
    """
    if png is not None and not png.parent.is_dir():
        raise click.UsageError(f'--png "{png}": there is no folder {png.parent}')
    pipeline = common.pipeline()
    study = pipeline.neurons(_request(pipeline, request, category), original or _first_original(pipeline))
    if png is not None:
        from srun.reporting.neurons import draw_neurons

        try:
            png.write_bytes(draw_neurons(study))
        except OSError as error:
            raise RunError(f"{png}: cannot be written ({error.strerror})") from error
    _print_study(study, common.as_json)


@cli.group(invoke_without_command=True)
@click.option(
    "--objective",
    "objective",
    multiple=True,
    help="Of optimize.objectives: pareto, match, suppress, utility, cost; or a text as there. May be repeated.",
)
@click.option("--method", default=None, help="Block of `unlearn` to search: sruga, attribution, ...")
@click.option(
    "--original", default=None, callback=_a_name, help="Entry of `originals` to start from; the first if not given."
)
@click.option("--category", default=None, help="Forget this category: its request is found or made.")
@click.option("--request", default=None, callback=_a_name, help="Block of `partition`; interactions if not given.")
@click.option("--trials", type=click.IntRange(1), default=None, help="Finished trials, over all workers and runs.")
@click.option(
    "--timeout", type=float, default=None, help="Seconds after which no new trial begins; the exit code is 0 then too."
)
@click.option("--sampler", default=None, help="tpe, nsga2, nsga3, gp or random.")
@click.option("--study", default=None, callback=_a_name, help="Name; made of what is searched if not given.")
@click.option("--storage", default=None, metavar="URL|PATH", help="PostgreSQL, or a journal file on a shared folder.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Local processes.")
@flow_options
@click.pass_context
def optimize(
    ctx: click.Context, study: str | None, storage: str | None, workers: int, common: Common, **selectors: Any
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
        given = [name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        if given:
            raise click.UsageError(f"options belong after {ctx.invoked_subcommand}, not before it")
        return
    import signal

    from srun.flow.plan import check_search
    from srun.search.storage import open_storage
    from srun.search.workers import run_workers

    pipeline = common.pipeline()
    if storage is not None:
        open_storage(storage)  # before a category's partition is made: a wrong one is known at once
    cell = _searched(pipeline, **selectors)
    check_search(pipeline.params, cell)
    name = study or pipeline.study_name(cell)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # scancel is Ctrl-C
    work = None if workers == 1 else lambda logs: run_workers(ctx.meta[WORDS], workers, logs)
    try:
        result = pipeline.optimize(cell, name, storage, work)
    except KeyboardInterrupt:
        click.echo(f'stopped; study "{name}" keeps its trials: go on with the same command', err=True)
        raise SystemExit(130) from None
    _print_search(result, pipeline.params.optimize.trials, common.as_json)


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the selectors of a study to a command."""
    for option in (
        click.option("--storage", default=None, metavar="URL|PATH", help="Where it is, if not in runs/optimize."),
        click.option(
            "--study", default=None, callback=_a_name, help="Its name; as `srun optimize` has it if not given."
        ),
    ):
        command = option(command)
    return command


@optimize.command("show")
@study_options
@flow_options
def optimize_show(study: str | None, storage: str | None, common: Common) -> None:
    """Print the front of a study and write its report anew.

    \b
    Example:
      srun optimize show --study sasrec-0-interactions-sruga-pareto
    """
    pipeline = common.pipeline()
    result = pipeline.show_study(study or pipeline.study_name(_searched(pipeline)), storage)
    _print_search(result, None, common.as_json)


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
    pipeline = common.pipeline()
    written, metrics = pipeline.apply_trial(study or pipeline.study_name(_searched(pipeline)), trial, storage)
    if not common.as_json:
        click.echo("\n".join(str(path) for path in written))
    _print_splits(metrics, common.as_json)


@cli.command()
@click.option("--history", required=True, metavar="ITEM,ITEM,...", help="Raw item ids, oldest first.")
@click.option("--model", "folder", type=click.Path(path_type=Path), required=True, help="A published model's folder.")
@click.option("-k", type=int, default=10, show_default=True, help="How many items.")
@json_option
def recommend(history: str, folder: Path, k: int, as_json: bool) -> None:
    """Recommend items after a history, with any published model.

    \b
    Example:
      srun recommend --model models/sasrec-0/interactions/sruga-0 --history 50,181,174
    """
    from srun.service.recommender import Recommender, parse_history

    items = parse_history(history)
    [answer] = Recommender.load(folder).recommend([items], k)
    rows = [{"item_id": item, "score": score} for item, score in zip(answer.item_ids, answer.scores, strict=True)]
    if answer.unknown:
        click.echo(one_line(f"unknown items left out: {', '.join(answer.unknown)}"), err=True)
    if not rows:
        click.echo("the history has no known item, so there is nothing to go by", err=True)
    _print_rows(rows, as_json)


@cli.group()
def reproduce() -> None:
    """Repeat the experiments of the documents this system is made from, beside their printed figures."""


@reproduce.command("thesis")
@click.option("--dataset", type=click.Choice(["beauty", "games", "steam"]), required=True)
@click.option("--models", default="gru4rec,sasrec,bert4rec", show_default=True, metavar="NAME,NAME,...")
@click.option("--seeds", default="0", show_default=True, metavar="N,N,...", help="Training seeds.")
@click.option(
    "--data", "source", type=click.Path(path_type=Path), default=None, help="Folder with amazon-beauty/pairs.txt.gz ..."
)
@budget_option
@flow_options
def reproduce_thesis(
    dataset: str,
    models: str,
    seeds: str,
    source: Path | None,
    budget: float | None,
    common: Common,
) -> None:
    """Original, Retrain, SISA and SRUGA as in the SRUGA thesis: its Tables 2 to 6 and Figures 6 to 8.

    Writes into out/thesis-DATASET unless --out names another folder.

    \b
    Example:
      srun reproduce thesis --dataset beauty --models sasrec --data downloads --budget 60
    """
    from srun.models import MODELS
    from srun.papers import reproduce
    from srun.papers.thesis import assignments, raw_name

    for model in _words(models):
        MODELS[model]  # an unknown one is refused by its name, not by those of the Originals that it would get
    name = raw_name(dataset, Path("data/raw"), source)
    laid = [f"presets/{file}.yaml" for file in ("thesis", f"thesis-{dataset}")]
    cells = assignments(name, _words(models), _numbers("--seeds", seeds))
    pipeline = common.pipeline(laid, cells, Path("out") / f"thesis-{dataset}")
    _check_flow(pipeline)
    _print_report(reproduce.reproduce_thesis(pipeline, dataset, _budget(budget)), common.as_json)


@reproduce.command("ablation")
@click.option("--dataset", type=click.Choice(["beauty-5core", "beauty", "games"]), default="beauty-5core")
@click.option("--parts", default="combinations,sweeps,curves", show_default=True, metavar="PART,PART,...")
@click.option("--epochs", type=click.IntRange(min=1), default=1000, show_default=True, help="Of the long curves.")
@click.option("--data", "source", type=click.Path(path_type=Path), default=None, help="Folder as of reproduce thesis.")
@budget_option
@flow_options
def reproduce_ablation(
    dataset: str,
    parts: str,
    epochs: int,
    source: Path | None,
    budget: float | None,
    common: Common,
) -> None:
    """SRUGA's terms alone and together, each weight from 0.1 to 1, long curves: Figures 9 to 13 of the thesis.

    Writes into out/ablation-DATASET unless --out names another folder.

    \b
    Example:
      srun reproduce ablation --dataset beauty-5core --parts combinations --data downloads --budget 30
    """
    from srun.papers import reproduce
    from srun.papers.ablation import PARTS
    from srun.papers.thesis import raw_name

    if unknown := set(_words(parts)) - set(PARTS):
        raise click.UsageError(f"--parts: unknown {', '.join(sorted(unknown))}, expected some of {', '.join(PARTS)}")
    name = raw_name(dataset, Path("data/raw"), source)
    laid = ["presets/thesis.yaml", "presets/ablation.yaml"]
    pipeline = common.pipeline(laid, [f"data.name={name}"], Path("out") / f"ablation-{dataset}")
    _check_flow(pipeline)
    _print_report(reproduce.reproduce_ablation(pipeline, _words(parts), epochs, _budget(budget)), common.as_json)


@reproduce.command("attribution")
@click.option("--dataset", type=click.Choice(["ml-1m", "ml-100k"]), default="ml-1m", show_default=True)
@click.option(
    "--categories", default="Action", show_default=True, metavar="NAME,NAME,...", help="Of the paper's three."
)
@click.option("--num-seeds", type=click.IntRange(1), default=1, show_default=True, help="Of the first category.")
@click.option("--no-others", is_flag=True, help="Without GRU4Rec and Caser, which are for Figures 3 and 4.")
@click.option("--no-protocols", is_flag=True, help="Without the edit under other holdouts, widths and epochs.")
@budget_option
@flow_options
def reproduce_attribution(
    dataset: str,
    categories: str,
    num_seeds: int,
    no_others: bool,
    no_protocols: bool,
    budget: float | None,
    common: Common,
) -> None:
    """Forget a category of films as the attribution paper does: its Tables 1 to 3 and Figures 3 and 4, and beyond.

    Writes into out/attribution-DATASET unless --out names another folder.

    \b
    Example:
      srun reproduce attribution --dataset ml-100k --budget 60
    """
    from srun.papers import reproduce
    from srun.papers.attribution import assignments, protocols

    laid = [*(f"presets/{file}.yaml" for file in ("attribution", f"attribution-{dataset}")), *common.presets]
    cells = assignments(_words(categories), not no_others, number=num_seeds)
    out = common.out or Path("out") / f"attribution-{dataset}"
    changed = {} if no_protocols else protocols(_words(categories))
    under = {
        name: _pipeline(laid, [*common.assignments, *own], out / "protocols" / name) for name, own in changed.items()
    }
    pipeline = _pipeline(laid, [*cells, *common.assignments], out)
    _check_flow(pipeline, *under.values())
    _print_report(reproduce.reproduce_attribution(pipeline, dataset, under, _budget(budget)), common.as_json)


def _pipeline(presets: Sequence[str], assignments: Sequence[str], out: Path | None = None) -> "Pipeline":
    from srun.flow.layout import Layout
    from srun.flow.params import load
    from srun.flow.partition import known_blocks
    from srun.flow.pipeline import Pipeline

    root = (out or Path.cwd()).resolve()
    given = known_blocks(Layout(Path.cwd(), root).partitions)
    params = load(Path("params.yaml"), [Path(preset) for preset in presets], assignments, given)
    options = [word for preset in presets for word in ("--params", preset)]
    options += [word for assignment in assignments for word in ("--set", assignment)]
    options += [] if out is None else ["--out", str(out)]
    return Pipeline(params, Path.cwd(), root, options)


def _first_original(pipeline: "Pipeline") -> str:
    if not pipeline.params.originals:
        raise ConfigError("params.yaml has no originals, so there is nothing to train or to start from")
    return next(iter(pipeline.params.originals))


def _check_flow(*pipelines: "Pipeline") -> None:
    from srun.flow.plan import check_flow

    check_flow((pipeline.params, pipeline.layout) for pipeline in pipelines)


def _budget(minutes: float | None) -> "Budget | None":
    from srun.progress import Budget

    return None if minutes is None else Budget(minutes)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(word) for word in _words(text)]
    except ValueError as error:
        raise click.UsageError(f'{option} "{text}": expected whole numbers, such as 0,1,2') from error


def _only(category: str, request: str | None) -> str:
    if request is not None:
        raise click.UsageError("--category and --request exclude each other")
    return category


def _request(pipeline: "Pipeline", request: str | None, category: str | None) -> str:
    """The name of the request that is meant; that of a category is partitioned if need be."""
    if category is not None:
        return pipeline.category(_only(category, request))
    return request or "interactions"


def _cell(
    pipeline: "Pipeline", request: str | None, category: str | None, original: str | None, method: str, seed: int | None
) -> "Cell":
    from srun.flow.cells import Cell

    request = _request(pipeline, request, category)

    name = original or _first_original(pipeline)
    if seed is None:
        seed = pipeline.params.original(name).seed
    return Cell(request=request, original=name, method=method, seed=seed)


def _searched(
    pipeline: "Pipeline",
    objective: Sequence[str] = (),
    method: str | None = None,
    original: str | None = None,
    category: str | None = None,
    request: str | None = None,
    **limits: Any,
) -> "Cell":
    """The row whose settings are searched; what the command line says goes over the section `optimize`."""
    given = {key: value for key, value in limits.items() if value is not None}
    pipeline.params = pipeline.params.with_search(**given, **({"objective": tuple(objective)} if objective else {}))
    return _cell(pipeline, request, category, original, method or pipeline.params.optimize.method, None)


def _print_search(result: "StudyResult", num_trials: int | None, as_json: bool) -> None:
    from srun.reporting.pareto import trial_rows

    rows = {row["trial"]: row for row in trial_rows(result)}
    front = [rows[trial.number] for trial in result.front]
    if as_json:
        left = {} if num_trials is None else {"trials": num_trials, "left": max(0, num_trials - result.num_finished)}
        found = {"study": result.name, "finished": result.num_finished, **left, "front": front}
        click.echo(json.dumps(found, indent=1))
        return
    shown = ["trial", *(objective.key for objective in result.goal.objectives)]
    prefix = f"unlearn.{result.about['cell']['method']}."
    shown += [key for key in (front[0] if front else {}) if key.startswith(prefix)]
    for row in front:  # settings differ by orders of magnitude, so digits count and not places
        row |= {key: f"{row[key]:.3g}" for key in shown if isinstance(row[key], float)}
    _print_rows([{key.removeprefix(prefix): row[key] for key in shown} for row in front], False)
    wanted = "" if num_trials is None else f" of {num_trials}"
    click.echo(f'\nstudy "{result.name}": {result.num_finished}{wanted} trials, {len(front)} on the front')
    if num_trials is not None and result.num_finished < num_trials:
        click.echo("the time is over; go on with the same command")


def _named(item: Mapping[str, str]) -> str:
    return f"{item['item_id']} {item['title']}".strip()


def _print_mapping(values: Mapping[str, Any], as_json: bool) -> None:
    if rank():
        return
    if as_json:
        click.echo(json.dumps(values, indent=1, default=str))
        return
    from srun.config import flatten

    _table(["", "value"], [[key, _shown(value)] for key, value in flatten(values).items()])


def _print_partition(result: Mapping[str, Any], options: Sequence[str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, indent=1, default=str))
        return
    kind = result["request"]["kind"]
    if "rows" in result:
        counts = ", ".join(f"{number} {outcome}" for outcome, number in result["rows"].items() if number)
        click.echo(f'request "{result["name"]}" ({kind}), {sum(result["rows"].values())} rows: {counts}')
        _print_rows(result["not_forgotten"][:NUM_ROWS_SHOWN], False)
        if len(result["not_forgotten"]) > NUM_ROWS_SHOWN:
            click.echo(f"... and {len(result['not_forgotten']) - NUM_ROWS_SHOWN} more; --json has them all")
    else:
        click.echo(f'request "{result["name"]}" ({kind})')
    click.echo(
        f"{result['num_forget']} events of {result['num_users']} users leave training, {result['num_retain']} stay;"
        f" {result['num_held_out_removed']} leave validation and test"
    )
    if "no_tune_half" in result:
        click.echo(f"note: {result['no_tune_half']}")
    step = "unlearn --method attribution" if kind == "category" else "run"
    words = shlex.join(["srun", *step.split(), "--request", result["name"], *options])
    click.echo(f"next: {words}")


def _print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=1, default=str))
    elif rows:
        _table(list(rows[0]), [[_shown(value) for value in row.values()] for row in rows])


def _print_study(study: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(study, indent=1))
        return
    _print_rows(study["neurons"], False)
    for category, summary in study["categories"].items():
        note = f" ({summary['note']})" if "note" in summary else ""
        click.echo(f"\n{category}: {summary['num_sequences']} sequences, P = {summary['privacy_threshold']} %{note}")
        rows = summary["num_neurons_by_privacy_threshold"].items()
        click.echo("neurons by P: " + ", ".join(f"{p} % {number}" for p, number in rows if number))
    click.echo("\nDose and response, validation targets of find users")
    _print_rows(study["dose"], False)
    for title, key in (
        ("Share of the row's neurons that the column has", "overlap"),
        ("Loss of Hit@10 in the column by the row's edit", "collateral_loss"),
    ):
        click.echo(f"\n{title}")
        _print_rows([{"": name, **row} for name, row in study[key].items()], False)


def _print_report(report: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report, indent=1))
        return
    for title, rows in report.get("tables", {}).items():
        click.echo(f"\n{title}")
        _print_rows(rows, as_json)
    for text in [*report.get("headlines", []), *report.get("missing", [])]:
        click.echo(f"\n{text}")
    click.echo("\n".join(["", *report.get("written", {}).values()]))
    if report.get("left"):
        click.echo(f"left, for the same command to go on with: {', '.join(report['left'])}")


def _print_splits(metrics: Mapping[str, Mapping[str, float]], as_json: bool) -> None:
    if rank():
        return
    if as_json:
        click.echo(json.dumps(metrics, indent=1))
        return
    columns = ["num_events", "recall_10", "hit_10", "ndcg_10", "mrr", "ndcg_10_sampled"]
    rows = [[split, *(_shown(part[c]) if c in part else "" for c in columns)] for split, part in metrics.items()]
    _table(["split", *columns], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)  # cells are data: "[red]" is an id like another
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no width of its own, and should lose nothing to one
    table = Table(*header, box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.4f}"
    return "" if value is None else str(value)


def main() -> None:
    """Entry point of the console scripts ``srun``, which shares its name with Slurm's, and ``srunlearn``."""
    from srun.system.slurm import hand_over

    try:
        hand_over(sys.argv, cli.commands)
    except SrunError as error:
        raise SystemExit(f"Error: {in_lines(error.faults)}") from error
    cli(prog_name="srun")


def optimize_main() -> None:
    """Entry point of the console script ``optimize``, which Slurm's srun starts: `srun -n 6 optimize ...`."""
    cli(["optimize", *sys.argv[1:]], prog_name="srun")
