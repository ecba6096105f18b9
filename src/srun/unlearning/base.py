"""The contract of every way to unlearn, Retrain and SISA included."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from srun.config import build, config
from srun.data.dataset import Dataset, Mask
from srun.data.sequences import Queries
from srun.errors import ConfigError
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer, model_description
from srun.requests.partition import Partition
from srun.training.checkpoint import ResumeFolder
from srun.training.fit import Cost, TrainConfig
from srun.training.shards import Shards

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Original:
    """The model trained on everything, and how it was trained."""

    scorer: Scorer
    info: dict[str, Any]
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What it keeps for requests: shards and slices that were not drawn at random, and the states before slices."""

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

    def shards(self, data: Dataset) -> Shards:
        """Which shard every user was in when it was trained."""
        if self.parts:
            return Shards.load(self.parts)
        return Shards.draw(data.num_users, self.info["shards"], self.info["seed"])


class Probe(Protocol):
    """Metrics of a scorer on a split, with keys such as ``forget_tune/hit_10``, of ``users`` (U,) only if given."""

    def __call__(self, scorer: Scorer, split: str, users: Mask | None = None) -> dict[str, float]: ...

    def ranks(self, scorer: Scorer, what: str | Queries) -> NDArray[np.float64]:
        """Ranks (Q,) of a split's queries, or of others, in their order; empty without queries."""

    def positions(self, what: str | Queries, users: Mask | None = None) -> int:
        """Real input positions that one look passes forward; they count a third of a target gradient each."""

    def queries(self, what: str | Queries, users: Mask | None = None) -> int:
        """Queries that one look scores the whole catalogue for."""


@dataclass(frozen=True)
class Context:
    """What a method is given beside its settings."""

    device: torch.device
    seed: int
    """Training seed for methods that train from scratch, unlearning seed for the others."""
    probe: Probe
    """Measures a scorer on ``validation`` or ``forget_tune``."""
    on_epoch: Callable[[dict[str, float], int, int], None]
    """Is told of every epoch: its figures, its number and the cap."""
    resume: ResumeFolder
    together: bool = False
    """Train several models of one shape as one."""


@dataclass(frozen=True)
class Result:
    """What a method returns: what is ranked from now on, what it cost, and its curves."""

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
    kinds: ClassVar[tuple[str, ...]] = ("interactions", "category", "users")
    """Kinds of request it is defined for."""
    from_scratch: ClassVar[bool] = False
    """Whether it trains anew, so that its seed is a training seed."""

    one_model: ClassVar[bool] = False
    """Whether it starts from a single model, not from one for each shard."""
    needs_neurons: ClassVar[bool] = False
    """Whether it starts from a model with feed-forward neurons."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def faults(self, start: Start) -> Iterator[str]:
        """Why it cannot carry out a request from a start, a text a reason; a subclass adds what its settings rule out.

        The flow asks before anything is trained, so that no mistake shows after hours of work.
        """
        if start.kind not in self.kinds:
            yield f'it is not defined for requests of kind "{start.kind}"; expected {", ".join(self.kinds)}'
        if self.one_model and start.num_shards > 1:
            yield f"it starts from one model, and the Original has {start.num_shards} shards; name one with shards 1"
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
