"""The options that commands share, each defined once, and the values they give."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srun.cli.selection import open_project
from srun.names import name_fault

if TYPE_CHECKING:
    from srun.flow.project import Project
    from srun.progress import Budget

WORDS = "srun.words"
"""Where a context keeps its whole command line, whichever console script it came from."""
OPTION_WORDS = "srun.options"
"""Where it keeps --params, --set and --out as typed: the commands that its messages name need them too."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class InOrder(click.Group):
    """Lists its commands in the order in which they were added, which is that of the flow."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@dataclass(frozen=True, kw_only=True)
class Common:
    """The values of the options that most commands share."""

    presets: tuple[str, ...]
    assignments: tuple[str, ...]
    as_json: bool
    out: Path | None = None

    def project(
        self, presets: Sequence[str] = (), assignments: Sequence[str] = (), out: Path | None = None
    ) -> "Project":
        """The project of these options, laid over presets, assignments and a folder of the command's own."""
        if not (presets or assignments):
            click.get_current_context().meta[OPTION_WORDS] = self.words
        return open_project([*presets, *self.presets], [*assignments, *self.assignments], self.out or out)

    def project_on(self, request: str | None) -> "Project":
        """The project of these options, for one request only where it is named."""
        project = self.project()
        return project if request is None else project.only(request)

    @property
    def words(self) -> list[str]:
        """The options as typed, --json aside."""
        from srun.flow.project import option_words

        return option_words(self.presets, self.assignments, self.out)


def _check_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse a name that cannot name files."""
    if value is not None and (fault := name_fault(value, "data set" if param.name == "name" else str(param.name))):
        raise click.BadParameter(f'"{value}": {fault}')
    return value


def _check_number(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Refuse NaN, which is in every range."""
    if value is not None and value != value:
        raise click.BadParameter("nan: expected a number of minutes")
    return value


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
preset_option = click.option(
    "--params", "presets", multiple=True, metavar="FILE", help="Lay a preset over params.yaml; may be repeated."
)
set_option = click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override one value of params.yaml."
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder of everything made from data/raw, as of `srun run --out`; this one if not given.",
)
category_option = click.option("--category", default=None, help="Forget this category: its request is found or made.")
budget_option = click.option(
    "--budget",
    type=click.FloatRange(min=0),
    callback=_check_number,
    default=None,
    metavar="MINUTES",
    help="Begin nothing new after this time; the same command goes on.",
)
name_argument = click.argument("name", callback=_check_name)


def request_option(
    help_text: str = "Block of `partition`; the first of `requests` if not given.", **settings: Any
) -> Decorator:
    """Option --request: a name that files are named for."""
    return click.option("--request", callback=_check_name, help=help_text, **{"default": None, **settings})


def original_option(purpose: str) -> Decorator:
    """Option --original; ``purpose``: what it is chosen for, after "to"."""
    help_text = f"Entry of `originals` to {purpose}; the first if not given."
    return click.option("--original", default=None, callback=_check_name, help=help_text)


def study_option(help_text: str) -> Decorator:
    """Option --study: the name of a search."""
    return click.option("--study", default=None, callback=_check_name, help=help_text)


def combine(*options: Decorator) -> Decorator:
    """Make one decorator that adds options, in the order in which --help lists them."""

    def decorator(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorator


def _common(*options: Decorator) -> Decorator:
    """Add the shared options to a command, which gets their values as ``common``."""

    def decorator(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_common(
            *args: Any,
            presets: tuple[str, ...],
            assignments: tuple[str, ...],
            as_json: bool,
            out: Path | None = None,
            **others: Any,
        ) -> Any:
            common = Common(presets=presets, assignments=assignments, as_json=as_json, out=out)
            return command(*args, common=common, **others)

        return combine(*options)(with_common)

    return decorator


file_options = _common(preset_option, set_option, json_option)
"""For commands that read parameters and data/raw only."""
flow_options = _common(preset_option, set_option, json_option, out_option)
"""For commands that read or write the folders of the flow."""
cell_options = combine(
    request_option(),
    category_option,
    original_option("start from"),
    click.option("--method", required=True, help="Block of `unlearn` in params.yaml, such as sruga."),
    click.option("--seed", type=int, default=None, help="Training seed of the row; that of Original if not given."),
)
"""The selectors of a cell."""


def read_budget(minutes: float | None) -> "Budget | None":
    """The budget of time that --budget gives."""
    from srun.progress import Budget

    return None if minutes is None else Budget(minutes)


def split_words(text: str) -> list[str]:
    """The words of an option ``WORD,WORD,...``."""
    return [word.strip() for word in text.split(",") if word.strip()]


def split_numbers(option: str, text: str) -> list[int]:
    """The numbers of an option ``N,N,...``; UsageError for anything else."""
    try:
        return [int(word) for word in split_words(text)]
    except ValueError as error:
        raise click.UsageError(f'{option} "{text}": expected whole numbers, such as 0,1,2') from error
