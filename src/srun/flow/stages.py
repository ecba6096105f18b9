"""The stages as steps of a project: what each reads, what it leaves behind, and the order they come in.

DVC runs the same stages one by one.
"""

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from srun.config import flatten
from srun.data.dataset import Dataset
from srun.data.raw import INFO
from srun.errors import DataError
from srun.files import held, locked
from srun.flow import (
    audit,
    crossfit,
    draw,
    evaluate,
    explain,
    judge,
    neurons,
    oracle,
    partition,
    prepare,
    recipe,
    report,
    train,
    unlearn,
)
from srun.flow.cells import Cell
from srun.flow.digests import (
    audit_code,
    crossfit_code,
    draw_code,
    evaluate_code,
    plain_code,
    show_code,
    train_code,
    unlearn_code,
    write_digests,
)
from srun.flow.freshness import Output, Parts, digest, file_digests, output_digest, reasons_text
from srun.flow.loading import load_dataset
from srun.flow.params import Params
from srun.flow.project import Project
from srun.flow.steps import Step, accept_steps, take_steps
from srun.judging.audit import Audit
from srun.judging.recipe import RecipeJudgement
from srun.judging.styles import ORIGINAL, REFERENCE
from srun.models.published import INFO_FILE, WEIGHTS_FILE
from srun.progress import Budget
from srun.requests.draws import mask_file
from srun.requests.kinds import input_files
from srun.requests.partition import MASKS, Partition
from srun.system import distributed
from srun.unlearning import UNLEARNERS

log = logging.getLogger("srun")


def run(project: Project, budget: Budget | None = None) -> dict[str, Any]:
    """Every stage, in order, for every request, Original and cell of the parameters, where it is not done already.

    Returns what ``report`` does, and in ``left`` the names of the steps that are still to be done: none, unless
    ``budget`` was spent first. The same call then goes on with them.
    """
    taken = take(project, whole_plan(project), budget)
    return dict(taken) if taken["left"] else taken | report.made(project.layout)


def judge_and_report(project: Project) -> dict[str, Any]:
    """Render the judgement; it is made first where the one that is there is of other evaluations."""
    judging = judge_step(project)
    if reasons := judging.stale():
        log.info("judge: the figures of the report are computed first (%s)", reasons_text(reasons))
        judging.run()
    result: dict[str, Any] = report_step(project).run()
    return result


def take(project: Project, steps: list[Step], budget: Budget | None) -> dict[str, list[str]]:
    """Take steps, alone in this folder: of two processes that take the same ones each would do them all."""
    root = project.layout.root
    with held(root / "runs" / "flow", f"the flow in {root}"):
        return take_steps(steps, budget)


def plan(project: Project) -> list[Step]:
    """The steps to the evaluation of every cell; an Original comes just before it is needed, for a budget may end.

    Of a chain the earlier requests come first.
    """
    params = project.params
    steps = [prepare_step(project)]
    trained: set[str] = set()
    for request in params.carried_out:
        drawer = params.drawer(request)
        if drawer is not None and drawer not in trained:
            trained.add(drawer)
            steps += [*_original_steps(project, drawer), draw_step(project, drawer)]
        steps.append(partition_step(project, request))
    for name, cell in sorted(params.cells.items(), key=lambda row: len(params.earlier(row[1].request))):
        if cell.original not in trained:
            trained.add(cell.original)
            steps += _original_steps(project, cell.original)
        steps += [unlearn_step(project, cell, name), evaluate_step(project, cell, name)]
    return steps


def _original_steps(project: Project, name: str) -> list[Step]:
    """An Original, and its private table where something needs it."""
    table = [crossfit_step(project, name)] if _is_needed(project.params, name) else []
    return [train_step(project, name), *table]


def whole_plan(project: Project) -> list[Step]:
    """All steps of the flow: those of ``plan``, audits, the judgement of all of it, and its report."""
    audits = [audit_step(project, name) for name in project.params.audits]
    return [*plan(project), *audits, judge_step(project), report_step(project)]


def prepare_step(project: Project) -> Step:
    """Raw data -> the prepared data set."""
    params, layout = project.params, project.layout
    name, out = params.data.name, layout.prepared

    def work(key: str) -> dict[str, Any]:
        if layout.raw(name).is_dir() and (other := str(project.raw_info()["name"])) != name:
            raise DataError(
                f"{layout.raw(name)}: holds data set {ascii(other)[:60]}; models are registered by that name, so rename"
                " the folder back, or import the log again under the new name"
            )
        with project.tracked("prepare", name, {"prepare": vars(params.prepare)}, None) as tracker:
            return prepare.run(layout.raw(name), out, params.prepare, tracker)

    def parts() -> Parts:
        files = file_digests(layout.project, layout.raw(name) / INFO)  # which has the fingerprint of the tables
        return Parts(_flat(prepare=params.prepare), files, plain_code("prepare"))

    return _step(project, "prepare", (), work, parts, out)


def partition_step(project: Project, name: str) -> Step:
    """The prepared data -> what a request forgets and retains."""
    layout, request, before = project.layout, project.params.request(name), project.params.chain.get(name)
    out, after = layout.partition(name), None if before is None else layout.partition(before)
    drawer = project.params.drawer(name)
    draws = None if drawer is None else layout.draws(drawer)

    def work(key: str) -> dict[str, Any]:
        own = ("users", "file")  # which may hold raw ids, and stay here
        shown = {key: value for key, value in vars(request).items() if key not in own}
        with project.tracked("partition", name, {"partition": {name: shown}}, None, request=name) as tracker:
            return partition.run(layout.prepared, out, name, request, project.read_raw, after, draws, tracker)

    def parts() -> Parts:
        parameters, files = _flat(partition={name: request}), file_digests(layout.root, layout.prepared)
        for own, path in input_files(request).items():  # a name may hold a raw id, and key files are shared
            parameters[f"partition.{name}.{own}"] = digest({own: str(path)})
            files[f"named by partition.{name}.{own}"] = output_digest(path)
        if after is not None:
            parameters[f"chain.{name}"] = before
            files |= file_digests(layout.root, after / MASKS)
        if draws is not None:
            files |= file_digests(layout.root, mask_file(draws, name))
        return Parts(parameters, files, plain_code("partition"))

    needs: tuple[str, ...] = ("prepare", *([] if before is None else [f"partition {before}"]))
    needs += () if drawer is None else (f"draw {drawer}",)
    return _step(project, f"partition {name}", needs, work, parts, out)


def train_step(project: Project, name: str) -> Step:
    """The prepared data -> an Original."""
    params, layout, original = project.params, project.layout, project.params.original(name)
    settings, paths = params.model_settings(original.model), layout.original(name)

    def work(key: str) -> dict[str, float]:
        logged = {"original": vars(original), "model": {original.model: vars(settings)}, "train": vars(params.train)}
        with project.tracked("train", name, logged, paths.resume, model=original.model, method=ORIGINAL) as tracker:
            batch = params.evaluate.batch_size
            return train.run(layout, name, original, settings, params.train, batch, params.runtime, tracker, key)

    def parts() -> Parts:
        parameters = _flat(originals={name: original}, model={original.model: settings}, train=params.train)
        return Parts(parameters, file_digests(layout.root, layout.prepared), train_code(original.model))

    step = f"train {name}"
    return _step(project, step, ("prepare",), work, parts, paths.model, resume=paths.resume, purpose="training")


def _may_have_crossfit(params: Params, name: str) -> bool:
    """Whether an Original can have a table of cross-fitted models: one of several shards, for SISA, has none."""
    return params.levels.folds > 0 and params.original(name).shards == 1


def _is_needed(params: Params, name: str) -> bool:
    """Whether a cell, or a request that an Original draws, needs its table of cross-fitted models."""
    needs = any(_needs_crossfit(params, cell, name) for cell in params.cells.values())
    return (needs or bool(params.drawn_by(name))) and _may_have_crossfit(params, name)


def crossfit_step(project: Project, name: str, after: str | None = None, where_needed: bool = False) -> Step:
    """The prepared data -> the private table of an Original's cross-fitted models, where it is to have one.

    ``after``: a request that was carried out: nothing that it and those before it in its chain forgot is trained on.
    ``where_needed``: make it only where a cell or a draw of the parameters needs it.
    The output is a file that says that it was done, for nothing of the table may travel. So a table that is not here,
    as after a pull, or whose numbers were erased, is made anew only where a cell that is to be carried out needs it.
    """
    params, layout, original = project.params, project.layout, project.params.original(name)
    settings, paths, levels = params.model_settings(original.model), layout.crossfit(name), params.levels

    def work(key: str) -> dict[str, float]:
        data, logged = load_dataset(layout), {"levels": vars(levels)}
        carried_out = None if after is None else _carried_out(project, after, data)
        described = train.description(original, settings, data)
        with project.tracked("levels", name, logged, paths.resume, model=original.model, method=ORIGINAL) as tracker:
            if where_needed and not _is_needed(params, name):
                log.info("levels %s: nothing needs a table", name)
                return crossfit.run_nothing(layout, name, tracker).exact()
            if not _may_have_crossfit(params, name):
                log.info("levels %s: it has no table, for it has shards or levels.folds is 0", name)
                return crossfit.run_nothing(layout, name, tracker).exact()
            cost = crossfit.run(
                layout,
                name,
                original.seed,
                described,
                data,
                carried_out,
                params.train,
                levels,
                params.evaluate.batch_size,
                params.runtime,
                tracker,
                key,
            )
        log.info("levels %s: the private table took %.1f s of the processor", name, cost.processor_seconds)
        return cost.exact() | cost.measured()

    def parts() -> Parts:
        parameters = _flat(
            originals={name: original}, model={original.model: settings}, train=params.train, levels=levels
        )
        return Parts(parameters, file_digests(layout.root, layout.prepared), crossfit_code(original.model))

    done = layout.levels(name)
    return _step(
        project,
        f"levels {name}",
        ("prepare",),
        work,
        parts,
        done,
        key_of=done.with_suffix(""),
        resume=paths.resume,
        purpose="making the table beside",
        wanted=lambda: _missed_of_crossfit(project, name),
    )


def _missed_of_crossfit(project: Project, name: str) -> list[str]:
    """What cells and draws that are to be made miss of the private table of an Original, a text for each reason."""
    params, folder = project.params, project.layout.crossfit(name).model
    cells = [(row, cell) for row, cell in params.cells.items() if _needs_crossfit(params, cell, name)]
    stale = {cell.request for row, cell in cells if unlearn_step(project, cell, row).stale()}
    draws = bool(params.drawn_by(name)) and bool(draw_step(project, name).stale())
    if not (stale or draws):
        return []
    if not folder.is_dir():
        return [f"{folder} is not here"]
    gone = crossfit.erased(project.layout, name)
    erased = sorted(gone if draws else stale & set(gone))  # a draw is of all events
    return [f"the numbers of {', '.join(erased)} were erased from it"] if erased else []


def _needs_crossfit(params: Params, cell: Cell, original: str) -> bool:
    """Whether a cell starts from an Original and needs its private table."""
    return cell.original == original and UNLEARNERS[cell.method](params.method_settings(cell.method)).needs_crossfit


def draw_step(project: Project, name: str) -> Step:
    """An Original and its private table -> the events of every request of the flow that it draws."""
    params, layout = project.params, project.layout
    requests, source = params.drawn_by(name), layout.original(name).model
    rules = {request: block.rule for request, block in requests.items()}

    def work(key: str) -> dict[str, Any]:
        if requests:
            crossfit_where_missing(project, name)
        model = params.original(name).model
        with project.tracked("draw", name, {"partition": rules}, None, model=model, method=ORIGINAL) as tracker:
            return draw.run(layout, name, requests, params.runtime, tracker)

    def parts() -> Parts:
        models = (source / INFO_FILE, source / WEIGHTS_FILE) if requests else ()
        parameters = _flat(partition=rules) | (_flat(levels=params.levels) if requests else {})
        return Parts(parameters, file_digests(layout.root, layout.prepared, *models), draw_code(params, name))

    return _step(project, f"draw {name}", (f"train {name}", f"levels {name}"), work, parts, layout.draws(name))


def erase_from_crossfit(project: Project, name: str, request: str) -> dict[str, Any]:
    """Take what a request, and those before it in its chain, forgot out of the private table of an Original.

    Returns the numbers that went. They come back only where the table is made anew.
    """
    data = load_dataset(project.layout)
    carried_out = _carried_out(project, request, data)
    number = crossfit.erase(project.layout, name, data, carried_out)
    log.info("levels %s: %d numbers of %s erased", name, number, ", ".join(carried_out.chain))
    return {"original": name, "requests": carried_out.chain, "erased": number}


def _carried_out(project: Project, request: str, data: Dataset) -> Partition:
    check_partition(project, request)
    return Partition.load(project.layout.partition(request), data)


def unlearn_step(project: Project, cell: Cell, name: str = "", start: Cell | None = None) -> Step:
    """A request carried out by a cell's method on its Original; ``name``: of the cell in the parameters.

    ``start``: a cell whose model it goes on from, where that is not the one that its chain gives.
    """
    params, layout = project.params, project.layout
    settings, paths, seed = params.method_settings(cell.method), layout.cell(cell), params.unlearn.seed
    start, needs_crossfit = start or params.start(cell), _needs_crossfit(params, cell, cell.original)

    def work(key: str) -> dict[str, float]:
        check_partition(project, cell.request)
        if needs_crossfit:
            crossfit_where_missing(project, cell.original)
        if needs_crossfit and cell.request in params.chain:
            erase_from_crossfit(project, cell.original, params.chain[cell.request])
        logged = {"cell": vars(cell), "unlearn": {cell.method: asdict(settings), "seed": seed}}
        with project.tracked("unlearn", project.title(cell), logged, paths.resume, **project.tags(cell)) as tracker:
            batch = params.evaluate.batch_size
            cost = unlearn.run(layout, cell, start, settings, seed, batch, params.runtime, tracker, key)
        return cost.exact() | cost.measured()

    def parts() -> Parts:
        sources = [layout.original(cell.original), *([] if start is None else [layout.cell(start)])]
        models = [source.model / file for source in sources for file in (INFO_FILE, WEIGHTS_FILE)]
        parameters = _flat(unlearn={cell.method: settings, "seed": seed}, cell=cell)
        parameters |= _flat(levels=params.levels) if needs_crossfit else {}
        files = file_digests(layout.root, layout.prepared, *_partition_files(project, cell), *models)
        return Parts(parameters, files, unlearn_code(params, cell))

    needs: tuple[str, ...] = f"partition {cell.request}", f"train {cell.original}"
    needs += (f"levels {cell.original}",) if needs_crossfit else ()
    rows = {one: row for row, one in params.cells.items()}
    needs += (f"unlearn {rows.get(start) or project.title(start)}",) if start is not None else ()
    step = f"unlearn {name or project.title(cell)}"
    return _step(project, step, needs, work, parts, paths.model, resume=paths.resume, purpose="unlearning into")


def evaluate_step(project: Project, cell: Cell, name: str = "") -> Step:
    """A cell's model ranked on every split of its request; ``name``: of the cell in the parameters."""
    params, layout, paths = project.params, project.layout, project.layout.cell(cell)

    def work(key: str) -> dict[str, dict[str, float]]:
        check_partition(project, cell.request)
        logged = {"cell": vars(cell), "evaluate": vars(params.evaluate), "relearning": vars(params.relearning)}
        with project.tracked("evaluate", project.title(cell), logged, None, **project.tags(cell)) as tracker:
            return evaluate.run(layout, cell, params.evaluate, params.relearning, params.runtime, tracker)

    def parts() -> Parts:
        inputs = (
            layout.prepared,
            *_partition_files(project, cell),
            paths.model / INFO_FILE,
            paths.model / WEIGHTS_FILE,
        )
        parameters = _flat(evaluate=params.evaluate, relearning=params.relearning, cell=cell)
        del parameters["evaluate.batch_size"]  # which moves the last bits only
        return Parts(parameters, file_digests(layout.root, *inputs), evaluate_code(params, cell))

    title = name or project.title(cell)
    outputs = paths.evaluation, paths.metrics
    return _step(project, f"evaluate {title}", (f"unlearn {title}",), work, parts, *outputs)


def judge_step(project: Project) -> Step:
    """Evaluations -> every figure of a table or verdict."""
    params, layout = project.params, project.layout

    def work(key: str) -> dict[str, Any]:
        with project.tracked("judge", params.data.name, {}, None) as tracker:
            judge.run(layout, params.cells, tracker, project.options, params.audits)
        return {"written": {path.name: str(path) for path in layout.judged}}

    def parts() -> Parts:
        rows = [layout.cell(cell) for cell in params.cells.values()]
        models = rows + [layout.original(name) for name in dict.fromkeys(c.original for c in params.cells.values())]
        inputs = [row.evaluation for row in rows] + [path for row in models for path in (row.model, row.run)]
        inputs += [layout.audit(name) for name in params.audits]
        parameters = {
            f"cells.{name}.{key}": value for name, cell in params.cells.items() for key, value in vars(cell).items()
        }
        parameters["options"] = list(project.options)  # which the commands have that are shown
        parameters["audits"] = list(params.audits)
        return Parts(parameters, file_digests(layout.root, *inputs), show_code("judge", params))

    needs = (*(f"evaluate {name}" for name in params.cells), *(f"audit {name}" for name in params.audits))
    return _step(project, "judge", needs, work, parts, *layout.judged, key_of=layout.judgement.with_suffix(""))


def report_step(project: Project) -> Step:
    """The judgement -> tables, pictures and the page."""
    layout = project.layout

    def work(key: str) -> dict[str, Any]:
        with project.tracked("report", project.params.data.name, {}, None) as tracker:
            return report.run(layout, tracker)

    def parts() -> Parts:
        return Parts({}, file_digests(layout.root, layout.judgement), show_code("report", project.params))

    return _step(project, "report", ("judge",), work, parts, *layout.rendered, key_of=layout.reports)


def partition_where_missing(project: Project, name: str) -> None:
    """Make the partition of a request where it is not up to date; one process does, and the others wait."""
    if not distributed.rank():
        with locked(project.layout.partition(name), "making"):
            step = partition_step(project, name)
            if step.stale():
                step.run()
    distributed.wait()


def crossfit_where_missing(project: Project, name: str) -> None:
    """Make the private table of an Original where it is not here, as after a pull; one process does, others wait."""
    folder = project.layout.crossfit(name).model
    if not distributed.rank() and _may_have_crossfit(project.params, name):
        with locked(folder, "making"):
            if not folder.is_dir():
                log.info("levels %s: its private table is not here and is made first, for about one training", name)
                crossfit_step(project, name).run()
    distributed.wait()


def check_partition(project: Project, name: str) -> None:
    """Raise DataError where the partition that is there is of another request than the parameters have."""
    partition.check(project.layout.partition(name), name, project.params.request(name), project.params.chain.get(name))


def accept(project: Project, names: Sequence[str]) -> dict[str, Any]:
    """Take outputs that are there for what their steps would make now (see ``accept_steps``).

    Returns in ``accepted`` why each was stale, and in ``dvc`` the command that says the same to DVC, where the project
    has a dvc.yaml and its outputs lie beside it; else "".
    """
    layout = project.layout
    with held(layout.root / "runs" / "flow", f"the flow in {layout.root}"):
        accepted = accept_steps(whole_plan(project), names)
    command = ""
    if accepted and layout.root == layout.project and (layout.project / "dvc.lock").is_file():
        write_digests(layout, project.params)
        command = shlex.join(["dvc", "commit", "-f", "digests", *(name.replace(" ", "@") for name in accepted)])
    return {"accepted": accepted, "dvc": command}


def audited_cell(project: Project, name: str | Path) -> str:
    """The cell that is meant: by its name in the parameters, or by the folder of its model."""
    cells = project.params.cells
    return str(name) if str(name) in cells else audit.cell_of(Path(name), project.layout, cells)


def audit_model(project: Project, name: str, budget: Budget | None = None, with_relearning: bool = False) -> Audit:
    """Audit a cell's published model beside the cells of its model and request (see ``audit.run``).

    Relearning, which trains, is part of it where it is asked for, or where it is measured for requests of this kind.
    """
    params, layout, cell = project.params, project.layout, project.params.cells[name]
    relearning = params.relearning if with_relearning or _relearns(params, cell) else None
    check_partition(project, cell.request)
    logged = {"cell": vars(cell), "evaluate": vars(params.evaluate)}
    tags = project.tags(cell) | audit.model_run(layout.cell(cell))
    with project.tracked("audit", project.title(cell), logged, None, **tags) as tracker:
        return audit.run(
            layout,
            name,
            _alike(params, cell),
            params.evaluate,
            params.runtime,
            tracker,
            relearning=relearning,
            budget=budget,
            options=project.options,
            oracle=_oracle_beside(project, cell),
        )


def _oracle_beside(project: Project, cell: Cell) -> oracle.Oracle | None:
    """The oracle of a cell's data, recipe and request, less members of its seeds; None where there is none."""
    params, original = project.params, project.params.original(cell.original)
    settings = params.model_settings(original.model)
    place = oracle.locate(project.layout, original.model, settings, params.train, cell.request)
    evaluated = oracle.described(params.evaluate, params.relearning, params.request(cell.request).kind)
    references = oracle.load_oracle(place, cell.request, evaluated)
    return None if references is None else references.without({cell.seed, original.seed})


def audit_step(project: Project, name: str) -> Step:
    """The evaluations and models of a cell, its Originals and its Retrains -> what an audit of it says."""
    params, layout, cell = project.params, project.layout, project.params.cells[name]
    alike = _alike(params, cell)

    def work(key: str) -> Audit:
        return audit_model(project, name)

    def parts() -> Parts:
        rows = [layout.cell(one) for one in alike.values()]
        folders = [row.model for row in rows] + [layout.original(one.original).model for one in alike.values()]
        models = [folder / file for folder in dict.fromkeys(folders) for file in (INFO_FILE, WEIGHTS_FILE)]
        inputs = (layout.prepared, *_partition_files(project, cell), *models, *(row.evaluation for row in rows))
        parameters = _flat(evaluate=params.evaluate, cells={key: vars(one) for key, one in alike.items()})
        parameters |= _flat(relearning=params.relearning) if _relearns(params, cell) else {}
        del parameters["evaluate.batch_size"]  # which moves the last bits only
        parameters["options"] = list(project.options)  # which the commands have that are shown
        references = _oracle_beside(project, cell)
        parameters["oracle"] = None if references is None else [member.name for member in references.members]
        return Parts(parameters, file_digests(layout.root, *inputs), audit_code(params, cell))

    needs = tuple(f"evaluate {other}" for other in alike)
    key_of = layout.audit(name).with_suffix("")
    return _step(project, f"audit {name}", needs, work, parts, *layout.audit_files(name), key_of=key_of)


def _alike(params: Params, cell: Cell) -> dict[str, Cell]:
    """A cell and those it is held against: the Originals and the Retrains of its request and its model."""
    model = params.original(cell.original).model
    return {
        name: other
        for name, other in params.cells.items()
        if other == cell
        or (
            other.method in (ORIGINAL, REFERENCE)
            and other.request == cell.request
            and params.original(other.original).model == model
        )
    }


def _relearns(params: Params, cell: Cell) -> bool:
    return params.request(cell.request).kind in params.relearning.kinds


def audit_recipes(project: Project) -> list[RecipeJudgement]:
    """Judge the methods of a project's cells by their runs from many Originals (see ``recipe.run``)."""
    return recipe.run(project.layout, project.params.cells, project.options)


def explain_user(project: Project, user: str, request: str) -> dict[str, Any]:
    """A user's story under every model of a request (see ``explain.run``)."""
    check_partition(project, request)
    cells = project.params.cells
    if request not in {cell.request for cell in cells.values()}:
        cells = project.params.with_request(request).cells
    return explain.run(project.layout, user, request, cells)


def show_neurons(project: Project, request: str, original: str) -> dict[str, Any]:
    """What attribution sees of a category request: neurons, overlap with other categories, dose and response."""
    params = project.params
    return neurons.run(
        project.layout,
        request,
        original,
        params.request(request),
        params.unlearn.attribution,
        params.neurons,
        params.unlearn.seed,
        params.evaluate,
        params.runtime,
    )


def _step(
    project: Project,
    name: str,
    needs: tuple[str, ...],
    work: Callable[[str], Any],
    parts: Callable[[], Parts],
    *outputs: Path,
    key_of: Path | None = None,
    resume: Path | None = None,
    purpose: str = "",
    wanted: Callable[[], list[str]] = list,
) -> Step:
    output = Output(outputs, project.layout.key_file(key_of or outputs[0]))
    return Step(name, needs, work, parts, output, resume, f"{purpose} {outputs[0]}", wanted)


def _partition_files(project: Project, cell: Cell) -> tuple[Path, Path]:
    """What is read of a partition; its rows and its record are for people."""
    folder = project.layout.partition(cell.request)
    return folder / MASKS, folder / "info.json"


def _flat(**sections: Any) -> dict[str, Any]:
    """Values of parameters by dotted key."""
    return flatten({name: _plain(section) for name, section in sections.items()})


def _plain(section: Any) -> Any:
    if isinstance(section, Mapping):
        return {name: _plain(value) for name, value in section.items()}
    return asdict(section) if hasattr(section, "__dataclass_fields__") else section
