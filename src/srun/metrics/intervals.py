"""Intervals over users of figures that are no means over events, and what attacks say of single events.

Users are drawn again with all their events. Shapes: Q events, U users, n Retrains, B draws of users.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from srun.metrics.membership import (
    ATTACKS,
    CONFIDENCE,
    FALSE_RATES,
    NUM_RESAMPLES,
    Events,
    Floats,
    Signals,
    attack_scores,
    drawn_users,
    tpr_at,
    weighted_aucs,
)
from srun.metrics.memory import BESIDE, ways

Interval = tuple[float, float]


def percentiles(values: Floats) -> Interval:
    """Ends of the 95 % interval of a figure over draws (B,), of which those that are undefined are left out."""
    known = values[np.isfinite(values)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def fidelity_intervals(
    z: Floats, retrains: Floats, users: NDArray[np.integer], rng: np.random.Generator
) -> dict[str, Interval]:
    """Of every figure of ``metrics.memory.Fidelity``, from z_rank (Q,) and (n, Q), n >= 2, and the users (Q,)."""
    weights, number = drawn_users(users, rng), min(BESIDE, len(retrains) - 1)
    corr, mae = _drawn_nearness(z, retrains, number, weights)
    left_out = [
        _drawn_nearness(one, np.delete(retrains, place, axis=0), number, weights) for place, one in enumerate(retrains)
    ]
    of_retrain = np.mean(left_out, axis=0)  # (2, B)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = {
            "event_corr": corr,
            "event_corr_share": corr / of_retrain[0],
            "event_mae": mae,
            "event_mae_ratio": mae / of_retrain[1],
        }
    return {name: percentiles(values) for name, values in drawn.items()}


def _drawn_nearness(z: Floats, retrains: Floats, number: int, weights: Floats) -> tuple[Floats, Floats]:
    """(B,) correlation and (B,) distance under ``weights`` (B, Q), each the mean over the ways to choose Retrains."""
    means = np.stack([retrains[list(way)].mean(0) for way in ways(len(retrains), number)], axis=1)  # (Q, W)
    total = weights.sum(1, keepdims=True)
    mean_z, mean_m = weights @ z[:, None] / total, weights @ means / total
    product = weights @ (z[:, None] * means) / total - mean_z * mean_m
    squares = [
        np.maximum(weights @ (part**2) / total - mean**2, 0) for part, mean in ((z[:, None], mean_z), (means, mean_m))
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        corr = product / np.sqrt(squares[0] * squares[1])
    return corr.mean(1), (weights @ np.abs(z[:, None] - means) / total).mean(1)


def lowest_mean_interval(means: Floats, number: int, rng: np.random.Generator) -> Interval:
    """Of the mean over the ``number`` users with the lowest of ``means`` (U,); NaN for fewer than two users."""
    if len(means) < 2:
        return math.nan, math.nan
    ordered = np.sort(means)
    times = rng.multinomial(len(means), np.full(len(means), 1 / len(means)), NUM_RESAMPLES)  # (B, U)
    taken = np.clip(number - (np.cumsum(times, axis=1) - times), 0, times)
    return percentiles(taken @ ordered / number)


def model_scores(
    model: Signals, retrains: Sequence[Signals], events: Events, originals: Sequence[Signals] = ()
) -> dict[str, Floats]:
    """Attack -> (n, Q) scores of all events under a model, held against all Retrains but one, for each of these.

    ``originals``: references that saw the forgotten events, as in ``membership``.
    """
    parts = []
    for place in range(len(retrains)):
        out = [other for index, other in enumerate(retrains) if index != place]
        parts.append(attack_scores(model, out, events, originals))
    return {attack: np.stack([part[attack] for part in parts]) for attack in ATTACKS}


def membership_intervals(scores: Mapping[str, Floats], events: Events, rng: np.random.Generator) -> dict[str, Interval]:
    """Of ``<attack>_auc`` and ``<attack>_tpr_at_<rate>``, from ``model_scores``."""
    member, other = events.member, events.other
    weights = drawn_users(np.concatenate([events.users[member], events.users[other]]), rng)
    intervals = {}
    for attack, rows in scores.items():
        aucs = [weighted_aucs(row[member], row[other], weights) for row in rows]
        intervals[f"{attack}_auc"] = percentiles(np.mean(aucs, axis=0))
        for rate in FALSE_RATES:
            if tpr_at(rows[0][member], rows[0][other], rate) is not None:
                rates = [_weighted_tprs(row[member], row[other], rate, weights) for row in rows]
                intervals[f"{attack}_tpr_at_{rate:g}"] = percentiles(np.mean(rates, axis=0))
    return intervals


def _weighted_tprs(members: Floats, others: Floats, rate: float, weights: Floats) -> Floats:
    """(B,) ``tpr_at`` with events as often as ``weights`` (B, M + N) say, members first; NaN without any."""
    order = np.argsort(-others, kind="stable")
    rates = np.full(len(weights), math.nan)
    for draw, weight in enumerate(weights):
        above = np.cumsum(weight[len(members) :][order])
        inside = weight[: len(members)]
        if inside.sum() and above[-1]:
            threshold = others[order][np.searchsorted(above, math.floor(rate * above[-1] + 1e-9), side="right")]
            rates[draw] = inside[members > threshold].sum() / inside.sum()
    return rates
