"""Where everything lies under the project's root; stages are the only code that knows paths."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from srun.flow.cells import Cell

FEATURES = "features.parquet"
"""Beside the ranks of an Original: what retained data say of each forgotten event of report users."""


@dataclass(frozen=True)
class CellPaths:
    """The folders of one row: a request carried out by a method on an Original."""

    model: Path
    """Published model: the same bits at every run."""
    evaluation: Path
    """Per-event ranks and all metrics."""
    metrics: Path
    """The few figures `dvc metrics show` prints."""
    run: Path
    """What differs from run to run: seconds, memory, MLflow run ids."""
    resume: Path


@dataclass(frozen=True)
class Layout:
    """Every path of a project: raw data lie under ``project``, everything made from them under ``root``."""

    project: Path
    root: Path
    only: str = field(default="", kw_only=True)
    """The request that a report is on; empty for the report on all of them."""

    def raw(self, name: str) -> Path:
        return self.project / "data" / "raw" / name

    @property
    def prepared(self) -> Path:
        return self.root / "data" / "prepared"

    @property
    def partitions(self) -> Path:
        return self.root / "data" / "partition"

    def partition(self, request: str) -> Path:
        return self.partitions / request

    def draws(self, original: str) -> Path:
        """The events of every request that an Original draws."""
        return self.root / "data" / "draws" / original

    def key_file(self, output: Path) -> Path:
        """Says what an output below ``root`` was made of: beside all others, under the output's own path."""
        return self.root / "runs" / "keys" / f"{output.relative_to(self.root)}.json"

    @property
    def digests(self) -> Path:
        """What outputs depend on beside parameters and data, for DVC."""
        return self.root / "runs" / "digests"

    def original(self, name: str) -> CellPaths:
        return self._cell(Path(name), "original")

    def crossfit(self, original: str) -> CellPaths:
        """The private table of an Original's cross-fitted models, which is published nowhere, in place of a model."""
        return replace(self._cell(Path(original), "crossfit"), model=self.root / "runs" / "private" / original)

    def levels(self, original: str) -> Path:
        """Says that the stage was done, and holds nothing of the table: it is what DVC keeps and clones pull."""
        return self.root / "runs" / "levels" / f"{original}.json"

    def cell(self, cell: Cell) -> CellPaths:
        return self._cell(Path(cell.original) / cell.request, f"{cell.method}-{cell.seed}")

    @property
    def reports(self) -> Path:
        return self.root / "reports" / ("requests" if self.only else "") / self.only

    @property
    def judged(self) -> tuple[Path, ...]:
        """What the judge stage writes: every figure, in three forms."""
        return self.reports / "results.csv", self.reports / "results.parquet", self.judgement

    @property
    def judgement(self) -> Path:
        """Every figure of the report."""
        return self.reports / "judgement.json"

    @property
    def rendered(self) -> tuple[Path, ...]:
        """What the report stage writes: the tables, the page and the pictures of that judgement."""
        return self.reports / "summary.md", self.reports / "index.html", self.reports / "figures"

    @property
    def audits(self) -> Path:
        return self.reports / "audit"

    def audit(self, cell: str) -> Path:
        """What an audit of a cell's model says; beside it stand a page of the same and a table of single events."""
        return self.audits / f"{cell}.json"

    def audit_files(self, cell: str) -> tuple[Path, Path, Path]:
        """All that an audit writes: JSON, page, and values by event."""
        file = self.audit(cell)
        return file, file.with_suffix(".html"), file.with_suffix(".parquet")

    def oracle(self, key: str) -> Path:
        """The folder of an oracle: of the members and scores of one data set, recipe and request."""
        return self.root / "runs" / "oracle" / key

    def study(self, name: str) -> Path:
        """Report of a search."""
        return self.root / "reports" / "pareto" / name

    def trial_settings(self, name: str, number: int) -> Path:
        """All settings of a trial of a search, as a preset."""
        return self.study(name) / "settings" / f"trial-{number}.yaml"

    def journal(self, name: str) -> Path:
        """Storage of a search, unless another is named."""
        return self.root / "runs" / "optimize" / f"{name}.journal"

    def _cell(self, folder: Path, name: str) -> CellPaths:
        return CellPaths(
            model=self.root / "models" / folder / name,
            evaluation=self.root / "evaluations" / folder / name,
            metrics=self.root / "reports" / "metrics" / folder / f"{name}.json",
            run=self.root / "runs" / "measured" / folder / f"{name}.json",
            resume=self.root / "runs" / "resume" / folder / name,
        )


@dataclass(frozen=True)
class TrialLayout(Layout):
    """The same with the folders of one trial of a search in the place of its method's own row."""

    study_name: str
    trial: int

    def cell(self, cell: Cell) -> CellPaths:
        return self._cell(Path(cell.original) / cell.request / "pareto" / self.study_name, f"trial-{self.trial}")


@dataclass(frozen=True)
class OracleLayout(Layout):
    """The folder of an oracle, which has models and evaluations of its own; data and requests are those of a flow."""

    flow: Layout

    @property
    def prepared(self) -> Path:
        return self.flow.prepared

    @property
    def partitions(self) -> Path:
        return self.flow.partitions

    @property
    def scores(self) -> Path:
        """A folder for each member: how it scores single events, and what an audit measures of it."""
        return self.root / "scores"

    @property
    def summary(self) -> Path:
        """What the oracle is made of, and what it cost."""
        return self.root / "oracle.json"

    @property
    def joined(self) -> Path:
        """The scores of all members in one table."""
        return self.root / "scores.parquet"

    def claim(self, member: str) -> Path:
        """A file that whoever makes a member keeps locked meanwhile."""
        return self.root / "claims" / member

    def seconds(self, member: str) -> Path:
        """What a member cost, which differs from run to run."""
        return self.root / "runs" / "measured" / f"{member}.json"
