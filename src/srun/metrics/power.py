"""Power: from which share of Original on would a test see it? By mixing ranks of true Retrains, without training.

Each Retrain plays the model once and is held against the others: its ranks of a random share of users are put back to
Original's, or its z_rank of every event is moved that share of the way. The smallest share that fails in 80 % of draws
is x*. It is set on one half of these pairs (Retrains and Originals) and checked on the other.

Shapes: Q events, U users, n Retrains, P pairs (one a Retrain), X shares, M draws, B distinct ranks.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srun.metrics.forgetting import (
    RankLimits,
    events_below,
    events_below_places,
    ks_of_retrains,
    ks_to_pools,
    one_sided_limit,
)
from srun.metrics.membership import Events, Signals, attack_scores, auc, placements
from srun.metrics.memory import MemoryGauge, memory_limit, z_rank
from srun.metrics.ranking import hit, hits

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Way = Literal["users", "z_rank"]
WAYS: tuple[Way, ...] = ("users", "z_rank")
"""What is put back to Original's: all events of a share of users; a share of the way of every event."""
SHARES = (0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
POWER = 0.8
"""Share of draws that must fail."""
BLIND = 0.20
"""A part that does not see so large a share cannot tell."""
LEAST_RETRAINS = 4
"""With fewer, a Retrain that is left out has no three others to be held against."""
DRAWS = 200
"""Of each share, in each half."""
LEFT_OUT = 4
"""References of a membership attack that are left out in turn, at most."""
CASES = 1600
"""True Retrains that are simulated for the error rate of a rule."""


@dataclass(frozen=True)
class References:
    """What mixtures are made of and held against: ranks of forgotten events, by model."""

    retrains: Floats  # (n, Q)
    originals: Floats  # (O, Q)
    users: NDArray[np.integer]  # (Q,)
    num_items: int
    others: tuple[int | None, ...]
    """By Original, the row of one of another seed; None where there is none."""
    features: Floats | None = None
    """(Q, X) from retained data; with these and ``draws``, memory of single events is gauged."""
    draws: Floats | None = None
    """(B, Q) of ``metrics.memory.user_draws``."""
    memory_highs: tuple[float, ...] = ()
    """By Retrain, its upper bound of memory left; empty where memory is not known."""


@dataclass(frozen=True)
class Pair:
    """A Retrain that plays the model, and the Original whose ranks are put back."""

    retrain: int
    original: int
    half: int
    """0: x* is set on it; 1: it is checked."""


@dataclass(frozen=True)
class Mixtures:
    """Figures of mixtures of one way: of all pairs, or of fewer."""

    hits: Floats  # (P, X, M)
    ks_d: Floats  # (P, X, M)
    memory_low: Floats | None  # (P, X, M) lower bounds of memory left
    aucs: Mapping[str, Floats]  # attack -> (P, X, M)


@dataclass(frozen=True)
class Attacked:
    """What membership attacks have of the models: by Retrain and by Original."""

    retrains: Sequence[Signals]
    originals: Sequence[Signals]
    events: Events


@dataclass(frozen=True)
class Threshold:
    """x* of one way, and how it holds on the other half."""

    share: float | None
    """None where not even the largest share is seen."""
    checked: float | None
    """Share of draws of the other half that fail at x*."""


@dataclass(frozen=True)
class Power:
    """What a part of a verdict, or all of it, sees."""

    users: Threshold
    z_rank: Threshold

    @property
    def blind(self) -> bool:
        """Whether it would not see what is put back for a fifth of users."""
        return self.users.share is None or self.users.share > BLIND


def pairs(num_retrains: int, num_originals: int) -> list[Pair]:
    """One pair a Retrain, in two halves that share no Retrain, and no Original where there are two or more."""
    halves = [[*range(half, num_originals, 2)] or [0] for half in (0, 1)]
    return [Pair(i, halves[i % 2][i // 2 % len(halves[i % 2])], i % 2) for i in range(num_retrains)]


def draw_users(users: NDArray[np.integer], share: float, number: int, rng: np.random.Generator) -> Bools:
    """(M, Q) which events are of a random share of the users (Q,), at least one of them, in each of M draws."""
    known, owner = np.unique(users, return_inverse=True)
    size = max(1, round(share * len(known)))
    order = rng.random((number, len(known))).argsort(axis=1).argsort(axis=1)
    return np.asarray((order < size)[:, owner])


def mix_z(retrain: Floats, original: Floats, share: float) -> Floats:
    """z_rank (Q,) of a model that is that share of the way from a Retrain to Original."""
    return (1 - share) * retrain + share * original


def whole_ranks(z: Floats, num_items: int) -> Floats:
    """(Q,) the ranks that z_rank stands for, rounded to whole ones: what float noise split is tied again."""
    return np.asarray(np.clip(np.rint(0.5 + num_items / (1 + np.exp(z))), 1, num_items))


def mixtures(references: References, seed: int, attacked: Attacked | None = None) -> dict[Way, Mixtures]:
    """Mix every pair at every share, both ways, and measure what comes of it; at least 4 Retrains and an Original."""
    chosen = pairs(len(references.retrains), len(references.originals))
    number = math.ceil(DRAWS / (len(chosen) // 2))
    worlds = [_Pair(references, pair, attacked) for pair in chosen]
    measured: dict[Way, list[Mixtures]] = {
        "users": [world.of_users(number, np.random.default_rng([seed, world.pair.retrain])) for world in worlds],
        "z_rank": [world.of_z_rank() for world in worlds],
    }
    return {way: _stacked(parts) for way, parts in measured.items()}


def _stacked(parts: Sequence[Mixtures]) -> Mixtures:
    """Mixtures of all shares, or of all pairs, one above the other; memory only where all have it."""
    lows = [part.memory_low for part in parts if part.memory_low is not None]
    return Mixtures(
        np.stack([part.hits for part in parts]),
        np.stack([part.ks_d for part in parts]),
        np.stack(lows) if len(lows) == len(parts) else None,
        {attack: np.stack([part.aucs[attack] for part in parts]) for attack in parts[0].aucs},
    )


class _Pair:
    """One pair: what its mixtures are held against is prepared once."""

    def __init__(self, references: References, pair: Pair, attacked: Attacked | None) -> None:
        self.pair, self.users, self.num_items = pair, references.users, references.num_items
        self.retrain, self.original = references.retrains[pair.retrain], references.originals[pair.original]
        self.others = np.delete(references.retrains, pair.retrain, axis=0)
        self.z = z_rank(self.retrain, self.num_items), z_rank(self.original, self.num_items)
        self.gauge = self._gauge(references)
        self.attacked = attacked

    def _gauge(self, references: References) -> MemoryGauge | None:
        other = references.others[self.pair.original]
        if other is None or references.features is None or references.draws is None or not references.memory_highs:
            return None
        z_other, z_retrains = (z_rank(part, self.num_items) for part in (references.originals[other], self.others))
        return MemoryGauge.of(self.z[1], z_other, z_retrains, references.features, references.draws)

    def of_users(self, number: int, rng: np.random.Generator) -> Mixtures:
        """Figures (X, M) where random users are put back."""
        parts = []
        for share in SHARES:
            back = draw_users(self.users, share, number, rng)
            low = self._memory_low(np.where(back, self.z[1], self.z[0]))
            parts.append(Mixtures(self._hits(back), self._ks_of_users(back), low, self._aucs_of_users(back)))
        return _stacked(parts)

    def of_z_rank(self) -> Mixtures:
        """Figures (X, 1) where every event is moved a share of the way."""
        parts = []
        for share in SHARES:
            z = mix_z(self.z[0], self.z[1], share)[None]
            ranks = whole_ranks(z, self.num_items)
            hit_10 = hits(ranks, 10).mean(1)
            parts.append(Mixtures(hit_10, self._ks(ranks), self._memory_low(z), self._aucs_of_z(share)))
        return _stacked(parts)

    def _memory_low(self, z: Floats) -> Floats | None:
        return None if self.gauge is None else self.gauge.interval(z)[1]

    def _hits(self, back: Bools) -> Floats:
        return np.asarray(np.where(back, hits(self.original, 10), hits(self.retrain, 10)).mean(1))

    def _ks_of_users(self, back: Bools) -> Floats:
        values, place = np.unique(np.vstack([self.retrain, self.original, self.others]), return_inverse=True)
        place = place.reshape(-1, len(self.retrain))
        mixed = events_below_places(np.where(back, place[1], place[0]), len(values))
        return np.asarray(ks_to_pools(mixed, events_below_places(place[2:], len(values))).mean(1))

    def _ks(self, ranks: Floats) -> Floats:
        below = events_below(np.vstack([ranks, self.others]))
        return np.asarray(ks_to_pools(below[: len(ranks)], below[len(ranks) :]).mean(1))

    def _aucs_of_users(self, back: Bools) -> dict[str, Floats]:
        """The AUC is a mean over members, and each member's part of it is the Retrain's or Original's."""
        own, put_back = self.ends
        return {attack: np.where(back, put_back[attack], own[attack]).mean(1) for attack in own}

    @cached_property
    def ends(self) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """The placements of the Retrain alone, and of Original's events in it; nothing without signals."""
        return ({}, {}) if self.attacked is None else (self._placements(0.0), self._placements(1.0))

    def _aucs_of_z(self, share: float) -> dict[str, Floats]:
        if self.attacked is None:
            return {}
        return {attack: np.array([values.mean()]) for attack, values in self._placements(share).items()}

    def _placements(self, share: float) -> dict[str, Floats]:
        """Attack -> (Q,) share of never-seen events below each forgotten one, the mean over references left out.

        Of many, the first four are left out in turn.
        """
        assert self.attacked is not None
        events = self.attacked.events
        mixed = mix_signals(
            self.attacked.retrains[self.pair.retrain],
            self.attacked.originals[self.pair.original],
            events.member,
            share,
            self.num_items,
        )
        references = [one for place, one in enumerate(self.attacked.retrains) if place != self.pair.retrain]
        ways = (references[:j] + references[j + 1 :] for j in range(min(LEFT_OUT, len(references))))
        scores = [attack_scores(mixed, way, events) for way in ways]
        return {
            attack: np.mean(
                [placements(one[attack][events.member], one[attack][events.other]) for one in scores], axis=0
            )
            for attack in scores[0]
        }


def mix_signals(retrain: Signals, original: Signals, members: Bools, share: float, num_items: int) -> Signals:
    """A Retrain's signals (Q,), those of ``members`` moved a share of the way to Original's, in z_logit and z_rank."""
    if not share:
        return retrain
    z_logit = mix_z(retrain.z_logit, original.z_logit, share)
    z = mix_z(z_rank(retrain.rank, num_items), z_rank(original.rank, num_items), share)
    log_p = original.log_p if share == 1 else -np.logaddexp(0, -z_logit)
    rank = original.rank if share == 1 else whole_ranks(z, num_items)
    return Signals(
        np.where(members, log_p, retrain.log_p),
        np.where(members, z_logit, retrain.z_logit),
        np.where(members, rank, retrain.rank),
    )


def failures(
    references: References, mixed: Mixtures, alpha: float, attacked: Attacked | None = None
) -> dict[str, Bools]:
    """Part of a verdict -> (P, X, M) which mixtures fail it, where each test has the chance ``alpha``."""
    number = len(references.retrains)
    limits = []
    for i in range(number):
        others = np.delete(references.retrains, i, axis=0)
        limits.append(RankLimits.of([hit(row, 10) for row in others], ks_of_retrains(others), alpha))
    fails = {
        "hits": np.stack([limit.hits.outside(values) for limit, values in zip(limits, mixed.hits, strict=True)]),
        "ranks": mixed.ks_d > _column([limit.ks_d for limit in limits]),
    }
    if mixed.memory_low is not None:
        highs = references.memory_highs
        fails["events"] = mixed.memory_low > _column(
            [memory_limit([*highs[:i], *highs[i + 1 :]]) for i in range(number)]
        )
    if attacked is not None:
        aucs = _retrain_aucs(attacked)
        limits_of = {
            attack: _column([one_sided_limit(np.delete(values, i).tolist(), alpha) for i in range(number)])
            for attack, values in aucs.items()
        }
        fails["membership"] = np.any([mixed.aucs[attack] > limit for attack, limit in limits_of.items()], axis=0)
    return fails


def _column(values: Sequence[float]) -> Floats:
    """(P, 1, 1) a value a pair."""
    return np.array(values)[:, None, None]


def _retrain_aucs(attacked: Attacked) -> dict[str, Floats]:
    """Attack -> (n,) AUC of each Retrain, held against all others."""
    events, by_retrain = attacked.events, []
    for index, one in enumerate(attacked.retrains):
        others = [other for place, other in enumerate(attacked.retrains) if place != index]
        scores = attack_scores(one, others, events)
        by_retrain.append({attack: auc(own[events.member], own[events.other]) for attack, own in scores.items()})
    return {attack: np.array([aucs[attack] for aucs in by_retrain]) for attack in by_retrain[0]}


@dataclass(frozen=True)
class Failures:
    """Which mixtures fail which part of a verdict, by way and part: (P, X, M) each."""

    by_way: Mapping[Way, Mapping[str, Bools]]
    num_originals: int

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that ranks, or signals, decide."""
        return tuple(self.by_way["users"])

    def power(self, parts: Iterable[str]) -> Power:
        """What is seen by at least one of ``parts``, of which there is one or more."""
        names = tuple(parts)
        thresholds = []
        for way in WAYS:
            fails = np.any([self.by_way[way][part] for part in names], axis=0)
            half = np.array([pair.half for pair in pairs(len(fails), self.num_originals)])
            thresholds.append(threshold(fails, half))
        return Power(*thresholds)


def threshold(fails: Bools, half: NDArray[np.integer]) -> Threshold:
    """x* of mixtures (P, X, M): the smallest share from which on 80 % of half 0 fail, and the rate in half 1."""
    rates = fails[half == 0].mean((0, 2))  # (X,)
    missed = np.flatnonzero(rates < POWER)
    first = int(missed[-1]) + 1 if len(missed) else 0
    if first == len(SHARES):
        return Threshold(None, None)
    return Threshold(SHARES[first], float(fails[half == 1][:, first].mean()))


@dataclass(frozen=True)
class RuleError:
    """How often a true Retrain fails a verdict."""

    judged: int
    """Retrains that were judged by the others."""
    failed: int
    """Of these."""
    simulated: float
    """Share that fails when users are drawn again; parts that ranks do not decide, as they are."""


def simulated_failures(
    retrains: Floats, users: NDArray[np.integer], alphas: Sequence[float], rng: np.random.Generator, cases: int = CASES
) -> Bools:
    """(n, M) whether each of ``retrains`` (n, Q) fails by hits or ranks beside the others when users are drawn again.

    ``alphas`` (n,): the chance of each test of its verdict. All models have the same draw, so that what a training's
    seed does to all users stays in it. n >= 4.
    """
    number = len(retrains)
    values, place = np.unique(retrains, return_inverse=True)
    place, top = place.reshape(retrains.shape), int(np.searchsorted(values, 10, side="right"))
    known, owner = np.unique(users, return_inverse=True)
    fails = np.zeros((number, math.ceil(cases / number)), dtype=bool)
    for draw in range(fails.shape[1]):
        weights = np.bincount(rng.integers(0, len(known), len(known)), minlength=len(known))[owner]
        below = np.stack([np.bincount(row, weights, len(values)).cumsum() for row in place])  # (n, B)
        hit_10 = (below[:, top - 1] if top else np.zeros(number)) / weights.sum()
        for i, alpha in enumerate(alphas):
            others = np.delete(below, i, axis=0)
            pools = ks_to_pools(below, others)  # (n, n - 1)
            distances = np.diagonal(np.delete(pools, i, axis=0)).tolist()
            limits = RankLimits.of(np.delete(hit_10, i).tolist(), distances, alpha)
            fails[i, draw] = limits.hits.outside(hit_10[i]) or pools[i].mean() > limits.ks_d
    return fails
