"""Intervals over users, against the same figures of logs in which drawn users stand as often as they were drawn."""

import numpy as np
import pytest

from srun.metrics.intervals import (
    _drawn_nearness,
    _weighted_tprs,
    fidelity_intervals,
    lowest_mean_interval,
    membership_intervals,
    model_scores,
    percentiles,
)
from srun.metrics.membership import Events, Signals, drawn_users, membership, tpr_at
from srun.metrics.memory import event_corr, event_mae

RNG = np.random.default_rng(0)
USERS = np.repeat(np.arange(20), 6)
Z = RNG.normal(size=len(USERS))
RETRAINS = Z + RNG.normal(size=(3, len(USERS)))


def rng():
    return np.random.default_rng(1)


def test_a_drawn_log_is_measured_as_if_its_events_were_written_out():
    weights = drawn_users(USERS, rng(), 5)
    corr, mae = _drawn_nearness(Z, RETRAINS, 3, weights)
    for draw, weight in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(len(Z)), weight)
        assert corr[draw] == pytest.approx(event_corr(Z[rows], RETRAINS[:, rows]))
        assert mae[draw] == pytest.approx(event_mae(Z[rows], RETRAINS[:, rows]))


def test_figures_of_single_events_lie_within_their_intervals():
    intervals = fidelity_intervals(Z, RETRAINS, USERS, rng())
    assert set(intervals) == {"event_corr", "event_corr_share", "event_mae", "event_mae_ratio"}
    low, high = intervals["event_mae"]
    assert low < np.mean([event_mae(Z, RETRAINS[[i, j]]) for i, j in [(0, 1), (0, 2), (1, 2)]]) < high


def test_weighted_rates_are_those_of_events_written_out():
    members, others = RNG.normal(size=30) + 1, RNG.normal(size=200)
    weights = RNG.integers(0, 3, size=(4, 230)).astype(float)
    rates = _weighted_tprs(members, others, 0.1, weights)
    for rate, weight in zip(rates, weights.astype(int), strict=True):
        written = np.repeat(members, weight[:30]), np.repeat(others, weight[30:])
        assert rate == pytest.approx(tpr_at(*written, 0.1))


def test_the_mean_of_the_lowest_is_drawn_over_users():
    means = np.arange(100.0)
    low, high = lowest_mean_interval(means, 10, rng())
    assert low < means[:10].mean() < high
    assert lowest_mean_interval(np.full(50, 3.0), 5, rng()) == (3, 3)
    assert np.isnan(lowest_mean_interval(means[:1], 1, rng())).all()


def test_membership_has_an_interval_around_each_figure_and_a_score_for_each_event():
    number = 300
    member = np.arange(number) < 100
    events = Events(member, ~member, ~member, np.arange(number) // 3)
    signal = [RNG.normal(size=number) for _ in range(4)]
    told = [Signals(-np.exp(-one), one, np.abs(one) + 1) for one in signal]
    model = Signals(told[0].log_p, told[0].z_logit + member, told[0].rank)
    scores = model_scores(model, told[1:], events)
    assert {name: rows.shape for name, rows in scores.items()} == dict.fromkeys(("lira", "rmia", "lists"), (3, number))
    intervals, attacks = membership_intervals(scores, events, rng()), membership(model, told[1:], events, rng())
    for name, attack in attacks.items():
        assert intervals[f"{name}_auc"][0] < attack.auc < intervals[f"{name}_auc"][1]
        assert set(attack.tpr) == {key.removeprefix(f"{name}_") for key in intervals if key.startswith(f"{name}_tpr")}


def test_draws_that_are_undefined_are_left_out():
    assert percentiles(np.array([1.0, np.nan, 1.0])) == (1, 1)
    assert np.isnan(percentiles(np.array([np.nan]))).all()
