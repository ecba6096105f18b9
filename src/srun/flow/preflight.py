"""Checks before any work begins: every fault that would stop a flow, a training, a cell or a search, all at once.

A method's own class says what it cannot start from (``Unlearner.faults``). A row without its Retrain is no fault: the
report says that it is not judged.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from srun.data.raw import read_categories, read_info
from srun.data.sources import SOURCES
from srun.errors import Faults
from srun.flow.cells import Cell
from srun.flow.layout import Layout
from srun.flow.params import Params, drawer_faults
from srun.models import MODELS
from srun.registry import suggest
from srun.requests.kinds import CategoryRequest, GivenRequest, input_files
from srun.requests.request_file import read_request
from srun.search.bench import with_overrides
from srun.search.space import Choice
from srun.system import distributed
from srun.system.devices import resolve
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Start


def check_flow(plans: Iterable[tuple[Params, Layout]]) -> None:
    """Raise ConfigError with whatever would end a whole flow on its way, from raw data to the report, of each plan."""
    faults = Faults()
    for params, layout in plans:
        faults += [*_machine(params), *_data(params, layout), *_draws(params)]
        for name, cell in params.cells.items():
            faults += [f"cells.{name}: {fault}" for fault in [*cell_faults(params, cell), *_start(params, cell)]]
    faults.tell()


def check_training(params: Params, name: str) -> None:
    """Raise ConfigError for an Original that cannot be trained, or from which some row of ``cells`` cannot start."""
    model = params.original(name).model
    params.model_settings(model)
    faults = Faults(_machine(params))
    for row, cell in params.cells.items():
        if cell.original == name:
            faults += [f"cells.{row}: {fault}" for fault in cell_faults(params, cell)]
    faults.tell()


def check_cell(params: Params, cell: Cell) -> None:
    """Raise ConfigError for a row that names nothing that is there, or whose method is not for such a request."""
    params.original(cell.original)
    params.method_settings(cell.method)
    kinds, kind = UNLEARNERS[cell.method].kinds, params.request(cell.request).kind
    faults = Faults(_machine(params))
    if kind not in kinds:
        faults.append(f'{cell.method} is not defined for requests of kind "{kind}"; expected {", ".join(kinds)}')
    faults += drawer_faults(params, cell)
    faults.tell()


def check_search(params: Params, cell: Cell) -> None:
    """Raise ConfigError for a search that could not begin, or whose trials would try what a method refuses."""
    check_cell(params, cell)
    faults, settings = Faults(), params.optimize
    with faults.collect():
        settings.texts(params.request(cell.request).kind)
    domains = settings.space.get(cell.method, {})
    if not domains:
        faults.append(f"nothing to search: optimize.space has no keys for unlearn.{cell.method}")
    for key, domain in domains.items():
        tried, dotted = Faults(), f"unlearn.{cell.method}.{key}"
        for value in domain.of if isinstance(domain, Choice) else (domain.low, domain.high):
            with tried.collect():
                with_overrides(cell.method, params.method_settings(cell.method), {dotted: value})
        # what only some values of other keys rule out is a trial's own affair
        own = [fault.replace(f'"{dotted}"', f'"optimize.space.{cell.method}.{key}"') for fault in tried]
        faults += [fault for fault, told in zip(own, tried, strict=True) if fault != told]
    faults.tell()


def cell_faults(params: Params, cell: Cell) -> Iterator[str]:
    """Why the method of a row cannot carry out its request from its Original."""
    original = params.original(cell.original)
    shards = original.shards if isinstance(original.shards, int) else original.shards.number
    start = Start(params.request(cell.request).kind, MODELS[original.model], params.train, shards)
    method = UNLEARNERS[cell.method](params.method_settings(cell.method))
    yield from method.faults(start)
    yield from drawer_faults(params, cell)
    if cell.request in params.chain and not method.chains:
        yield f'{cell.method} cannot go on from another request, and "{cell.request}" comes after one (chain)'
    if method.predicts_levels and params.prepare.calibration_events == 0:
        yield (
            f"{cell.method} learns levels from events set aside, and prepare.calibration_events is 0: set it above, "
            "or to null for a share by the size of the data"
        )
    if method.needs_crossfit and not params.levels.folds:
        yield (
            f"{cell.method} predicts levels from cross-fitted models, and levels.folds is 0: set it to 2, or "
            f"unlearn.{cell.method}.level_from to retained"
        )


def _draws(params: Params) -> Iterator[str]:
    """What an Original that draws events needs beside its training."""
    for name in params.carried_out:
        if params.drawer(name) is None:
            continue
        if params.prepare.calibration_events == 0:
            yield (
                f"partition.{name}: expected memory is learned from events set aside, and prepare.calibration_events is"
                " 0: set it above, or to null for a share by the size of the data"
            )
        if not params.levels.folds:
            yield f"partition.{name}: expected memory needs cross-fitted models, and levels.folds is 0: set it to 2"


def _start(params: Params, cell: Cell) -> Iterator[str]:
    """The cell that one goes on from, where the flow does not carry it out."""
    start = params.start(cell)
    if start is not None and start not in params.cells.values():
        yield (
            f'it goes on from request "{start.request}" on {start.original} by {start.method} with seed {start.seed}, '
            "which is no cell; add that one too"
        )


def _machine(params: Params) -> Iterator[str]:
    faults = Faults()
    with faults.collect():
        resolve(params.runtime.device)
    yield from faults
    if params.train.lazy_adam and distributed.size() > 1:
        yield "train.lazy_adam is for one process; set it to false, or leave torchrun"


def _data(params: Params, layout: Layout) -> Iterator[str]:
    """Faults of the raw data set and of what requests and Originals expect of it."""
    name = params.data.name
    folder = layout.raw(name)
    if not folder.is_dir():
        known = f"`srun data fetch {name}`" if name in SOURCES else f"`srun data import FILE --name {name}`"
        others = sorted(path.parent.name for path in folder.parent.glob("*/dataset.json"))
        there = f"; there are {', '.join(others)}" if others else ""
        yield f'parameter "data.name": no data set {name} in {folder.parent}; get it by {known}{there}'
        return
    faults = Faults()
    with faults.collect():
        info = read_info(folder)
        faults += _shards(params, int(info["num_users"]))
        faults += _categories(params, folder)
        faults += _request_files(params, info.get("columns"))
    yield from faults


def _shards(params: Params, num_users: int) -> Iterator[str]:
    used = {cell.original for cell in params.cells.values()}
    for name, original in params.originals.items():
        shards = original.shards if isinstance(original.shards, int) else original.shards.number
        if name in used and shards > num_users:
            yield f'parameter "originals.{name}.shards": {shards} shards, but {params.data.name} has {num_users} users'


def _categories(params: Params, folder: Path) -> Iterator[str]:
    """Categories that requests of the flow name and no item has; the item table is read for them only."""
    blocks = {name: params.partition[name] for name in params.requests}
    requests = {name: request for name, request in blocks.items() if isinstance(request, CategoryRequest)}
    known = sorted(read_categories(folder)) if requests else []
    for name, request in requests.items():
        for category in request.categories if known else ():
            if category not in known:
                near = suggest(category, known)
                yield f'parameter "partition.{name}.categories": no item of {params.data.name} has "{category}"{near}'
        if not known:
            yield f"partition.{name}: {params.data.name} has no item categories; import it with an item table"


def _request_files(params: Params, recorded: Mapping[str, str] | None) -> Iterator[str]:
    """Faults of the files that requests of the flow name, which are read as `srun partition` does."""
    faults = Faults()
    for name in params.requests:
        request = params.partition[name]
        form, columns = (request.format, request.columns) if isinstance(request, GivenRequest) else (None, None)
        for file in input_files(request).values():
            if not file.is_file():
                faults.append(f"partition.{name}: no file {file}, seen from {Path.cwd()}")
                continue
            with faults.collect():
                read_request(file, form=form, columns=columns, recorded=recorded)
    yield from faults
