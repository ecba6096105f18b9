"""The bench of a search carries out its trials: it unlearns and evaluates in memory, on tune data only.

Each worker loads data, partition and Original once, and makes a bench of them. Nothing here looks at forget_report
or test.
"""

import copy
import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from srun.config import Section, build, config, flatten, override
from srun.data.sequences import Queries
from srun.errors import ConfigError, DataError
from srun.evaluation.evaluate import EvaluateConfig
from srun.evaluation.probe import Probe
from srun.metrics.ranking import EventRanks, hit
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.search.goals import Figures, Goal, read_goal
from srun.search.results import describe_goal
from srun.search.space import Domain, Space
from srun.search.study import LimitsConfig, Sampler, Search, Tell, open_study
from srun.system.devices import out_of_memory_hint
from srun.system.meter import Cost
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context, Original
from srun.unlearning.sruga.stopping import Match

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

TUNE = ("validation", "forget_tune", "never_seen_tune", "in_category_tune", "out_of_category_tune")
"""Splits that a choice may look at."""
FORGET, INSIDE, OUTSIDE = "forget_tune/hit_10", "in_category_tune/hit_10", "out_of_category_tune/hit_10"
DISTANCE = "match/distance"
Kind = Literal["interactions", "users", "category"]


@config
class OptimizeConfig:
    """What is searched, after what, and for how long."""

    method: str
    objective: tuple[str, ...]
    """Names of ``objectives``, or texts as there."""
    trials: Annotated[int, Field(ge=1)]
    """Finished trials, over all workers and all runs of the command."""
    timeout: Annotated[float, Field(gt=0)] | None
    """Seconds after which a command begins no new trial; null: none."""
    evaluate_every: Annotated[int, Field(ge=1)]
    """Epochs between the looks of a trial that only its curve and the rules to end it early need."""
    sampler: Sampler
    seed: int
    limits: LimitsConfig
    objectives: dict[str, dict[Kind, tuple[str, ...]]]
    """Name -> kind of request -> objectives and constraints (see ``search.goals``)."""
    space: dict[str, dict[str, Domain]]
    """Method -> key of its block -> what is tried."""

    def texts(self, kind: str) -> list[str]:
        """The chosen objectives and constraints, for a kind of request."""
        texts = []
        for name in self.objective:
            if name not in self.objectives:
                texts.append(name)
                continue
            by_kind = {str(key): texts_ for key, texts_ in self.objectives[name].items()}
            if kind not in by_kind:
                raise ConfigError(f'optimize.objectives.{name}: not defined for requests of kind "{kind}"')
            texts += by_kind[kind]
        return texts


class Bench:
    """Carries out trials of one cell; what they share is given once."""

    def __init__(
        self,
        *,
        cell: Mapping[str, Any],
        settings: Section,
        seed: int,
        request: Partition,
        original: Original,
        original_sha256: str,
        evaluation: EvaluateConfig,
        evaluate_every: int,
        device: torch.device,
    ) -> None:
        """``cell``: the row of the comparison, as a study records it; ``settings``: its method's block of params.yaml;
        ``seed``: of unlearning.

        Raises ConfigError where the method cannot carry out the request, DataError where nothing may be chosen by it.
        """
        self.device, self.cell, self.settings = device, cell, settings
        self.method = UNLEARNERS[cell["method"]]
        self.evaluate_every, self.request, self.original = evaluate_every, request, original
        self.method(settings).require(original, request)
        if not len(request.queries("forget_tune")):
            raise DataError(f'request "{cell["request"]}" has no tune half, by which alone settings may be chosen')
        self.seed = cell["seed"] if self.method.from_scratch else seed
        self.sha256 = original_sha256
        self.probe = _RememberingProbe(
            original.scorer, request.splits, request.data.max_length, device, evaluation.batch_size
        )
        self.match = Match(request, self._context(lambda row: None))
        self.num_positions = int(request.retain.sum())
        unseen = [self.probe.ranks(original.scorer, queries).rank for queries in self.match.unseen]
        self.level = hit(np.concatenate(unseen), 10)
        """Hit@10 of comparable never-seen events under Original: a stand-in for Retrain's."""
        self.before = self._measure(original.scorer, Cost(), None)

    @property
    def references(self) -> dict[str, Figures]:
        """What ``of NAME`` stands for in objectives and constraints."""
        return {"original": self.before, "never_seen": {FORGET: self.level}}

    @property
    def base(self) -> dict[str, Any]:
        """The method's block as it stands, by dotted key."""
        return flatten(dataclasses.asdict(self.settings))

    def __call__(self, overrides: Mapping[str, Any], tell: Tell) -> Figures:
        """Unlearn with some settings changed, and measure on tune data; by result key."""
        settings = self._with_fewer_looks(with_overrides(self.cell["method"], self.settings, overrides))

        def on_epoch(row: Mapping[str, float]) -> None:
            tell(self._with_distance(row))

        with out_of_memory_hint(f"unlearn.{self.cell['method']}.batch_size"):
            result = self.method(settings).unlearn(self.original, self.request, self._context(on_epoch))
            return self._measure(result.scorer, result.cost, self.before)

    def about(self, goal: Goal, space: Mapping[str, Domain]) -> dict[str, Any]:
        """What all trials of a study have in common."""
        return {
            "cell": dict(self.cell),
            "goal": describe_goal(goal),
            "space": {key: vars(domain) for key, domain in space.items()},
            "settings": dataclasses.asdict(self.settings),
            "unlearning_seed": self.seed,
            "fingerprint": self.request.data.fingerprint,
            "dataset": self.request.data.info["name"],
            "model": self.original.description["name"],
            "request": self.request.info,
            "original_sha256": self.sha256,
            "level": {FORGET: self.level},
            "original": dict(self.before),
        }

    def _context(self, on_epoch: Callable[[Mapping[str, float]], None]) -> Context:
        return Context.quiet(self.device, self.seed, self.probe, on_epoch=lambda row, epoch, cap: on_epoch(row))

    def _with_fewer_looks(self, settings: Section) -> Section:
        """Settings that do the same: looks of a stop rule are part of a method, and those of ``fixed`` are not."""
        if not hasattr(settings, "evaluate_every") or getattr(settings, "stop", "fixed") != "fixed":
            return settings
        return dataclasses.replace(settings, evaluate_every=self.evaluate_every)

    def _with_distance(self, row: Mapping[str, float]) -> dict[str, float]:
        return {**row, **({DISTANCE: abs(row[FORGET] - self.level)} if FORGET in row else {})}

    def _measure(self, scorer: Scorer, cost: Cost, before: Figures | None) -> dict[str, float]:
        """All result keys; ``before``: those of Original, None for itself."""
        figures: dict[str, float] = {}
        for split in TUNE:
            if split in self.request.splits:
                figures |= self.probe(scorer, split)
        look = self.match.look(scorer, 0)
        figures |= {key: look[key] for key in ("forget_tune/match_ks", "forget_tune/match_better")}
        figures |= against(figures, before or figures)
        figures["cost/training_epochs"] = cost.target_gradients / self.num_positions
        figures |= {"cost/scored_positions": float(cost.scored_positions), "cost/seconds": cost.seconds}
        return self._with_distance(figures)


class _RememberingProbe(Probe):
    """A probe that ranks by the same weights once: by those of Original, where every trial begins, and the latest."""

    def __init__(
        self,
        original: Scorer,
        splits: dict[str, Queries],
        max_length: int,
        device: torch.device,
        batch_size: int,
    ) -> None:
        super().__init__(splits, max_length, device, batch_size)
        self._original, self._latest = _digest(original), b""
        self._known: dict[tuple[bytes, str | int], EventRanks] = {}

    def _ranks(self, scorer: Scorer, source: str | Queries, users: NDArray[np.bool_] | None) -> EventRanks:
        if users is not None:
            return super()._ranks(scorer, source, users)
        weights = _digest(scorer)
        if weights not in (self._original, self._latest):
            self._known = {key: ranks for key, ranks in self._known.items() if key[0] == self._original}
            self._latest = weights
        # the ids stay those of these queries, which the probe keeps
        key = weights, source if isinstance(source, str) else id(source)
        if key not in self._known:
            self._known[key] = super()._ranks(scorer, source, None)
        return copy.deepcopy(self._known[key])


def _digest(scorer: Scorer) -> bytes:
    """Fingerprint of all that a scorer's scores depend on; the same whether an equal output table is tied or not."""
    digest = hashlib.blake2b(digest_size=16)
    tensors: list[Any] = [scorer.catalogue, scorer.masked]
    for model in scorer.models:
        weights = {**model.state_dict(), "output.weight": model.output_weight}
        tensors += [weights[name] for name in sorted(weights)]
    for tensor in tensors:
        digest.update(b"none" if tensor is None else tensor.detach().cpu().contiguous().numpy())
    return digest.digest()


def against(figures: Figures, before: Figures) -> dict[str, float]:
    """Of a category: the share of its hits that is gone, and the share of the others' that is kept."""
    if INSIDE not in figures or OUTSIDE not in figures:
        return {}
    return {
        "in_category_tune/removal_10": 1 - _ratio(figures[INSIDE], before[INSIDE]),
        "out_of_category_tune/kept_10": _ratio(figures[OUTSIDE], before[OUTSIDE]),
    }


def _ratio(after: float, before: float) -> float:
    return after / before if before else math.nan


def with_overrides(method: str, settings: Section, overrides: Mapping[str, Any]) -> Section:
    """A method's settings with some keys (dotted, from the root) changed; ConfigError where they do not go together."""
    values = {"unlearn": {method: dataclasses.asdict(settings)}}
    for key, value in overrides.items():
        override(values, key, value)
    return build(type(settings), values["unlearn"][method], f"unlearn.{method}")


def make_space(settings: OptimizeConfig, bench: Bench) -> Space:
    """The space of the bench's method; raises ConfigError where there is none."""
    method = bench.cell["method"]
    return Space(f"unlearn.{method}", bench.base, settings.space.get(method, {}))


def make_goal(settings: OptimizeConfig, bench: Bench) -> Goal:
    """The chosen objectives, with the figures of Original filled in; their keys are checked."""
    goal = read_goal(settings.texts(bench.request.kind), bench.references)
    goal.values(bench.before)
    goal.violations(bench.before)
    return goal


def search(
    bench: Bench, settings: OptimizeConfig, name: str, storage: "BaseStorage", after: Callable[["Study"], object]
) -> "Study":
    """Work on the study of a name until it has its trials; ``after`` follows each."""
    study, space, goal = join(bench, settings, name, storage)
    worker = Search(study, space, goal, settings.limits, settings.sampler, settings.seed)
    worker.run(bench, settings.trials, settings.timeout, lambda: after(study))
    return study


def join(bench: Bench, settings: OptimizeConfig, name: str, storage: "BaseStorage") -> tuple["Study", Space, Goal]:
    """Create the study of a name, or find it; ConfigError where it was begun otherwise."""
    space, goal = make_space(settings, bench), make_goal(settings, bench)
    about = bench.about(goal, settings.space[bench.cell["method"]])
    return open_study(storage, name, goal, about), space, goal
