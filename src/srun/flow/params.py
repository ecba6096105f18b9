"""The root of params.yaml: every section's dataclass, and how a file, presets and overrides become one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srun.config import Section, build, config, flatten, merge, override, parse_assignment, read_yaml, section
from srun.data.dataset import PrepareConfig
from srun.errors import ConfigError, Faults
from srun.evaluation.evaluate import EvaluateConfig
from srun.evaluation.relearning import RelearningConfig
from srun.flow.cells import Cell, OriginalCell
from srun.flow.neurons import NeuronsConfig
from srun.flow.renamed import renamed_faults
from srun.judging.records import KINDS
from srun.models import MODELS
from srun.names import name_fault
from srun.registry import suggest
from srun.requests.kinds import CategoryRequest, ExpectedInteractions, GivenRequest, Request, kind
from srun.requests.policy import ServiceConfig
from srun.rng import derive
from srun.search.bench import OptimizeConfig
from srun.search.goals import check_text
from srun.search.space import Space
from srun.system.devices import RuntimeConfig
from srun.training.fit import TrainConfig
from srun.unlearning import UNLEARNERS
from srun.unlearning.crossfit import LevelsConfig

NAMED = ("partition", "originals", "cells")
"""Sections whose entries users name themselves."""
SPACES = tuple(f"optimize.space.{name}" for name in UNLEARNERS)
FREE = (*NAMED, "chain", "optimize.objectives", "optimize.space", *SPACES)
"""Sections that take new entries."""
REPLACED = ("originals", "cells", *SPACES)
"""Those of them that a preset replaces as a whole."""
SINGULAR = {"partition": "request", "originals": "original", "cells": "cell"}
MAX_CATEGORY = 60
"""Letters of a category in the name of its request."""


@config
class DataConfig:
    name: str
    """The raw data set: a folder of data/raw."""


if TYPE_CHECKING:  # made from the registries below, which a type checker cannot follow
    from typing import Any as ModelSection
    from typing import Any as UnlearnSection
else:
    ModelSection = section("ModelSection", {name: MODELS[name].Config for name in MODELS})
    UnlearnSection = section("UnlearnSection", {"seed": int, **{name: UNLEARNERS[name].Config for name in UNLEARNERS}})


@config
class Params:
    """All of params.yaml. Stages are handed their own sections, never the whole."""

    data: DataConfig
    prepare: PrepareConfig
    partition: dict[str, Request]
    model: ModelSection
    train: TrainConfig
    levels: LevelsConfig
    unlearn: UnlearnSection
    evaluate: EvaluateConfig
    relearning: RelearningConfig
    optimize: OptimizeConfig
    neurons: NeuronsConfig
    service: ServiceConfig
    runtime: RuntimeConfig
    requests: tuple[str, ...]
    """Entries of ``partition`` that the flow carries out."""
    chain: dict[str, str]
    """Request -> the one that the same method has carried out before it: it goes on from that model, and forgets what
    is new."""
    originals: dict[str, OriginalCell]
    cells: dict[str, Cell]
    audits: tuple[str, ...]
    """Entries of ``cells`` whose models the flow audits."""

    def request(self, name: str) -> Any:
        """The request of a name, or ConfigError."""
        return _named(self.partition, name, "request", "partition")

    def earlier(self, request: str) -> tuple[str, ...]:
        """The requests that come before one in its chain, the oldest first; once each where a chain is none."""
        names, before = [request], self.chain.get(request)
        while before is not None and before not in names:
            names.append(before)
            before = self.chain.get(before)
        return tuple(reversed(names[1:]))

    @property
    def carried_out(self) -> tuple[str, ...]:
        """The requests of the flow: those of ``requests`` and cells, each after the earlier ones of its chain."""
        named = dict.fromkeys([*self.requests, *(cell.request for cell in self.cells.values())])
        return tuple(dict.fromkeys(name for request in named for name in (*self.earlier(request), request)))

    def drawn_by(self, original: str) -> dict[str, ExpectedInteractions]:
        """The requests of the flow whose events an Original draws, by name."""
        blocks = {name: self.request(name) for name in self.carried_out}
        return {
            name: block
            for name, block in blocks.items()
            if isinstance(block, ExpectedInteractions) and block.original == original
        }

    def drawer(self, request: str) -> str | None:
        """The Original that draws the events of a request; None for a request that none draws."""
        block = self.request(request)
        return block.original if isinstance(block, ExpectedInteractions) else None

    def start(self, cell: Cell) -> Cell | None:
        """The cell whose model a cell goes on from, where its request is part of a chain; None for the Original.

        What trains from scratch needs no model, and Original stays what it is.
        """
        before, method = self.chain.get(cell.request), UNLEARNERS[cell.method]
        if before is None or method.from_scratch or method.role == "original":
            return None
        return replace(cell, request=before)

    def with_category(self, category: str) -> "tuple[str, Params]":
        """The name of the request to forget one category, everybody's, and the parameters that have it.

        Where none is written down, it is the first category request with the category put in its place.
        """
        plain = re.sub(r"[^A-Za-z0-9]+", "-", category).strip("-")[:MAX_CATEGORY]
        lost = "" if plain == category else f"-{derive(0, category):016x}"[:9]  # two names never share a folder
        own = f"category-{plain}{lost}"
        requests = [(name, request) for name, request in self.partition.items() if name != own]  # it may be of old
        known = {name: request for name, request in requests if isinstance(request, CategoryRequest)}
        for name, request in known.items():
            if request.categories == (category,) and request.users is None:
                return name, self
        if not known:
            raise ConfigError('params.yaml has no request of kind "category" in partition to take as a pattern')
        request = replace(next(iter(known.values())), categories=(category,), users=None)
        return own, replace(self, partition={**self.partition, own: request})

    def with_request(self, name: str) -> "Params":
        """The same with one request in the place of all others: the rows of the comparison whose methods can do it.

        The flow audits none of them: the names of its audits are those of other models.
        The same rows of the requests before it in its chain come first.
        """
        rows: dict[Cell, str] = {}
        requests = (*self.earlier(name), name)
        kinds = {self.request(one).kind for one in requests}
        for one in requests:
            for key, cell in self.cells.items():
                if kinds <= set(UNLEARNERS[cell.method].kinds):
                    rows.setdefault(replace(cell, request=one), key if one == name else f"{key}-{one}")
        if not rows:
            raise ConfigError(f'no row of cells has a method for a request of kind "{", ".join(sorted(kinds))}"')
        return replace(self, requests=requests, cells={key: cell for cell, key in rows.items()}, audits=())

    def with_chain(self, name: str, after: str) -> "Params":
        """The same where a request comes after another; ConfigError for one that cannot."""
        self.request(after)
        params = replace(self, chain={**self.chain, name: after})
        if faults := list(_chain(params)):
            raise ConfigError(*faults)
        return params

    def with_given(self, name: str, file: str, form: str | None, columns: dict[str, str] | None, kind: Any) -> "Params":
        """The same with a request of the user's own as a block; catalogue and seed are those of the first block.

        It takes the place of a given one of that name. Raises ConfigError where another kind of request has it.
        """
        first = next(iter(self.partition.values()))
        catalogue = first.catalogue if not isinstance(first, CategoryRequest) else "full"
        block = GivenRequest(kind=kind, file=file, format=form, columns=columns, catalogue=catalogue, seed=first.seed)
        known = self.partition.get(name)
        if known is not None and not isinstance(known, GivenRequest):
            raise ConfigError(
                f'request "{name}" is the one that partition.{name} of the parameters describes ({known.kind}, not from'
                " a file); give yours a name of its own with --request NAME"
            )
        return replace(self, partition={**self.partition, name: block})

    def with_search(self, **changes: Any) -> "Params":
        """The same with some values of the section ``optimize`` replaced; ConfigError for one that cannot be."""
        return replace(self, optimize=build(OptimizeConfig, {**asdict(self.optimize), **changes}, "optimize"))

    def original(self, name: str) -> OriginalCell:
        """The Original of a name, or ConfigError."""
        original: OriginalCell = _named(self.originals, name, "original", "originals")
        return original

    def with_method(self, name: str, settings: Section, seed: int) -> "Params":
        """The same with other settings of a method, and another seed of unlearning."""
        return replace(self, unlearn=replace(self.unlearn, **{name: settings, "seed": seed}))

    def model_settings(self, name: str) -> Section:
        """The model's block, or ConfigError for an unknown model."""
        MODELS[name]
        block: Section = getattr(self.model, name)
        return block

    def method_settings(self, name: str) -> Section:
        """The method's block, or ConfigError for an unknown method."""
        UNLEARNERS[name]
        block: Section = getattr(self.unlearn, name)
        return block


def load_values(file: Path, presets: Sequence[Path] = (), assignments: Sequence[str] = ()) -> dict[str, Any]:
    """Read params.yaml, lay the presets over it in order, then the ``key=value`` assignments; plain values."""
    faults = Faults()
    values = _laid(file, presets, assignments, faults)
    faults.tell()
    return values


def load(
    file: Path,
    presets: Sequence[Path] = (),
    assignments: Sequence[str] = (),
    partitioned: Mapping[str, Any] | None = None,
    chained: Mapping[str, str] | None = None,
) -> Params:
    """As ``load_values``, checked and typed; raises ConfigError with every fault that was found, by dotted key.

    ``partitioned``: blocks of requests that already have a partition, so the parameters need not have them; ``chained``
    the same of ``chain``.
    """
    faults = Faults()
    values = _laid(file, presets, assignments, faults)
    if partitioned and isinstance(values.get("partition"), dict):
        own = set(values["partition"])
        values["partition"] |= {name: block for name, block in partitioned.items() if name not in own}
        if isinstance(values.get("chain"), dict):
            values["chain"] |= {name: before for name, before in (chained or {}).items() if name not in own}
    faults += _ids(values)
    with faults.collect():
        params = build(Params, values)
        faults += [*_names(params), *_references(params, partitioned or {}), *_search(params)]
    faults.tell()
    return params


def _laid(file: Path, presets: Sequence[Path], assignments: Sequence[str], faults: Faults) -> dict[str, Any]:
    """The plain values; what cannot be laid over them is left out and told in ``faults``.

    Rows that are replaced take their audits along.
    """
    if not file.exists():
        raise ConfigError(f"{file}: not in {Path.cwd()}; `srun init` writes one, or go to a folder that has one")
    values = read_yaml(file)
    _check_names(str(file), values)
    for preset in presets:
        with faults.collect():
            laid = read_yaml(preset)
            _check_names(str(preset), laid)
            merge(values, laid, FREE, REPLACED)
            if "cells" in laid and "audits" not in laid:
                values["audits"] = []
    for assignment in assignments:
        with faults.collect():
            key, value = parse_assignment(assignment)
            _check_names("--set", {key: value})
            _check_not_given(values, key, value)
            override(values, key, value, free=FREE)
            if key == "cells":
                values["audits"] = []
    return values


def _check_names(where: str, values: Mapping[str, Any]) -> None:
    """Raise ConfigError for names that parameters or their values had once."""
    if renamed := [f"{where}: {fault}" for fault in renamed_faults(values)]:
        raise ConfigError(*renamed)


def _ids(values: Mapping[str, Any]) -> Iterator[str]:
    """Raw user ids among the parameters, which are not repeated."""
    blocks = values.get("partition")
    for name, block in blocks.items() if isinstance(blocks, dict) else ():
        if isinstance(block, dict) and isinstance(block.get("users"), list):
            yield f'parameter "partition.{name}.users": a list; expected a file with the column user, such as users.csv'
            block["users"] = None


def _names(params: Params) -> Iterator[str]:
    """Names that may not be: they become paths."""
    named = [("data.name", params.data.name, "data set")]
    for block in ("partition", "originals", "cells"):
        named += [(f"{block}.{name}", name, SINGULAR[block]) for name in getattr(params, block)]
    named += [(f"optimize.objectives.{name}", name, "objective") for name in params.optimize.objectives]
    for key, name, noun in named:
        if fault := name_fault(name, noun):
            yield f'parameter "{key}": a {noun} cannot be called "{name}": {fault}'


def _references(params: Params, partitioned: Mapping[str, Any]) -> Iterator[str]:
    """Names that name nothing, and rows that cannot be."""
    for name in params.requests:
        yield from _unknown("requests", name, list(params.partition))
    yield from _chain(params)
    yield from _draws(params)
    yield from _service(params)
    for name, original in params.originals.items():
        yield from _unknown(f"originals.{name}.model", original.model, list(MODELS))
    own = [
        name for name, request in params.partition.items() if isinstance(request, GivenRequest) or name in partitioned
    ]
    rows: dict[Cell, str] = {}
    for name, cell in params.cells.items():
        wrong = [
            *_unknown(f"cells.{name}.request", cell.request, list(dict.fromkeys([*params.requests, *own]))),
            *_unknown(f"cells.{name}.original", cell.original, list(params.originals)),
            *_unknown(f"cells.{name}.method", cell.method, list(UNLEARNERS)),
        ]
        yield from wrong
        kinds = () if wrong else UNLEARNERS[cell.method].kinds
        if kinds and cell.request in params.partition and params.partition[cell.request].kind not in kinds:
            yield f"cells.{name}: {cell.method} is not defined for requests other than {', '.join(kinds)}"
        if not wrong:
            yield from (f"cells.{name}: {fault}" for fault in drawer_faults(params, cell))
        if rows.setdefault(cell, name) != name:
            yield f"cells.{name}: the same row as cells.{rows[cell]}, which would count twice; give it another seed"
    yield from _audits(params)


def _audits(params: Params) -> Iterator[str]:
    """Audits of rows that are not there, or of requests that have none."""
    for name in params.audits:
        wrong = list(_unknown("audits", name, list(params.cells)))
        yield from wrong
        request = None if wrong else params.partition.get(params.cells[name].request)
        if request is not None and request.kind not in KINDS:
            yield f'parameter "audits": {name} forgets a category; an audit is for requests of interactions or users'


def drawer_faults(params: Params, cell: Cell) -> Iterator[str]:
    """Why the Original of a row cannot carry out its request: it chose what is forgotten."""
    for request in (*params.earlier(cell.request), cell.request):
        if request in params.partition and params.drawer(request) == cell.original:
            yield (
                f'{cell.original} drew the events of request "{request}", so no row is judged that starts from it; give'
                f" the row another Original, or partition.{request}.original one that no row starts from"
            )


def _draws(params: Params) -> Iterator[str]:
    """Requests of the flow whose events no Original can draw."""
    for name in dict.fromkeys([*params.requests, *params.chain.values()]):
        drawer = params.drawer(name) if name in params.partition else None
        if drawer is None:
            continue
        yield from (unknown := [*_unknown(f"partition.{name}.original", drawer, list(params.originals))])
        if not unknown and params.originals[drawer].shards != 1:
            yield f'parameter "partition.{name}.original": {drawer} has shards, and memory is looked at in one model'


def _service(params: Params) -> Iterator[str]:
    """Methods and an Original of the service that there are not."""
    for kind_name, methods in vars(params.service.methods).items():
        for name in methods:
            yield from _unknown(f"service.methods.{kind_name}", name, list(UNLEARNERS))
    if params.service.original is not None:
        yield from _unknown("service.original", params.service.original, list(params.originals))


def _chain(params: Params) -> Iterator[str]:
    """Requests of chains that are none, and a request that comes before itself."""
    for name, before in params.chain.items():
        yield from _unknown("chain", name, list(params.partition))
        yield from _unknown(f"chain.{name}", before, list(params.partition))
        seen = {name}
        while before in params.chain and before not in seen:
            seen.add(before)
            before = params.chain[before]
        if before in seen:
            yield f'parameter "chain.{name}": comes after itself; a chain begins with a request that comes after none'


def _search(params: Params) -> Iterator[str]:
    """What `srun optimize` could not search."""
    faults, settings = Faults(), params.optimize
    faults += _unknown("optimize.method", settings.method, list(UNLEARNERS))
    for name, domains in settings.space.items():
        faults += (unknown := [*_unknown(f"optimize.space.{name}", name, list(UNLEARNERS))])
        if domains and not unknown:
            with faults.collect():
                Space(f"unlearn.{name}", flatten(asdict(getattr(params.unlearn, name))), domains)
    texts = [text for by_kind in settings.objectives.values() for some in by_kind.values() for text in some]
    for text in [*texts, *(name for name in settings.objective if name not in settings.objectives)]:
        with faults.collect():
            check_text(text, list(settings.objectives))
    yield from faults


def _check_not_given(values: dict[str, Any], key: str, value: Any) -> None:
    """Raise ConfigError for a file put in the place of a drawn request, which other commands would still draw."""
    parts = key.split(".")
    if len(parts) == 2 and parts[0] == "partition" and isinstance(value, dict) and kind(value) == "given":
        parts, value = [*parts, "file"], value["file"]
    if len(parts) == 3 and (parts[0], parts[2]) == ("partition", "file"):
        block = (values.get("partition") or {}).get(parts[1])
        if isinstance(block, dict) and kind(block) != "given":
            raise ConfigError(
                f'--set {key}: "{parts[1]}" is drawn, and a request of your own has a name of its own; run "srun'
                f' partition --request NAME --file {value}" instead'
            )


def _named(entries: dict[str, Any], name: str, noun: str, where: str) -> Any:
    if name not in entries:
        raise ConfigError(f'unknown {noun} "{name}": {where} has {", ".join(entries)}{suggest(name, list(entries))}')
    return entries[name]


def _unknown(key: str, name: str, known: list[str]) -> Iterator[str]:
    if name not in known:
        yield f'parameter "{key}": unknown "{name}", expected one of {", ".join(known)}{suggest(name, known)}'
