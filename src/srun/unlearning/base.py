"""The contract of every way to unlearn, Retrain and SISA included."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import torch

from srun.config import build, config
from srun.data.dataset import Dataset, Mask
from srun.data.sequences import Queries
from srun.errors import ConfigError, RunError
from srun.metrics.ranking import EventRanks
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer, model_description
from srun.requests.partition import Partition
from srun.system.meter import Cost, Meter
from srun.training.checkpoint import NoResume, ResumeFolder
from srun.training.fit import OnEpoch, TrainConfig
from srun.training.shards import Shards
from srun.unlearning.crossfit import CrossFit
from srun.unlearning.prepared import Prepared

Settings = TypeVar("Settings")
Role = Literal["original", "reference", "method", "control"]
FileHolds = Literal["nothing", "states", "original"]
"""What attacks on a method's file are to find of forgotten events (``evaluation.recovery``), beside Retrains' files.

``original``: Original itself; scored by one of its own tables the file gives Original's ranks. ``states``: more than a
Retrain's file, from Original's states, or tables that remember. ``nothing``: no more than a Retrain's file.
"""


@dataclass(frozen=True)
class Original:
    """The model trained on everything, and how it was trained."""

    scorer: Scorer
    info: dict[str, Any]
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What it keeps for requests: shards and slices that were not drawn at random, and the states before slices."""
    crossfit: CrossFit | None = None
    """Where every training event stands under a model that never saw its user; from a private place, if it is there."""
    prepared: Prepared | None = None
    """What requests have in common, at hand before one is known; private too."""

    @property
    def model(self) -> SequenceModel:
        return self.scorer.model

    @property
    def description(self) -> dict[str, Any]:
        """Name, settings and sizes of the model, to make another of the kind."""
        return model_description(self.scorer.models[0])

    @property
    def recipe(self) -> TrainConfig:
        """The training recipe, which Retrain and SISA repeat."""
        return build(TrainConfig, self.info["train"], "train")

    def require_crossfit(self) -> CrossFit:
        """The table of cross-fitted models, or ConfigError that says how to make it."""
        if self.crossfit is None:
            raise ConfigError(
                "the table of cross-fitted models of this Original was not given: make it by `srun levels`, or let the "
                "level be predicted without it (level_from=retained)"
            )
        return self.crossfit

    def shards(self, data: Dataset) -> Shards:
        """Which shard every user was in when it was trained."""
        if self.parts:
            return Shards.load(self.parts)
        return Shards.draw(data.num_users, self.info["shards"], self.info["seed"])


class Probe(Protocol):
    """Metrics of a scorer on a split, with keys such as ``forget_tune/hit_10``, of ``users`` (U,) only if given."""

    def __call__(self, scorer: Scorer, split: str, users: Mask | None = None) -> dict[str, float]: ...

    def ranks(self, scorer: Scorer, source: str | Queries) -> EventRanks:
        """Ranks (Q,) of a split's queries, or of others, in their order; empty without queries."""

    def positions(self, source: str | Queries, users: Mask | None = None) -> int:
        """Real input positions that one look passes forward; they count a third of a target gradient each."""

    def queries(self, source: str | Queries, users: Mask | None = None) -> int:
        """Queries that one look scores the whole catalogue for."""


class NoProbe:
    """Measures nothing, for methods that never have to look at the model; raises RunError for one that has to."""

    def __call__(self, scorer: Scorer, split: str, users: Mask | None = None) -> dict[str, float]:
        """No figures: curves stay empty."""
        return {}

    def ranks(self, scorer: Scorer, source: str | Queries) -> EventRanks:
        raise RunError(self._message(source))

    def positions(self, source: str | Queries, users: Mask | None = None) -> int:
        raise RunError(self._message(source))

    def queries(self, source: str | Queries, users: Mask | None = None) -> int:
        raise RunError(self._message(source))

    @staticmethod
    def _message(source: str | Queries) -> str:
        split = source if isinstance(source, str) else "its own queries"
        return f"this method looks at {split}, and its context has no probe; give Context.quiet one"


@dataclass(frozen=True)
class Context:
    """What a method is given beside its settings."""

    device: torch.device
    seed: int
    """Training seed for methods that train from scratch, unlearning seed for the others."""
    probe: Probe
    """Measures a scorer on ``validation`` or ``forget_tune``."""
    on_epoch: OnEpoch
    resume: ResumeFolder
    meter: Meter
    """Counts what the run costs; what it reads at the end goes into the ``Result``."""
    together: bool = False
    """Train several models of one shape as one."""

    @classmethod
    def quiet(
        cls,
        device: torch.device,
        seed: int,
        probe: Probe | None = None,
        resume: ResumeFolder | None = None,
        on_epoch: OnEpoch = lambda row, epoch, cap: None,
    ) -> "Context":
        """A context for tests and inner runs: unless it is given more, it measures, saves and tells nothing."""
        return cls(device, seed, probe or NoProbe(), on_epoch, resume or NoResume(), Meter())


@dataclass(frozen=True)
class Result:
    """What a method returns: what is ranked from now on, its cost (``context.meter.read()``), and its curves."""

    scorer: Scorer
    cost: Cost
    history: list[dict[str, float]] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)


def catalogue_mask(request: Partition, context: Context) -> torch.Tensor | None:
    """(V+1,) the items that training on the retain set may score, on the device; None means all."""
    return None if request.catalogue is None else torch.from_numpy(request.catalogue).to(context.device)


@config
class NothingConfig:
    """For methods without settings."""


@dataclass(frozen=True)
class Start:
    """What is known of an Original and a request before either is made: enough to tell what cannot be carried out."""

    kind: str
    """Of request."""
    model: type[SequenceModel]
    recipe: TrainConfig
    num_shards: int

    @classmethod
    def of(cls, original: Original, request: Partition) -> "Start":
        """The same of an Original and a request that are there."""
        models = original.scorer.models
        return cls(request.kind, type(models[0]), original.recipe, len(models))


class Unlearner(Generic[Settings]):
    """A way to unlearn. ``Config`` is its block in params.yaml; the original is never changed."""

    Config: ClassVar[type[Any]]
    title: ClassVar[str]
    """Its name in tables, figures and on the page."""
    role: ClassVar[Role] = "method"
    colour: ClassVar[str]
    """In figures, as ``#RRGGBB``; a palette such as Okabe and Ito's stays distinct for colour-blind eyes."""
    marker: ClassVar[str]
    """In figures, of matplotlib's: it tells methods apart in print."""
    about: ClassVar[str]
    """What it does, in a clause, for the page."""
    kinds: ClassVar[tuple[str, ...]] = ("interactions", "category", "users")
    """Kinds of request it is defined for."""
    from_scratch: ClassVar[bool] = False
    """Whether it trains anew, so that its seed is a training seed."""
    one_model: ClassVar[bool] = False
    """Whether it starts from a single model, not from one for each shard."""
    needs_shards: ClassVar[bool] = False
    """Whether it starts from a model for each of several shards."""
    masks_only: ClassVar[bool] = False
    """Whether it changes no weight and only hides items; figures that lift masks are held against such a control."""
    needs_neurons: ClassVar[bool] = False
    """Whether it starts from a model with feed-forward neurons."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def file_holds(self) -> FileHolds:
        """What is expected of its file: an attribute of every class, or a property where settings decide.

        A test attacks the file of every method: one that holds nothing must pass, and the others be seen to fail.
        """
        raise NotImplementedError(type(self).__name__)  # abstract, as unlearn is

    @property
    def chains(self) -> bool:
        """Whether it can carry out a request after another one: on one model, on its own result or from scratch."""
        return self.one_model or self.role == "original" or (self.from_scratch and not self.needs_shards)

    @property
    def predicts_levels(self) -> bool:
        """Whether its settings ask for a level by event, which is learned from events set aside."""
        return False

    @property
    def needs_crossfit(self) -> bool:
        """Whether its settings ask for ``Original.crossfit``."""
        return False

    def faults(self, start: Start) -> Iterator[str]:
        """Why it cannot carry out a request from a start, a text a reason; a subclass adds what its settings rule out.

        The flow asks before anything is trained, so that no mistake shows after hours of work.
        """
        if start.kind not in self.kinds:
            yield f'it is not defined for requests of kind "{start.kind}"; expected {", ".join(self.kinds)}'
        if self.one_model and start.num_shards > 1:
            yield f"it starts from one model, and the Original has {start.num_shards} shards; name one with shards 1"
        if self.needs_shards and start.num_shards == 1:
            yield (
                f"{self.title} needs an Original trained in shards: set its shards above 1, as originals.sasrec-sisa "
                "has them"
            )
        if self.needs_neurons and not start.model.has_neurons:
            yield (
                f"{start.model.__name__} has no feed-forward neurons, so there is nothing to attribute; "
                "start from a SASRec or BERT4Rec Original"
            )

    def require(self, original: Original, request: Partition) -> None:
        """Raise ConfigError with what ``faults`` says of an Original and a request that are there."""
        if faults := list(self.faults(Start.of(original, request))):
            raise ConfigError(*faults)

    def unlearn(self, original: Original, request: Partition, context: Context) -> Result:
        """Carry out ``request``; raises RunError when the numbers break down."""
        raise NotImplementedError(type(self).__name__)  # abstract: every entry of UNLEARNERS overrides it
