"""Membership: can events that a model forgot be told from events that nobody trained on?

Each event's score is held against what references that never saw it give the same event, so that an item's popularity
or a short context tell nothing. Shapes: Q events, M forgotten ones (members), N never-seen ones (non-members), P events
of a population, n references, B draws of users, K distinct scores.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srun.metrics.forgetting import MIN_RETRAINS, one_sided_limit, superiority

Floats = NDArray[np.float64]
OWN_VARIANCE = 64
"""References from which on every event has a variance of its own; with fewer all events share one (Carlini et al.)."""
FALSE_RATES = (0.1, 0.01, 0.001)
NEGATIVES_PER_RATE = 10
"""A true positive rate at a false positive rate f is given where there are at least so many over f non-members."""
LIST = 20
"""Items of a list that an attacker sees who sees no scores."""
NUM_RESAMPLES = 200
CONFIDENCE = 0.95


def lira(z: Floats, out: Floats, seen: Floats | None = None) -> Floats:
    """(Q,) likelihood ratio attack (Carlini et al. 2022), the higher the likelier a member, from z_logit (Q,).

    ``out`` (n, Q) are references that never saw the events, ``seen`` (m, Q) references that did. With both: the log
    ratio of normal densities (their online attack). Without ``seen``: standard deviations above the mean of ``out``
    (their offline attack), which needs no model that saw a never-seen event. Means are by event. The variance is by
    event and side where both have 64 references; else one for all: squared deviations from the events' means over their
    degrees of freedom. ValueError where there are none.
    """
    sides = [out] if seen is None else [out, seen]
    if sum(len(side) - 1 for side in sides) < 1:
        raise ValueError("a variance needs at least 2 references on one side")
    means = [side.mean(0) for side in sides]
    if min(map(len, sides)) >= OWN_VARIANCE:
        variances = [side.var(0, ddof=1) for side in sides]
    else:
        squares = sum(float(((side - mean) ** 2).sum()) for side, mean in zip(sides, means, strict=True))
        pooled = squares / (sum(len(side) - 1 for side in sides) * len(z)) if len(z) else math.nan
        variances = [np.full(len(z), pooled) for _ in sides]
    variances = [np.maximum(variance, np.finfo(np.float64).tiny) for variance in variances]  # references that agree
    apart = [(z - mean) / np.sqrt(variance) for mean, variance in zip(means, variances, strict=True)]
    if seen is None:
        return np.asarray(apart[0])
    return np.asarray((apart[0] ** 2 - apart[1] ** 2 + np.log(variances[0]) - np.log(variances[1])) / 2)


def rmia(
    log_p: Floats,
    out: Floats,
    population: Floats,
    population_out: Floats,
    gamma: float = 1.0,
    interpolation: float = 1.0,
    seen: Floats | None = None,
    population_seen: Floats | None = None,
) -> Floats:
    """(Q,) relative attack (Zarifzadeh et al. 2024): share of the population that an event stands out from.

    Pr over x' of [p_M(x) / p(x)] / [p_M(x') / p(x')] >= ``gamma``, from log probabilities under the model, (Q,) and
    (P,), and under ``out`` references, (n, Q) and (n, P). With ``seen`` references too, (m, Q) and (m, P), p(x) is the
    mean of both sides' means (their online attack). Without, p(x) = ((1 + a) p_out(x) + 1 - a) / 2, p_out their mean
    and a the ``interpolation``. a = 1 leaves p_out: to put the unseen half at 1 is made for classifiers, and in a
    catalogue of thousands no model that saw an event comes near it. ValueError without a population.
    """
    if not len(population):
        raise ValueError("the attack needs a population, which is empty")
    ratios = log_p - _log_mean(out, seen, interpolation)
    others = np.sort(population - _log_mean(population_out, population_seen, interpolation))
    return np.searchsorted(others, ratios - math.log(gamma), side="right") / len(others)


def _log_mean(out: Floats, seen: Floats | None, interpolation: float) -> Floats:
    mean = np.exp(out).mean(0)
    both = ((1 + interpolation) * mean + 1 - interpolation) / 2 if seen is None else (mean + np.exp(seen).mean(0)) / 2
    return np.asarray(np.log(np.maximum(both, np.finfo(np.float64).tiny)))


def lists_only(ranks: Floats, out: Floats) -> Floats:
    """(Q,) places that an event stands higher in a list of 20 than in those of ``out`` references (n, Q), on average.

    All that is not in a list stands at place 21. From ranks, ties counted half.
    """
    return np.asarray(np.minimum(out, LIST + 1).mean(0) - np.minimum(ranks, LIST + 1))


def placements(members: Floats, others: Floats) -> Floats:
    """(M,) share of non-members (N,) whose score is below each member's, ties counted half: their mean is the AUC."""
    ordered = np.sort(others)
    at = (np.searchsorted(ordered, members, side=side) for side in ("left", "right"))
    return np.asarray(sum(at) / (2 * len(others)))


def auc(members: Floats, others: Floats) -> float:
    """P(a member's score is above a non-member's) + half of P(they tie); NaN if one is empty."""
    return superiority(-members, -others)


def tpr_at(members: Floats, others: Floats, rate: float) -> float | None:
    """Share of members above a threshold that at most a share ``rate`` of non-members is above.

    None where there are fewer non-members than 10 / ``rate``: one of them would move it too far.
    """
    if not len(members) or len(others) * rate < NEGATIVES_PER_RATE - 1e-9:
        return None
    above = math.floor(rate * len(others) + 1e-9)
    return float((members > np.sort(others)[::-1][above]).mean())


def drawn_users(
    users: NDArray[np.integer], rng: np.random.Generator, number: int = NUM_RESAMPLES
) -> NDArray[np.float64]:
    """(B, Q) how often each event is in a draw of as many users (Q,) as there are, with all their events."""
    known, owner = np.unique(users, return_inverse=True)
    times = rng.multinomial(len(known), np.full(len(known), 1 / len(known)), number)
    return times[:, owner].astype(np.float64)


def weighted_aucs(members: Floats, others: Floats, weights: Floats) -> Floats:
    """(B,) ``auc`` where every event counts as often as ``weights`` (B, M + N) say, members first; NaN without any."""
    _, place = np.unique(np.concatenate([members, others]), return_inverse=True)
    size, split = int(place.max()) + 1, len(members)
    aucs = np.full(len(weights), math.nan)
    for draw, weight in enumerate(weights):
        inside = np.bincount(place[:split], weight[:split], size)
        outside = np.bincount(place[split:], weight[split:], size)
        pairs = inside.sum() * outside.sum()
        if pairs:
            aucs[draw] = (inside * (outside.cumsum() - outside / 2)).sum() / pairs
    return aucs


@dataclass(frozen=True)
class Signals:
    """What a model says of events, each (Q,)."""

    log_p: Floats
    """Log of the probability that its softmax over the catalogue gives to the event's item."""
    z_logit: Floats
    """log p - log(1 - p), exact where p is near 1."""
    rank: Floats

    def select(self, rows: NDArray[np.bool_]) -> "Signals":
        """Those of some events."""
        return Signals(self.log_p[rows], self.z_logit[rows], self.rank[rows])


@dataclass(frozen=True)
class Events:
    """Which of the Q events is what, and whose they are; the population may be the non-members themselves."""

    member: NDArray[np.bool_]
    other: NDArray[np.bool_]
    population: NDArray[np.bool_]
    users: NDArray[np.int64]


@dataclass(frozen=True)
class Membership:
    """How far one attack tells forgotten events from never-seen ones, and how far it does so of Retrains."""

    auc: float
    excess: float
    """The AUC less the mean of the Retrains'."""
    low: float
    high: float
    """Bounds of the excess' 95 % interval when users are drawn again with all their events."""
    retrains: tuple[float, ...]
    """AUC of each Retrain, held against the others."""
    tpr: Mapping[str, float]
    """``tpr_at_<rate>``, at false positive rates for which there are non-members enough."""


@dataclass(frozen=True)
class MembershipQuality:
    """The AUC of every attack, and what one more Retrain would exceed by chance alone only so often."""

    aucs: Mapping[str, float]
    limits: Mapping[str, float]

    @property
    def beyond(self) -> tuple[str, ...]:
        """The attacks that tell forgotten events better than of a Retrain."""
        return tuple(attack for attack, value in self.aucs.items() if value > self.limits[attack])


ATTACKS = ("lira", "rmia", "lists")


def attack_scores(
    model: Signals, out: Sequence[Signals], events: Events, seen: Sequence[Signals] = ()
) -> dict[str, Floats]:
    """Attack -> (Q,) scores of all events under a model, by references ``out`` that never saw them.

    ``seen``: references that saw the forgotten ones; lists alone do without.
    """
    log_p, z_logit = _stacked(out, "log_p"), _stacked(out, "z_logit")
    seen_log_p = _stacked(seen, "log_p") if seen else None
    inside = events.population
    return {
        "lira": lira(model.z_logit, z_logit, _stacked(seen, "z_logit") if seen else None),
        "rmia": rmia(
            model.log_p,
            log_p,
            model.log_p[inside],
            log_p[:, inside],
            seen=seen_log_p,
            population_seen=None if seen_log_p is None else seen_log_p[:, inside],
        ),
        "lists": lists_only(model.rank, _stacked(out, "rank")),
    }


def _stacked(references: Sequence[Signals], name: str) -> Floats:
    return np.stack([getattr(reference, name) for reference in references])


def membership(
    model: Signals,
    retrains: Sequence[Signals],
    events: Events,
    rng: np.random.Generator,
    originals: Sequence[Signals] = (),
) -> dict[str, Membership]:
    """Attack a model with n >= 3 Retrains as references, and with ``originals`` that saw the forgotten events.

    None of them is the model, and none of the ``originals`` is the one that it came from: it shares that one's noise.

    Model and Retrain are treated alike: for every i both are held against the Retrains but the i-th, and what counts is
    the mean over i. ValueError with fewer Retrains, and without events of either sort.
    """
    if len(retrains) < MIN_RETRAINS:
        raise ValueError(f"membership needs {MIN_RETRAINS} Retrains, found {len(retrains)}")
    if not events.member.any() or not events.other.any():
        raise ValueError("membership needs forgotten events and never-seen ones")
    weights = drawn_users(np.concatenate([events.users[events.member], events.users[events.other]]), rng)
    pairs = []
    for index, left_out in enumerate(retrains):
        out = [other for place, other in enumerate(retrains) if place != index]
        pairs.append((attack_scores(model, out, events, originals), attack_scores(left_out, out, events, originals)))
    return {
        attack: _membership([(own[attack], of[attack]) for own, of in pairs], events, weights) for attack in ATTACKS
    }


def _membership(pairs: Sequence[tuple[Floats, Floats]], events: Events, weights: Floats) -> Membership:
    """Of one attack, from scores of the model and of the left-out Retrain, for each Retrain that is left out."""

    def parts(scores: Floats) -> tuple[Floats, Floats]:
        return scores[events.member], scores[events.other]

    aucs = [(auc(*parts(own)), auc(*parts(of))) for own, of in pairs]
    again = [weighted_aucs(*parts(own), weights) - weighted_aucs(*parts(of), weights) for own, of in pairs]
    value, retrained = (float(np.mean(side)) for side in zip(*aucs, strict=True))
    low, high = np.nanquantile(np.mean(again, axis=0), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    tpr: dict[str, float] = {}
    for rate in FALSE_RATES:
        rates = [share for own, _ in pairs if (share := tpr_at(*parts(own), rate)) is not None]
        tpr |= {f"tpr_at_{rate:g}": float(np.mean(rates))} if rates else {}
    return Membership(value, value - retrained, float(low), float(high), tuple(of for _, of in aucs), tpr)


def judge_membership(attacks: Mapping[str, Membership], alpha: float) -> MembershipQuality:
    """``alpha``: the chance that one attack tells more of a further Retrain than its limit."""
    limits = {name: one_sided_limit(attack.retrains, alpha) for name, attack in attacks.items()}
    return MembershipQuality({name: attack.auc for name, attack in attacks.items()}, limits)
