"""What the options of a command select: the pipeline, an Original, a request, a cell. No other module here builds one.

The functions that change parameters return a pipeline with the changed ones.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srun.errors import ConfigError

if TYPE_CHECKING:
    from srun.flow.cells import Cell
    from srun.flow.params import Params
    from srun.flow.pipeline import Pipeline

DEFAULT_REQUEST = "interactions"


def open_pipeline(presets: Sequence[str], assignments: Sequence[str], out: Path | None = None) -> "Pipeline":
    """The pipeline of params.yaml with presets and assignments laid over it; its outputs lie in ``out``, or here."""
    from srun.flow.layout import Layout
    from srun.flow.params import load
    from srun.flow.partition import known_blocks
    from srun.flow.pipeline import Pipeline

    root = (out or Path.cwd()).resolve()
    blocks = known_blocks(Layout(Path.cwd(), root).partitions)
    params = load(Path("params.yaml"), [Path(preset) for preset in presets], assignments, blocks)
    return Pipeline(params, Path.cwd(), root, option_words(presets, assignments, out))


def option_words(presets: Sequence[str], assignments: Sequence[str], out: Path | None) -> list[str]:
    """The words of a command line that give these options."""
    words = [word for preset in presets for word in ("--params", preset)]
    words += [word for assignment in assignments for word in ("--set", assignment)]
    return words + ([] if out is None else ["--out", str(out)])


def check_flow(*pipelines: "Pipeline") -> None:
    """Check the whole plan of pipelines before anything starts; raises ConfigError."""
    from srun.flow import plan

    plan.check_flow((pipeline.params, pipeline.layout) for pipeline in pipelines)


def choose_original(pipeline: "Pipeline", name: str | None) -> str:
    """The Original of a name, or the first; ConfigError where there is none."""
    if name is None and not pipeline.params.originals:
        raise ConfigError("params.yaml has no originals, so there is nothing to train or to start from")
    return name or next(iter(pipeline.params.originals))


def name_request(pipeline: "Pipeline", request: str | None, category: str | None) -> "tuple[Pipeline, str]":
    """The name of the selected request, which may be that of a category, and the pipeline that knows it."""
    if category is None:
        return pipeline, request or DEFAULT_REQUEST
    if request is not None:
        raise click.UsageError("--category and --request exclude each other")
    name, params = pipeline.params.with_category(category)
    return _with_params(pipeline, params), name


def choose_request(pipeline: "Pipeline", request: str | None, category: str | None) -> "tuple[Pipeline, str]":
    """As ``name_request``; the request of a category is partitioned where it is not yet."""
    pipeline, name = name_request(pipeline, request, category)
    if category is not None:
        pipeline.category(category)
    return pipeline, name


def choose_cell(
    pipeline: "Pipeline", request: str | None, category: str | None, original: str | None, method: str, seed: int | None
) -> "tuple[Pipeline, Cell]":
    """The row of the comparison that the selectors of a command name."""
    from srun.flow.cells import Cell

    pipeline, request = choose_request(pipeline, request, category)
    original = choose_original(pipeline, original)
    if seed is None:
        seed = pipeline.params.original(original).seed
    return pipeline, Cell(request=request, original=original, method=method, seed=seed)


def choose_searched(
    pipeline: "Pipeline",
    objective: Sequence[str] = (),
    method: str | None = None,
    original: str | None = None,
    category: str | None = None,
    request: str | None = None,
    **limits: Any,
) -> "tuple[Pipeline, Cell]":
    """The row whose settings are searched; options of the command go over the section `optimize`."""
    changes = {key: value for key, value in limits.items() if value is not None}
    changes |= {"objective": tuple(objective)} if objective else {}
    pipeline = _with_params(pipeline, pipeline.params.with_search(**changes))
    method = method or pipeline.params.optimize.method
    return choose_cell(pipeline, request, category, original, method, seed=None)


def _with_params(pipeline: "Pipeline", params: "Params") -> "Pipeline":
    from srun.flow.pipeline import Pipeline

    return Pipeline(params, pipeline.layout.project, pipeline.layout, pipeline.options)
