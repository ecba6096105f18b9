"""Turns the options of a command into a project, an Original, a request or a cell; nothing else in ``cli`` does.

A function that changes parameters returns another project, which has the changed ones.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srun.errors import ConfigError

if TYPE_CHECKING:
    from srun.flow.cells import Cell
    from srun.flow.project import Project


def open_project(presets: Sequence[str], assignments: Sequence[str], out: Path | None = None) -> "Project":
    """The project of the working folder with presets and assignments laid over params.yaml; see ``Project.open``."""
    from srun.flow.project import Project

    return Project.open(presets, assignments, out)


def check_flow(*projects: "Project") -> None:
    """Check the whole plan of projects before anything starts; raises ConfigError."""
    from srun.flow import preflight

    preflight.check_flow((project.params, project.layout) for project in projects)


def choose_original(project: "Project", name: str | None) -> str:
    """The Original of a name, or the first; ConfigError where there is none."""
    if name is None and not project.params.originals:
        raise ConfigError("params.yaml has no originals, so there is nothing to train or to start from")
    return name or next(iter(project.params.originals))


def choose_request_name(project: "Project", request: str | None) -> str:
    """The request of a name, or the first of the flow; ConfigError where there is none."""
    if request is None and not project.params.requests:
        raise ConfigError("`requests` of the parameters is empty, so there is none to take; name one with --request")
    return request or project.params.requests[0]


def name_request(project: "Project", request: str | None, category: str | None) -> "tuple[Project, str]":
    """The name of the selected request, which may be that of a category, and the project that knows it."""
    if category is None:
        return project, choose_request_name(project, request)
    if request is not None:
        raise click.UsageError("--category and --request exclude each other")
    return project.with_category(category)


def choose_request(project: "Project", request: str | None, category: str | None) -> "tuple[Project, str]":
    """As ``name_request``; the request of a category is partitioned where it is not yet."""
    project, name = name_request(project, request, category)
    if category is not None:
        from srun.flow.stages import partition_where_missing

        partition_where_missing(project, name)
    return project, name


def choose_cell(
    project: "Project", request: str | None, category: str | None, original: str | None, method: str, seed: int | None
) -> "tuple[Project, Cell]":
    """The row of the comparison that the selectors of a command name."""
    from srun.flow.cells import Cell

    project, request = choose_request(project, request, category)
    original = choose_original(project, original)
    if seed is None:
        seed = project.params.original(original).seed
    return project, Cell(request=request, original=original, method=method, seed=seed)


def choose_searched(
    project: "Project",
    objective: Sequence[str] = (),
    method: str | None = None,
    original: str | None = None,
    category: str | None = None,
    request: str | None = None,
    **limits: Any,
) -> "tuple[Project, Cell]":
    """The row whose settings are searched; options of the command go over the section `optimize`."""
    changes = {key: value for key, value in limits.items() if value is not None}
    changes |= {"objective": tuple(objective)} if objective else {}
    project = project.with_search(**changes)
    method = method or project.params.optimize.method
    return choose_cell(project, request, category, original, method, seed=None)
