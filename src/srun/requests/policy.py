"""How a service carries out requests: its section of params.yaml."""

from typing import Annotated

from pydantic import Field

from srun.config import config

Share = Annotated[float, Field(gt=0, le=1)]


@config
class MethodsConfig:
    """Methods by kind of request, in the order in which they are tried; `retrain` is the last of each."""

    events: tuple[str, ...]
    users: tuple[str, ...]
    """Whole users."""
    items: tuple[str, ...]
    """Everybody's events of items or of a category."""

    def __post_init__(self) -> None:
        for kind, names in vars(self).items():
            if not names or names[-1] != "retrain" or "retrain" in names[:-1]:
                raise ValueError(f"{kind}: the last method, and only the last, is retrain, which needs no other judge")


@config
class GateConfig:
    """What a model has to be before it is promoted."""

    utility: Share
    """Its test NDCG@10 over the anchor's, on the same targets."""
    min_targets: Annotated[int, Field(ge=1)]
    """With fewer test targets ``weak_utility`` stands in its place."""
    weak_utility: Share
    retrained_utility: Share
    """The same of a Retrain, which is checked for sanity only."""
    error_rate: Annotated[float, Field(gt=0, lt=1)]
    """Of all tests together: the chance that a model without any memory of the events fails."""
    draws: Annotated[int, Field(ge=20)]
    """Of never-seen events, in the number of the forgotten ones."""
    simulated: Annotated[int, Field(ge=0)]
    """Requests that a method is qualified by, judged together; 0: none is qualified."""


@config
class ServiceConfig:
    """How a service carries out deletion requests (docs/requests.md)."""

    original: str | None
    """Entry of `originals` that is served; null for the first."""
    methods: MethodsConfig
    due_days: Annotated[float, Field(gt=0)]
    """Within which a request is to be carried out."""
    gate: GateConfig
    dvc: bool
    """Whether new versions of the log are given to DVC, by `dvc add`."""
