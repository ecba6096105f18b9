import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp, mannwhitneyu, t

from srun.metrics.forgetting import (
    ForgetQuality,
    judge,
    ks_distance,
    ks_of_retrains,
    ks_of_shift,
    ks_to_retrains,
    permutation_p,
    superiority,
)

SAMPLES = st.lists(st.integers(2, 12).map(lambda half: half / 2), min_size=1, max_size=30)  # many ties


def rng():
    return np.random.default_rng(0)


def ranks_of(num_models, num_events, scale=1.0, seed=0):
    return np.ceil(np.random.default_rng(seed).lognormal(3, 1, (num_models, num_events)) * scale)


@pytest.mark.filterwarnings("ignore")  # of p values of tiny samples, which are not used
@given(SAMPLES, SAMPLES)
def test_distance_and_superiority_agree_with_scipy(x, y):
    x, y = np.array(x), np.array(y)
    assert ks_distance(x, y) == pytest.approx(ks_2samp(x, y, mode="asymp").statistic)
    wins = mannwhitneyu(y, x).statistic  # counts pairs in which the first sample is the larger
    assert superiority(x, y) == pytest.approx(wins / len(x) / len(y))


def test_distance_by_hand():
    assert ks_distance(np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6])) == 0.5
    assert ks_distance(np.array([2.0, 2]), np.array([2.0])) == 0
    assert superiority(np.array([1.0, 5]), np.array([2.0])) == 0.5
    assert superiority(np.array([2.0]), np.array([2.0])) == 0.5
    assert superiority(np.array([1.0]), np.array([2.0])) == 1


def test_nothing_to_compare_has_no_figure():
    empty, some = np.zeros(0), np.ones(3)
    assert math.isnan(ks_distance(empty, some))
    assert math.isnan(superiority(some, empty))
    assert math.isnan(ks_to_retrains(some, np.ones((1, 3))))
    assert math.isnan(ks_of_retrains(np.ones((1, 3)))[0])
    assert math.isnan(permutation_p(some, np.ones((1, 3)), np.arange(3), rng()))


def test_distances_to_and_among_retrains_are_to_the_others_pooled():
    retrains = np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0]])
    # the first two against three pairs of others: D(., {1,2,3,4}) = .5 twice; the third lies above both
    assert ks_of_retrains(retrains) == [0.5, 0.5, 1.0]
    # D({1,2}, pooled): without the first or second {1,2,3,4}: .5 each; without the third {1,2,1,2}: 0
    assert ks_to_retrains(np.array([1.0, 2.0]), retrains) == pytest.approx(1 / 3)


def permutation_by_definition(ranks, retrains, users, generator, number):
    models = np.vstack([ranks, retrains])
    _, owner = np.unique(users, return_inverse=True)
    draws = generator.integers(0, len(models), (number, owner.max() + 1))
    found = []
    for draw in draws:
        swapped = models.copy()
        for event, actor in enumerate(draw[owner]):
            swapped[[0, actor], event] = swapped[[actor, 0], event]
        found.append(ks_to_retrains(swapped[0], swapped[1:]))
    return (1 + sum(value >= ks_to_retrains(ranks, retrains) - 1e-12 for value in found)) / (1 + number)


@pytest.mark.parametrize("shift", [0.0, 3.0, 30.0])
def test_permutations_follow_their_definition(shift):
    models = ranks_of(4, 40)
    users = np.arange(40) // 3 * 7
    args = models[0] + shift, models[1:], users
    assert permutation_p(*args, rng(), 50) == permutation_by_definition(*args, rng(), 50)


def test_a_model_unlike_the_retrains_is_rejected_and_one_like_them_is_not():
    models, users = ranks_of(6, 400), np.arange(400) // 4
    assert permutation_p(models[0] * 3, models[1:], users, rng()) == 1 / 1000
    assert permutation_p(models[0], models[1:], users, rng()) > 0.05


def test_permutations_under_the_null_are_uniform():
    drawn = [ranks_of(4, 60, seed=seed) for seed in range(60)]
    values = [permutation_p(models[0], models[1:], np.arange(60) // 3, rng(), 99) for models in drawn]
    assert 0.35 < np.mean(values) < 0.65
    assert sum(value <= 0.1 for value in values) <= 14


def test_a_thousand_events_and_five_retrains_take_less_than_two_seconds():
    models = ranks_of(6, 1000, 30)
    began = time.perf_counter()
    judge(models[0], models[1:], np.arange(1000) // 5, rng(), 0.01)
    assert time.perf_counter() - began < 2


def quality(**changes):
    values = {"ks_d": 0.1, "ks_d_retrain_max": 0.1, "ks_p": 0.5, "hit_10_gap": -0.02, "hit_10_gap_bound": 0.02}
    limits = {"hit_10_gap_limit": 0.0, "ks_d_limit": 0.0}  # of the verdict, which the pooled rule does not look at
    return ForgetQuality(**{**values, **limits, "num_retrains": 5, **changes})


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, True),  # the edges are inside
        ({"ks_d": 0.11}, False),
        ({"hit_10_gap": -0.021}, False),
        ({"hit_10_gap": 0.021}, False),
        ({"ks_p": 0.001}, True),  # does not decide
        ({"num_retrains": 3}, True),
        ({"num_retrains": 2}, None),
    ],
)
def test_the_pooled_rule(changes, passes):
    assert quality(**changes).passes is passes


def test_a_run_is_judged_by_both_figures():
    retrains, users = ranks_of(5, 500), np.arange(500) // 2
    like, unlike = ranks_of(1, 500, seed=9)[0], ranks_of(1, 500, 4, seed=9)[0]
    assert judge(unlike, retrains, users, rng(), 0.01).passes is False
    found = judge(like, retrains, users, rng(), 0.01)
    hits = [(row <= 10).mean() for row in retrains]
    assert found.hit_10_gap == pytest.approx((like <= 10).mean() - np.mean(hits))
    assert found.hit_10_gap_bound == pytest.approx(2.776445 * np.std(hits, ddof=1) * math.sqrt(1.2), rel=1e-5)
    assert found.ks_d == ks_to_retrains(like, retrains)
    assert found.hit_10_gap_limit == pytest.approx(t.ppf(0.99, 4) * np.std(hits, ddof=1) * math.sqrt(1.2))
    others = [np.delete(retrains, i, axis=0).ravel() for i in range(5)]
    distances = [ks_2samp(row, pool).statistic for row, pool in zip(retrains, others, strict=True)]
    limit = np.mean(distances) + t.ppf(0.99, 4) * np.std(distances, ddof=1) * math.sqrt(1.2)
    assert found.ks_d_limit == pytest.approx(limit)
    assert found.ks_d == pytest.approx(np.mean([ks_2samp(like, pool).statistic for pool in others]))


def test_true_retrains_fail_the_distance_about_as_often_as_exchangeability_says():
    drawn = [ranks_of(6, 80, seed=seed) for seed in range(120)]
    fails = [ks_to_retrains(models[0], models[1:]) > max(ks_of_retrains(models[1:])) for models in drawn]
    assert 0.03 < np.mean(fails) < 0.3  # one in six


def test_a_shift_of_ranks_is_told_as_the_distance_that_it_makes():
    """All events in the first of two places, moved down by log 3: those in the upper half of it stay above 1/4."""
    # z = log((1 - u) / u) of a place u of the catalogue; u = 1/2 comes from u' = u / (u + (1 - u) / 3) = 3/4
    assert ks_of_shift(np.ones(5), 2, math.log(3)) == pytest.approx(0.5)
    assert ks_of_shift(np.ones(5), 2, 0.0) == 0
    assert math.isnan(ks_of_shift(np.zeros(0), 2, 1.0))


def test_a_shift_up_is_as_far_as_a_shift_down_and_a_small_one_is_near():
    ranks = np.ceil(1000 * np.random.default_rng(0).beta(0.5, 2, 5000))
    assert ks_of_shift(ranks, 1000, 0.3) == pytest.approx(ks_of_shift(ranks, 1000, -0.3))
    assert ks_of_shift(ranks, 1000, 1e-4) < 1e-3 < (ranks == 1).mean(), "not all events in first place at once"
    place = (ranks - np.random.default_rng(1).random(5000)) / 1000
    z = np.log((1 - place) / place)
    assert ks_of_shift(ranks, 1000, 0.3) == pytest.approx(ks_distance(z, z + 0.3), abs=0.01)
