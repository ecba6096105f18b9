"""A chain: an anchor, trained on all data that there were, and the models that requests made of it one after another.

Inside a chain no id, no role and no draw is made anew: prepared data stay as they are, and events are marked as
forgotten. Only a Retrain prepares the log again, and begins the next chain.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file, save_file

from srun.config import build
from srun.data.dataset import Dataset, Mask
from srun.files import write_folder
from srun.flow.cells import Cell
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset
from srun.flow.params import Params, load
from srun.flow.partition import known_blocks, known_chain
from srun.flow.project import Project
from srun.flow.stages import crossfit_step, prepare_step, train_step, unlearn_step
from srun.flow.steps import take_steps
from srun.models.published import load_published
from srun.models.scorer import Scorer
from srun.requests.kinds import GivenRequest
from srun.requests.partition import RECORD, Partition, partition_of_events
from srun.service.book import Version
from srun.service.settings import ServiceRoot
from srun.unlearning import UNLEARNERS

LEDGER = "(ledger)"
"""Stands for the file of a request whose rows are in the inbox."""
REMOVED = "removed.safetensors"


@dataclass(frozen=True)
class ChainLayout(Layout):
    """A project's paths where everything made lies in a chain's folder, and the log is the service's."""

    log: Path

    def raw(self, name: str) -> Path:
        return self.log


@dataclass(frozen=True)
class Chain:
    """The models, partitions and prepared data from one anchor on."""

    root: ServiceRoot
    number: int
    project: Project

    @classmethod
    def open(cls, root: ServiceRoot, params: Params, number: int, log: Path | None = None) -> "Chain":
        """The chain of a number; ``log``: what it is prepared from, the service's own unless it is given."""
        layout = ChainLayout(root.folder, root.chain(number), log=log or root.raw)
        return cls(root, number, Project(params, layout))

    @property
    def original(self) -> str:
        return self.root.settings.original

    def begin(self) -> None:
        """Prepare the log, train the anchor and make its private table, as far as that is not done."""
        steps = [prepare_step(self.project), train_step(self.project, self.original)]
        if self._needs_table:
            steps.append(crossfit_step(self.project, self.original))
        take_steps(steps, None)

    @property
    def _needs_table(self) -> bool:
        params = self.project.params
        methods = {name for names in vars(params.service.methods).values() for name in names}
        return any(UNLEARNERS[name](params.method_settings(name)).needs_crossfit for name in methods)

    @property
    def anchor(self) -> Path:
        """The folder of the anchor's model."""
        return self.project.layout.original(self.original).model

    def data(self) -> Dataset:
        """The prepared data as they were when the chain began."""
        return load_dataset(self.project.layout)

    def load_anchor(self, device: torch.device) -> Scorer:
        return load_published(self.anchor, device)[0]

    def partition(self, name: str, data: Dataset) -> Partition:
        return Partition.load(self.project.layout.partition(name), data)

    def removed(self, version: Version, data: Dataset) -> Mask:
        """(E,) every event that requests before have named, up to a version of this chain."""
        gone = np.zeros(data.num_events, dtype=bool)
        if version.chain == self.number and version.cell is not None:
            gone |= self.partition(version.cell["request"], data).gone
        for file in sorted(self._marks.glob(f"*/{REMOVED}")):
            gone |= load_file(file)["removed"].astype(bool)
        return gone

    def mark_removed(self, batch: str, removed: Mask) -> None:
        """Keep which events a batch named that no model was trained on, for the next partition to take out."""
        with write_folder(self._marks / batch, sealed=True) as new:
            save_file({"removed": removed.astype(np.uint8)}, new / REMOVED)

    @property
    def _marks(self) -> Path:
        return self.project.layout.root / "data" / "removed"

    def split(
        self, name: str, kind: Any, data: Dataset, removed: Mask, rows: pd.DataFrame, after: Cell | None
    ) -> "Chain":
        """Make the partition ``name`` of the events ``removed`` (E,), and return the chain that knows it.

        ``data``: without any request; ``after``: the cell whose request comes before.
        """
        folder, before = self.project.layout.partition(name), None
        if after is not None:
            before = self.partition(after.request, data)
        if not (folder / RECORD).is_file():
            seed = self.project.params.unlearn.seed
            block = GivenRequest(kind=kind, file=LEDGER, format=None, columns=None, catalogue="full", seed=seed)
            named = np.zeros(data.num_users, dtype=bool)
            named[data.user[removed]] = True
            start = data if before is None else before.afterwards
            made = partition_of_events(start, name, block, removed, named, rows, before)
            record: dict[str, Any] = {"block": vars(block), "files": {}}
            made.save(folder, record if before is None else {**record, "after": before.info["name"]})
        return self.knowing()

    def knowing(self) -> "Chain":
        """The same where the parameters have every request that has a partition here, and which comes after which."""
        folder, params = self.project.layout.partitions, self.project.params
        blocks = {name: build(GivenRequest, block, RECORD) for name, block in known_blocks(folder).items()}
        params = replace(
            params, partition={**params.partition, **blocks}, chain={**params.chain, **known_chain(folder)}
        )
        return replace(self, project=replace(self.project, params=params))

    def unlearn(self, cell: Cell, start: Cell | None) -> Path:
        """Carry out a cell from the model of ``start``, the anchor where it is None, unless it is done; its folder."""
        take_steps([unlearn_step(self.project, cell, start=start)], None)
        return self.project.layout.cell(cell).model


def load_params(root: ServiceRoot, tracking: bool) -> Params:
    """The service's own parameters; ``tracking``: whether single stages are tracked too."""
    params = load(root.params)
    runtime = replace(params.runtime, tracking=params.runtime.tracking and tracking)
    return replace(params, cells={}, runtime=runtime)


def cell_of(version: Version) -> Cell | None:
    """The cell that made a version; None for an anchor."""
    return None if version.cell is None else Cell(**{**version.cell, "seed": int(version.cell["seed"])})
