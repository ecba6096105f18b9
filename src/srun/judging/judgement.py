"""judgement.json: every figure that a table, a picture or the page shows, as numbers with names.

Figures are computed in this package, once; ``srun.reporting`` renders this file and computes nothing. No user and no
event is in it.
"""

from pathlib import Path
from typing import Literal

from pydantic import JsonValue, TypeAdapter, ValidationError

from srun.config import config
from srun.errors import DataError
from srun.files import read_json
from srun.judging.verdict import Verdict
from srun.metrics.forgetting import ForgetQuality, LevelError
from srun.metrics.memory import MemoryQuality
from srun.metrics.power import Power, RuleError
from srun.metrics.recovered import FileQuality

Lack = Literal["undefined", "infinite"]
Section = Literal["prepare", "train", "model", "unlearn"]


@config
class Estimate:
    """A figure of a method over its training seeds."""

    mean: float | None
    """None where a seed's value is no finite number."""
    spread: float | None
    """Sample standard deviation over seeds; None for fewer than two, and without a mean."""
    by_seed: dict[int, float | None]
    lacks: Lack | None = None
    """Why there is no mean: a value is NaN, or else one is infinite."""


@config
class Bounds:
    """The ends of a 95 % interval."""

    low: float
    high: float


@config
class Band:
    """Where one more Retrain would be expected (95 %): the mean of those there are, and ``bound`` to either side."""

    mean: float
    bound: float
    low: float
    high: float


@config
class Quality:
    """How a method's ranks stand to the Retrains', over its seeds, by the bounds of the pooled rule.

    Ranks are of forgotten events; Retrain's stand to each other.
    """

    gap: float
    """Mean over seeds of its Hit@10 less the Retrains' mean; 0 of Retrain itself."""
    gap_bound: float | None
    """Half-width of Retrain's interval; None of Retrain itself where there are too few."""
    ks_d: float
    ks_d_limit: float
    """The largest distance that the Retrains have among themselves."""
    ks_p: tuple[float, ...]
    """By row, in the order of the seeds."""


@config
class JudgedRow:
    """One row of a method."""

    cell: str
    original: str
    seed: int
    verdict: Verdict | None
    """None for raw scores."""
    pooled: str
    """What the pooled rule alone says: ``passes``, ``fails`` or ``not judged``; empty where it has no ranks."""
    quality: ForgetQuality | None
    file: FileQuality | None
    """What attacks have back of its file; None where it was not attacked, or with too few Retrains."""
    memory: MemoryQuality | None
    """What is left of the memory of single events; None without an Original of another seed."""
    level: LevelError | None
    """How well the level is known that it aims at; None for a method that aims at none."""


@config
class Point:
    """A row where utility and suppression are drawn against each other."""

    seed: int
    suppression: float
    utility: float


@config
class MethodFigures:
    """Everything that is said of a method on one model and request."""

    method: str
    seeds: tuple[int, ...]
    words: str
    """Its verdict, or those of its seeds counted, as tables show them."""
    pooled: str
    """What the pooled rule alone says, seeds counted; empty where it has no ranks."""
    over_unlearning: bool
    """Whether it is a method (no control, no reference) that over-unlearns, in at least one seed."""
    rows: tuple[JudgedRow, ...]
    figures: dict[str, dict[str, Estimate]]
    """By split and metric, as in results.csv."""
    intervals: dict[str, dict[str, Bounds]]
    """By split and metric: of a bootstrap over users, of the mean over seeds."""
    cost: dict[str, Estimate]
    """As in results.csv; a measure that no row has is not there."""
    quality: Quality | None
    points: tuple[Point, ...]
    utility_of_retrain: float | None
    """Mean test NDCG@10 over Retrain's."""

    def figure(self, split: str, metric: str) -> Estimate | None:
        """A figure over seeds; None where no row has it."""
        return self.figures.get(split, {}).get(metric)


@config
class Split:
    """Sizes of a split, and its ranking metrics in the order of a table."""

    num_users: int
    num_events: int
    metrics: tuple[str, ...]


@config
class Series:
    """One figure over epochs; ``kept`` is the place of the epoch whose weights were kept."""

    epochs: tuple[float, ...]
    values: tuple[float, ...]
    kept: int


@config
class Curve:
    """The curves of one training or unlearning, by key such as ``validation/ndcg_10``."""

    method: str
    from_scratch: bool
    """Whether it was trained, not unlearned from Original."""
    series: dict[str, Series]


@config
class Across:
    """What a panel of curves is held against: the means of Original and Retrain, and Retrain's interval."""

    original: float | None
    retrain: float | None
    interval: Band | None


@config
class Comparison:
    """The comparison of one model and request."""

    model: str
    request: str
    kind: str
    categories: tuple[str, ...]
    num_users: int
    num_forget: int
    num_retain: int
    num_items: int | None
    """How many items the models rank; None where they do not say."""
    num_retrains: int
    """Those with a forget Hit@10."""
    interval: Band | None
    """Retrain's interval of forget Hit@10; None with too few Retrains, and for a category, which has no such rule."""
    splits: dict[str, Split]
    """Those that have events."""
    methods: tuple[MethodFigures, ...]
    curves: tuple[Curve, ...]
    across: dict[str, Across]
    """By key of the curves of unlearning."""
    headline: str
    """Passes and fails of every method over its seeds, in a sentence without its end."""
    standing: str
    """What limits every verdict; empty where nothing does."""
    tests: str
    """Which tests every verdict joins, what they see and how often they err, in sentences; empty for a category."""
    power: dict[str, Power]
    """What each part of a verdict sees; empty where that was not measured."""
    rule_error: RuleError | None
    """How often a true Retrain fails a verdict; None with fewer than four Retrains."""
    original_not_above: bool
    """Whether an Original's hits do not lie above Retrain's interval, so that hits cannot show success."""
    has_relearning: bool
    to_judge: str
    """The command that makes the Retrains which a verdict lacks; empty where there are enough."""

    def method(self, name: str) -> MethodFigures | None:
        """A method's figures; None where it has no row."""
        return next((figures for figures in self.methods if figures.method == name), None)


@config
class OriginalFacts:
    """What a model cost before any request."""

    name: str
    seed: int
    shards: int
    seconds: float | None
    """None where they were not measured."""
    scored_positions: float | None
    target_gradients: float


@config
class Facts:
    """What was run."""

    fingerprint: str
    requests: dict[str, dict[str, JsonValue]]
    """Settings and counts by request; of named users only how many."""
    originals: tuple[OriginalFacts, ...]
    shards_retrained: dict[str, tuple[int, int]]
    """By cell: how many shards were trained again, of how many."""
    versions: tuple[str, ...]
    machines: tuple[dict[str, str], ...]


@config
class Settings:
    """A block of settings: ``name`` is the model's or method's, empty for ``prepare`` and ``train``."""

    section: Section
    name: str
    values: dict[str, JsonValue]
    """By dotted key below the block."""


@config
class Judgement:
    """All comparisons of a report, and what was run for them."""

    dataset: str
    comparisons: tuple[Comparison, ...]
    facts: Facts
    settings: tuple[Settings, ...]
    missing: tuple[str, ...]
    """Rows that were left out, with the command that makes each."""


_JUDGEMENT = TypeAdapter(Judgement)


def to_json(judgement: Judgement) -> str:
    """The judgement as JSON; every float is read back as it was."""
    return _JUDGEMENT.dump_json(judgement, indent=1).decode() + "\n"


def read_judgement(file: Path) -> Judgement:
    """Read what ``srun judge`` wrote; raises DataError where it is not there or is no judgement."""
    mend = "make it again with `srun judge`"
    if not file.is_file():
        raise DataError(f"{file} is not there; make it with `srun judge`")
    read_json(file, DataError, mend)
    try:
        return _JUDGEMENT.validate_json(file.read_bytes())
    except ValidationError as error:
        where = ascii(".".join(map(str, error.errors()[0]["loc"])))[1:-1][:80]
        raise DataError(f"{file}: {where}: not what `srun judge` writes; {mend}") from error
