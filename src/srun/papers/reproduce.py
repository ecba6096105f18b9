"""The experiments of `srun reproduce`: run the missing steps of a preset, then write tables of every finished cell."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from srun.flow.pipeline import Pipeline
from srun.papers import attribution, thesis
from srun.papers.ablation import Ablation
from srun.papers.printed import printed_rows
from srun.progress import Budget


def reproduce_thesis(flow: Pipeline, dataset: str, budget: Budget | None = None) -> dict[str, Any]:
    """Run the missing steps of the thesis' preset; write its tables and figures of every finished cell."""
    result = flow.take(flow.steps(), budget)
    if not flow.is_prepared():
        return result | {"written": {}, "tables": {}}
    keys = [row["key"] for row in printed_rows("thesis-table-3")]
    values = {key: reduce(getattr, key.split("."), flow.params) for key in keys}
    return result | thesis.write(flow.layout, flow.params.cells, dataset, values, result["left"])


def reproduce_attribution(
    flow: Pipeline, dataset: str, protocols: Mapping[str, Pipeline], budget: Budget | None = None
) -> dict[str, Any]:
    """Run the missing steps of the attribution paper's preset; write its tables and figures of every finished cell.

    ``protocols``: by name, the same flow with some of what the paper leaves open changed.
    """
    params = flow.params
    requests, cells = params.requests, params.cells
    paper, plus = (params.method_settings(name) for name in ("attribution", "attribution_plus"))
    settings = paper, plus, params.unlearn.seed, params.evaluate, params.relearning, params.runtime
    studies = {name: attribution.Study(flow.layout, name, *settings) for name in requests}
    further = [step for name, other in protocols.items() for step in attribution.under(name, other.steps())]
    own = [step for study in studies.values() for step in study.steps()]
    result = flow.take([*flow.steps(), *own, *further], budget)
    if not flow.is_prepared():
        return result | {"written": {}, "tables": {}}
    left = result["left"]
    done = {
        name: attribution.records_done(other.layout, other.params.cells, left, name)
        for name, other in protocols.items()
    }
    figures = {name: study.found(left) for name, study in studies.items()}
    return result | attribution.write(flow.layout, cells, dataset, requests, left, figures, done)


def reproduce_ablation(
    flow: Pipeline, parts: Sequence[str], epochs: int, budget: Budget | None = None
) -> dict[str, Any]:
    """Run the missing ablations of the thesis on the first cell's Original; write tables of every finished one."""
    params, cell = flow.params, next(iter(flow.params.cells.values()))
    settings = params.unlearn.sruga, params.unlearn.seed, params.evaluate, params.runtime
    ablation = Ablation(flow.layout, cell.request, cell.original, *settings)
    names = ("prepare", f"partition {cell.request}", f"train {cell.original}")
    first = [step for step in flow.steps() if step.name in names]
    result = flow.take([*first, *(replace(step, needs=names) for step in ablation.steps(parts, epochs))], budget)
    return result | ablation.write(parts)
