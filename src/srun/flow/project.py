"""A project: its parameters, where its files lie, and its tracked runs."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from srun.data.raw import RawData, read_info, read_raw
from srun.errors import ConfigError
from srun.flow.cells import Cell
from srun.flow.layout import Layout, TrialLayout
from srun.flow.loading import load_dataset
from srun.flow.params import Params, load, load_values
from srun.flow.partition import given_kind, known_blocks, known_chain
from srun.flow.preflight import cell_faults
from srun.names import SERVICE_FILE
from srun.requests.kinds import GivenRequest
from srun.system import distributed
from srun.tracking import NullTracker, Tracker
from srun.tracking.runs import Tracking

EXPERIMENT = "srun"
"""Of the tracker."""

log = logging.getLogger("srun")


def option_words(presets: Sequence[str], assignments: Sequence[str], out: Path | None) -> list[str]:
    """The words of a command line that give these options."""
    words = [word for preset in presets for word in ("--params", preset)]
    words += [word for assignment in assignments for word in ("--set", assignment)]
    return words + ([] if out is None else ["--out", str(out)])


@dataclass(frozen=True)
class Project:
    """What stages are run on. Nothing in it changes: with other parameters it is another project."""

    params: Params
    layout: Layout
    options: tuple[str, ...] = ()
    """Words that lie over params.yaml in ``params``, for commands that are shown."""
    tracking: Tracking = field(default_factory=Tracking, repr=False, compare=False)
    """The patience that all runs of the project have with the tracker."""

    @classmethod
    def open(cls, presets: Sequence[str] = (), assignments: Sequence[str] = (), out: Path | None = None) -> "Project":
        """The project of the working folder, with presets and ``key=value`` assignments laid over params.yaml.

        ``out``: the folder of everything made from data/raw, where that is another. Raises ConfigError with every fault
        of the parameters.
        """
        folder = Path.cwd()
        if (folder / SERVICE_FILE).is_file():
            raise ConfigError(
                f"{folder}: is a service, which makes its models by requests; see `srun status`, and work on data sets"
                " in another folder"
            )
        layout = Layout(folder, (out or folder).resolve())
        blocks = known_blocks(layout.partitions)
        chain = known_chain(layout.partitions)
        params = load(Path("params.yaml"), [Path(preset) for preset in presets], assignments, blocks, chain)
        return cls(params, layout, tuple(option_words(presets, assignments, out)))

    def only(self, request: str) -> "Project":
        """The same for one request; its report has a folder of its own."""
        params, cells = self.params.with_request(request), {}
        for name, cell in params.cells.items():
            if faults := list(cell_faults(params, cell)):
                log.warning("%s is left out: %s", name, "; ".join(faults))
            else:
                cells[name] = cell
        options = (*self.options, "--request", request)
        layout = replace(self.layout, only=request)
        return replace(self, params=replace(params, cells=cells), layout=layout, options=options)

    def with_category(self, category: str) -> "tuple[Project, str]":
        """The same project with the request to forget one category, and the name of that request."""
        name, params = self.params.with_category(category)
        return replace(self, params=params), name

    def with_given(
        self, name: str, file: str, form: str | None, columns: dict[str, str] | None, kind: str | None
    ) -> "Project":
        """The same with a request of the user's own, in a file; later commands know it by its name.

        ``kind``: interactions or users; by the file's columns where it is None. Raises ConfigError where the parameters
        have another request of that name.
        """
        recorded = load_dataset(self.layout).info.get("columns")
        kind = kind or given_kind(file, form, columns, recorded)
        params = self.params.with_given(name, file, form, columns, kind)
        known = self.params.partition.get(name)
        other = isinstance(known, GivenRequest) and known != params.partition[name]
        if isinstance(known, GivenRequest) and other and name in self.own_requests():
            raise ConfigError(
                f'request "{name}": the parameters take it from {known.file}, and --file names {file}; change'
                f" partition.{name}, or give yours a name of its own with --request NAME"
            )
        return replace(self, params=params)

    def with_chain(self, name: str, after: str) -> "Project":
        """The same where a request comes after another one, whose models it goes on from."""
        return replace(self, params=self.params.with_chain(name, after))

    def own_requests(self) -> set[str]:
        """Names of the requests that stand in the parameters, not in a partition alone."""
        pairs = list(zip(self.options[::2], self.options[1::2], strict=True))
        presets = [Path(value) for option, value in pairs if option == "--params"]
        values = load_values(Path("params.yaml"), presets, [value for option, value in pairs if option == "--set"])
        return set(values["partition"])

    def with_search(self, **changes: Any) -> "Project":
        """The same with some values of the section ``optimize`` replaced."""
        return replace(self, params=self.params.with_search(**changes))

    def raw_info(self) -> dict[str, Any]:
        """What the raw data set says of itself; raises DataError where there is none."""
        return read_info(self.layout.raw(self.params.data.name))

    def read_raw(self) -> RawData:
        """The raw data set, verified."""
        return read_raw(self.layout.raw(self.params.data.name))

    @contextmanager
    def tracked(
        self, stage: str, name: str, params: Mapping[str, Any], resume: Path | None, **tags: str
    ) -> Iterator[Tracker]:
        """A run of a stage in the tracker, with parameters and tags; one that does nothing where tracking is off.

        ``resume``: the folder from which the stage goes on when it was killed, if it has one; so does the run.
        """
        if not self.params.runtime.tracking or distributed.rank():
            yield NullTracker()
            return
        data = self.params.data.name
        all_tags, dataset = {"stage": stage, "data.name": data, **tags}, None
        if self.layout.raw(data).is_dir():
            all_tags["data.fingerprint"] = fingerprint = str(self.raw_info()["fingerprint"])
            dataset = data, fingerprint
        title = f"{stage}: {name}"
        with self.tracking.run(self.layout.project, EXPERIMENT, title, all_tags, dataset, resume) as tracker:
            tracker.params({"data.name": data, **params})
            yield tracker

    def title(self, cell: Cell) -> str:
        """What the runs of a cell are called in the tracker."""
        if isinstance(self.layout, TrialLayout):
            return f"trial {self.layout.trial} of {self.layout.study_name}"
        return f"{cell.method}-{cell.seed} on {cell.original} ({cell.request})"

    def tags(self, cell: Cell) -> dict[str, str]:
        """What the runs of a cell are found by in the tracker."""
        model = self.params.original(cell.original).model
        tags = {"model": model, "method": cell.method, "request": cell.request, "seed": str(cell.seed)}
        return tags | ({"srun.trial": str(self.layout.trial)} if isinstance(self.layout, TrialLayout) else {})
