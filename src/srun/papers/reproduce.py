"""The experiments of `srun reproduce`: run a preset's missing steps, then write tables of every finished cell."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from srun.flow.project import Project
from srun.flow.stages import plan, prepare_step, take
from srun.papers.ablation import tables as ablation_tables
from srun.papers.ablation.experiment import Ablation
from srun.papers.attribution import report as attribution_report
from srun.papers.attribution.category import CategoryExperiment
from srun.papers.attribution.experiment import under
from srun.papers.printed import printed_rows
from srun.papers.thesis import report as thesis_report
from srun.progress import Budget


def reproduce_thesis(flow: Project, dataset: str, budget: Budget | None = None) -> dict[str, Any]:
    """Run the missing steps of the thesis' preset; write its tables and figures of every finished cell."""
    result = take(flow, plan(flow), budget)
    if prepare_step(flow).stale():
        return result | {"written": {}, "tables": {}}
    keys = [row["key"] for row in printed_rows("thesis-table-3")]
    values = {key: reduce(getattr, key.split("."), flow.params) for key in keys}
    return result | thesis_report.write(flow.layout, flow.params.cells, dataset, values, result["left"])


def reproduce_attribution(
    flow: Project, dataset: str, protocols: Mapping[str, Project], budget: Budget | None = None
) -> dict[str, Any]:
    """Run the missing steps of the attribution paper's preset; write its tables and figures of every finished cell.

    ``protocols``: by name, the same flow with some of what the paper leaves open changed.
    """
    experiments = {request: _category_experiment(flow, request) for request in flow.params.requests}
    own = [step for experiment in experiments.values() for step in experiment.steps()]
    further = [step for name, other in protocols.items() for step in under(name, plan(other))]
    result = take(flow, [*plan(flow), *own, *further], budget)
    if prepare_step(flow).stale():
        return result | {"written": {}, "tables": {}}
    left = result["left"]
    records = {
        name: attribution_report.finished_records(other.layout, other.params.cells, left, name)
        for name, other in protocols.items()
    }
    figures = {request: experiment.figures(left) for request, experiment in experiments.items()}
    return result | attribution_report.write(flow.layout, flow.params.cells, dataset, left, figures, records)


def reproduce_ablation(
    flow: Project, parts: Sequence[str], epochs: int, budget: Budget | None = None
) -> dict[str, Any]:
    """Run the missing ablations of the thesis on the first cell's Original; write tables of every finished one."""
    params, cell = flow.params, next(iter(flow.params.cells.values()))
    ablation = Ablation(
        layout=flow.layout,
        request=cell.request,
        original=cell.original,
        settings=params.unlearn.sruga,
        seed=params.unlearn.seed,
        evaluation=params.evaluate,
        runtime=params.runtime,
    )
    names = ("prepare", f"partition {cell.request}", f"train {cell.original}")
    first = [step for step in plan(flow) if step.name in names]
    result = take(flow, [*first, *(replace(step, needs=names) for step in ablation.steps(parts, epochs))], budget)
    return result | ablation_tables.write(flow.layout.root, parts, ablation.measured(parts))


def _category_experiment(flow: Project, request: str) -> CategoryExperiment:
    params = flow.params
    return CategoryExperiment(
        layout=flow.layout,
        request=request,
        paper=params.unlearn.attribution,
        plus=params.unlearn.attribution_plus,
        seed=params.unlearn.seed,
        evaluation=params.evaluate,
        relearning=params.relearning,
        runtime=params.runtime,
    )
