"""An oracle: many Originals and Retrains of one data set, recipe and request, which models are held against.

It is a folder of its own, named for what it is made of. ``flow.ensemble`` makes it, and ``srun audit`` reads it.
Shapes: Q events.
"""

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from srun.config import Section
from srun.data.sequences import Queries
from srun.errors import DataError
from srun.evaluation.evaluate import EvaluateConfig
from srun.evaluation.relearning import RelearningConfig
from srun.files import read_json, sha256, verify_folder, write_bytes
from srun.flow.cells import Cell, OriginalCell
from srun.flow.freshness import digest
from srun.flow.layout import Layout, OracleLayout
from srun.flow.loading import load_dataset
from srun.judging.records import SPLIT
from srun.judging.styles import ORIGINAL, REFERENCE
from srun.metrics.membership import Signals
from srun.requests.partition import MASKS, Partition
from srun.training.fit import TrainConfig

log = logging.getLogger("srun")

Role = Literal["original", "retrain", "halves"]
FIRST_SEED: Mapping[Role, int] = {"original": 1000, "retrain": 2000, "halves": 3000}
"""Seeds of members go up from here. Models of one seed begin with the same weights and see batches in the same order,
so a reference must share no seed with a model that it is held against: those of params.yaml are small numbers, and no
Retrain here has the seed of an Original."""
SET_ASIDE = "set_aside"
"""The split of events that were set aside for audits before training: never-seen events of users who train."""
SCORES, FIGURES, INFO = "scores.parquet", "figures.json", "info.json"
SIGNALS = ("rank", "log_p", "z_logit")
KEY_DIGITS = 16


@dataclass(frozen=True)
class Member:
    """A model of an oracle; of ``halves`` two, each trained on a random half of the users."""

    role: Role
    seed: int
    """Training seed."""

    @property
    def name(self) -> str:
        return f"{self.role}-{self.seed}"

    @property
    def row(self) -> str:
        """What it is called among cells, none of which may have a slash in its name."""
        return f"oracle/{self.name}"

    def trained(self, model: str) -> OriginalCell | None:
        """How it is trained before any request; None for a Retrain."""
        if self.role == "retrain":
            return None
        return OriginalCell(model=model, seed=self.seed, shards=2 if self.role == "halves" else 1)

    def cell(self, request: str) -> Cell | None:
        """Its row, as of a flow; none of halves. A Retrain takes its recipe from the first Original."""
        if self.role == "halves":
            return None
        method, original = (ORIGINAL, self) if self.role == "original" else (REFERENCE, FIRST)
        return Cell(request=request, original=original.name, method=method, seed=self.seed)


FIRST = Member("original", FIRST_SEED["original"])
"""The Original that Retrains take their recipe from."""


def members(originals: int, retrains: int, halves: int) -> list[Member]:
    """Members in the order in which they are made: one sort after the other in turn, for a budget may end.

    ``halves``: half-models, an even number, for a pair of them is one member.
    """
    numbers: dict[Role, int] = {"original": originals, "retrain": retrains, "halves": halves // 2}
    most = max(numbers.values())
    return [Member(role, FIRST_SEED[role] + n) for n in range(most) for role, number in numbers.items() if n < number]


def locate(layout: Layout, model: str, settings: Section, recipe: TrainConfig, request: str) -> OracleLayout:
    """Where the oracle of a request lies whose members are trained as ``model`` is, with ``settings`` and ``recipe``.

    Its name is made of the data, the recipe and all events that the request tells apart. DataError where the data or
    the partition are not there.
    """
    data = load_dataset(layout)
    folder = layout.partition(request)
    info = Partition.load(folder, data).info
    parts = {
        "data": [data.fingerprint, data.info["config"]],
        "recipe": [model, dict(vars(settings)), vars(recipe)],
        "request": [info["name"], info["request"], sha256(folder / MASKS)],
    }
    return OracleLayout(layout.project, layout.oracle(digest(parts)[:KEY_DIGITS]), layout)


def scored_events(request: Partition) -> dict[str, Queries]:
    """The events that membership attacks look at, by split: forgotten, set aside, and a population where there is one.

    The population is never-seen events of users who never trained: nobody's, so not the attacked ones.
    """
    both = {split: request.queries(split) for split in ("never_seen_tune", "never_seen_report")}
    population = both if any(map(len, both.values())) else {}
    return {SPLIT: request.queries(SPLIT), SET_ASIDE: request.never_trained(audit=True), **population}


def described(settings: EvaluateConfig, relearning: RelearningConfig, kind: str) -> dict[str, Any]:
    """What an evaluation after a request of a ``kind`` depends on; a batch moves the last bits only."""
    evaluation = {key: value for key, value in asdict(settings).items() if key != "batch_size"}
    relearned = asdict(relearning) if kind in relearning.kinds else None
    plain: dict[str, Any] = json.loads(json.dumps({"evaluate": evaluation, "relearning": relearned}))
    return plain


@dataclass(frozen=True)
class Oracle:
    """The members that are there, with their scores."""

    layout: OracleLayout
    request: str
    members: tuple[Member, ...]
    scores: Mapping[str, pd.DataFrame]
    """By member: ``model`` (which of two halves, else 0), ``split``, ``event``, ``rank``, ``log_p``, ``z_logit``."""
    figures: Mapping[str, Mapping[str, Mapping[str, float]]]
    """By member and split what else an audit measures of a model."""

    def of(self, role: Role) -> list[Member]:
        """The members of a sort, by seed."""
        return [member for member in self.members if member.role == role]

    @property
    def rows(self) -> list[Member]:
        """The members that are rows beside a model: all Retrains, and the first Original.

        One suffices as the Original of another seed; the others tell membership what a model that saw the events gives.
        """
        return [*self.of("original")[:1], *self.of("retrain")]

    @property
    def cells(self) -> dict[str, Cell]:
        """The cells of the rows."""
        cells = {member.row: member.cell(self.request) for member in self.rows}
        return {row: cell for row, cell in cells.items() if cell is not None}

    @property
    def text(self) -> str:
        """What there is, in words."""
        return f"{len(self.of('retrain'))} Retrains and {len(self.of('original'))} Originals of the oracle"

    def without(self, seeds: Collection[int]) -> "Oracle":
        """The same without members of these training seeds: of a model's own seed none is a reference for it."""
        return replace(self, members=tuple(member for member in self.members if member.seed not in seeds))

    def signals(self, member: Member, events: Mapping[str, Queries], model: int = 0) -> Signals:
        """What a member says of ``events`` (Q,) by split, one split after the other.

        Raises DataError where it was asked about others.
        """
        table = self.scores[member.name]
        table = table[table["model"] == model]
        parts = [table[table["split"] == split] for split in events]
        for (split, queries), part in zip(events.items(), parts, strict=True):
            if not np.array_equal(part["event"].to_numpy(), queries.event):
                raise DataError(
                    f"{self.layout.scores / member.name}: scores of other events of {split} than there are now; remove"
                    " the folder, then run `srun oracle` again"
                )
        columns = (np.concatenate([part[name].to_numpy() for part in parts]) for name in ("log_p", "z_logit", "rank"))
        return Signals(*columns)

    def all_signals(self, events: Mapping[str, Queries]) -> dict[str, Signals]:
        """What every Original and Retrain says of events by split, by its row."""
        return {one.row: self.signals(one, events) for one in [*self.of("original"), *self.of("retrain")]}

    def joined(self) -> pd.DataFrame:
        """The scores of all members in one table, which ``role`` and ``seed`` tell apart."""
        tables = [
            self.scores[member.name].assign(role=member.role, seed=np.int32(member.seed)) for member in self.members
        ]
        table = pd.concat(tables, ignore_index=True)
        table = table[["role", "seed", "model", "split", "event", *SIGNALS]]
        return table.astype({"role": "category", "split": "category"})


def load_oracle(layout: OracleLayout, request: str, settings: Mapping[str, Any]) -> Oracle | None:
    """The oracle with all members that are there and were evaluated by ``settings``; None where there is none.

    ``settings``: as ``described`` has them. Raises DataError for a damaged folder.
    """
    known = list(_there(layout))
    there = tuple(member for member in known if is_done(layout, member, settings))
    if len(there) < len(known):
        log.warning(
            "%s: %d of %d members were evaluated with other values of evaluate or relearning and are left out; `srun "
            "oracle` with these evaluates them again, and trains none",
            *(layout.root, len(known) - len(there), len(known)),
        )
    if not there:
        return None
    folders = {member.name: layout.scores / member.name for member in there}
    scores, figures = {}, {}
    for name, folder in folders.items():
        verify_folder(folder, DataError, _mend(folder))
        scores[name] = pd.read_parquet(folder / SCORES)
        figures[name] = read_json(folder / FIGURES, DataError, _mend(folder))
    return Oracle(layout, request, there, scores, figures)


def is_done(layout: OracleLayout, member: Member, settings: Mapping[str, Any]) -> bool:
    """Whether a member was trained, evaluated by these settings (see ``described``), and scored."""
    file = layout.scores / member.name / INFO
    if not file.is_file():
        return False
    info = read_json(file, DataError, _mend(file.parent))
    return bool(info["settings"] == settings)


def _there(layout: OracleLayout) -> Iterator[Member]:
    """Members that have scores, Originals first, then by seed."""
    for role, first in FIRST_SEED.items():
        seeds = [int(path.name.rpartition("-")[2]) for path in layout.scores.glob(f"{role}-*")]
        yield from (Member(role, seed) for seed in sorted(seeds) if seed >= first)


def _mend(folder: Path) -> str:
    return f"remove {folder.name} there, then run `srun oracle` again"


def write_ranks(oracle: Oracle, file: Path) -> int:
    """Write the ranks alone, as a small table that holds no data; returns its rows.

    Columns: role, seed, model, split, event (an index of the prepared log, which names nobody) and rank, as uint16; a
    rank that ties left between two places is the lower of these. Raises DataError for a larger catalogue than 65,535.
    """
    table = oracle.joined()
    ranks = np.ceil(table["rank"].to_numpy())
    if ranks.max() > np.iinfo(np.uint16).max:
        raise DataError(f"{file}: ranks are written as numbers up to 65535, and this catalogue has more items")
    table = table[["role", "seed", "model", "split", "event"]].assign(rank=ranks.astype(np.uint16))
    write_bytes(file, table.to_parquet(None, index=False, compression="zstd", compression_level=19))
    return len(table)
