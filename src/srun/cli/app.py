"""The program itself: its commands in the order of the flow, its errors, its log, and the console scripts."""

import logging
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from srun import __version__
from srun.cli import audit, data, flow, look, oracle, papers, requests, search, service, sync
from srun.cli.options import OPTION_WORDS, WORDS, InOrder
from srun.cli.stopping import exit_code, terminable
from srun.errors import SrunError, in_lines, one_line
from srun.system.slurm import hand_over

COMMANDS: tuple[click.Command, ...] = (
    flow.init,
    flow.show_params,
    data.data,
    flow.prepare,
    flow.digests,
    flow.train,
    flow.levels,
    flow.draw,
    requests.partition,
    flow.unlearn,
    flow.evaluate,
    flow.judge,
    flow.report,
    flow.run,
    flow.accept,
    oracle.oracle,
    audit.audit,
    look.explain,
    look.neurons,
    search.optimize,
    look.recommend,
    service.service,
    service.forget,
    service.requests,
    service.status,
    service.rollback,
    papers.reproduce,
    sync.sync,
)
"""Every command, in the order in which `srun --help` lists them."""
QUOTED_COMMAND = re.compile(
    r"`(srun (?:prepare|partition|train|levels|draw|unlearn|evaluate|judge|report|run|oracle|audit|explain|neurons"
    r"|optimize)"
    r"\b[^`]*)`"
)
"""A command that an error message tells the reader to run, and that needs the same options."""
NOISY_LOGGERS = ("alembic", "mlflow", "matplotlib", "urllib3", "git")


class Cli(InOrder):
    """Turns our errors into lines on standard error and exit code 1; ``--debug`` shows where they came from.

    Whatever a message quotes, its lines are short and hold nothing that a terminal would act on.
    """

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
        _have_home()
        try:
            with terminable():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            words = shlex.join(["srun", *ctx.meta.get(WORDS, [])])
            click.echo(f"stopped; what was saved stays: go on with `{one_line(words)}`", err=True)
            raise SystemExit(exit_code(stop)) from stop
        except SrunError as error:
            if ctx.params.get("debug"):
                raise
            words = shlex.join(ctx.meta.get(OPTION_WORDS, []))
            faults = [_with_options(fault, words) for fault in error.faults]
            raise click.ClickException(in_lines(faults)) from error
        except NoArgsIsHelpError:
            raise
        except click.ClickException as error:
            raise _in_one_line(error) from error


def _have_home() -> None:
    """Name a home where a user has none, no HOME and no entry in the list of users: MLflow cannot be loaded without.

    It is that of a container's nameless user: a folder in which nobody else can leave anything to be read.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"


def _with_options(fault: str, words: str) -> str:
    """A message whose commands carry the options of this one, so that they work as pasted."""

    def complete(command: re.Match[str]) -> str:
        return command[0] if command[1].endswith(words) else f"`{command[1]} {words}`"

    return QUOTED_COMMAND.sub(complete, fault)


def _in_one_line(error: click.ClickException) -> click.ClickException:
    """Click's own error, whose message quotes what was typed."""
    message = one_line(error.format_message())
    return (
        click.UsageError(message, error.ctx) if isinstance(error, click.UsageError) else click.ClickException(message)
    )


class LineFormatter(logging.Formatter):
    """Writes a record as one line, whatever names and texts it quotes."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="Log warnings and errors only.")
@click.version_option(__version__, message="srun-unlearning %(version)s")
def cli(debug: bool, quiet: bool) -> None:
    """srun: Sequential Recommender UNlearning.

    Data flows one way: fetch, prepare, train, draw, partition, unlearn, evaluate, audit, judge, report. `dvc repro`
    runs what has changed; `srun run` runs everything in one process; each stage is a command of its own.

    \b
    Example:
      srun data fetch ml-100k
      srun run --params presets/quick.yaml --out out/quick
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, handlers=[handler])
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point of the console scripts ``srun``, which shares its name with Slurm's, and ``srunlearn``."""
    try:
        hand_over(sys.argv, cli.commands)
    except SrunError as error:
        raise SystemExit(f"Error: {in_lines(error.faults)}") from error
    cli(prog_name="srun")


def optimize_main() -> None:
    """Entry point of the console script ``optimize``, which Slurm's srun starts: `srun -n 6 optimize ...`."""
    cli(["optimize", *sys.argv[1:]], prog_name="srun")
