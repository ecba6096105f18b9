"""The experiments of `srun reproduce`: run the missing steps of a preset, then write tables of every finished cell."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from srun.flow.project import Project
from srun.flow.stages import plan, prepare_step, take
from srun.papers import attribution, thesis
from srun.papers.ablation import Ablation
from srun.papers.printed import printed_rows
from srun.progress import Budget


def reproduce_thesis(flow: Project, dataset: str, budget: Budget | None = None) -> dict[str, Any]:
    """Run the missing steps of the thesis' preset; write its tables and figures of every finished cell."""
    result = take(flow, plan(flow), budget)
    if prepare_step(flow).stale():
        return result | {"written": {}, "tables": {}}
    keys = [row["key"] for row in printed_rows("thesis-table-3")]
    values = {key: reduce(getattr, key.split("."), flow.params) for key in keys}
    return result | thesis.write(flow.layout, flow.params.cells, dataset, values, result["left"])


def reproduce_attribution(
    flow: Project, dataset: str, protocols: Mapping[str, Project], budget: Budget | None = None
) -> dict[str, Any]:
    """Run the missing steps of the attribution paper's preset; write its tables and figures of every finished cell.

    ``protocols``: by name, the same flow with some of what the paper leaves open changed.
    """
    params = flow.params
    requests, cells = params.requests, params.cells
    studies = {
        name: attribution.Study(
            layout=flow.layout,
            request=name,
            paper=params.unlearn.attribution,
            plus=params.unlearn.attribution_plus,
            seed=params.unlearn.seed,
            evaluation=params.evaluate,
            relearning=params.relearning,
            runtime=params.runtime,
        )
        for name in requests
    }
    further = [step for name, other in protocols.items() for step in attribution.under(name, plan(other))]
    own = [step for study in studies.values() for step in study.steps()]
    result = take(flow, [*plan(flow), *own, *further], budget)
    if prepare_step(flow).stale():
        return result | {"written": {}, "tables": {}}
    left = result["left"]
    done = {
        name: attribution.records_done(other.layout, other.params.cells, left, name)
        for name, other in protocols.items()
    }
    figures = {name: study.found(left) for name, study in studies.items()}
    return result | attribution.write(flow.layout, cells, dataset, requests, left, figures, done)


def reproduce_ablation(
    flow: Project, parts: Sequence[str], epochs: int, budget: Budget | None = None
) -> dict[str, Any]:
    """Run the missing ablations of the thesis on the first cell's Original; write tables of every finished one."""
    params, cell = flow.params, next(iter(flow.params.cells.values()))
    settings = params.unlearn.sruga, params.unlearn.seed, params.evaluate, params.runtime
    ablation = Ablation(flow.layout, cell.request, cell.original, *settings)
    names = ("prepare", f"partition {cell.request}", f"train {cell.original}")
    first = [step for step in plan(flow) if step.name in names]
    result = take(flow, [*first, *(replace(step, needs=names) for step in ablation.steps(parts, epochs))], budget)
    return result | ablation.write(parts)
