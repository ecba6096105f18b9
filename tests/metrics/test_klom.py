"""KLoM on made-up ensembles, beside independent formulas and the numbers that theory gives."""

import numpy as np
import pytest
from scipy.stats import entropy, norm

from srun.metrics.klom import Spread, binned_kl, gaussian_kl, klom, lacks

NUM_EVENTS = 400


def ensemble(number, seed, shift=0.0, deviation=1.5):
    """z_rank of models (number, Q): events have levels of their own, and each training its noise."""
    level = np.random.default_rng(0).normal(0, 2, NUM_EVENTS)
    return level + deviation * (shift + np.random.default_rng(seed).normal(size=(number, NUM_EVENTS)))


def test_binned_distance_is_that_of_smoothed_histograms():
    p, q = ensemble(40, 1), ensemble(33, 2, 0.7)
    edges = np.linspace(-9, 9, 21)
    counts = [[np.histogram(z[:, event].clip(-8.99, 8.99), edges)[0] + 0.01 for event in range(5)] for z in (p, q)]
    expected = [entropy(one, other) for one, other in zip(*counts, strict=True)]
    assert binned_kl(p, q)[:5] == pytest.approx(expected)


def test_what_lies_outside_counts_in_the_outer_bins():
    inside, outside = np.full((4, 1), 8.9), np.full((4, 1), 30.0)
    assert binned_kl(inside, outside).item() == 0
    assert binned_kl(inside, -outside).item() > 5


def test_normal_distance_is_the_integral_of_its_definition():
    p, q = ensemble(40, 1), ensemble(33, 2, 0.7, 1.0)
    x = np.linspace(-40, 40, 200_001)
    for event in range(3):
        of_p, of_q = (norm(z[:, event].mean(), z[:, event].std(ddof=1)) for z in (p, q))
        ratio = of_p.pdf(x) * (of_p.logpdf(x) - of_q.logpdf(x))
        assert gaussian_kl(p, q)[event] == pytest.approx(np.trapezoid(ratio, x), abs=1e-6)


def test_models_that_agree_have_a_least_deviation():
    same = np.ones((5, 1))
    assert gaussian_kl(same, same).item() == 0
    assert gaussian_kl(same, same + 0.25).item() == pytest.approx(0.5)


def test_half_a_deviation_is_told_from_none_by_64_models():
    """KL of normal distributions half a deviation apart is 1/8; 64 models of each add about 2 * (1/64) / 2 to it."""
    retrains, null, shifted = ensemble(64, 1), ensemble(64, 2), ensemble(64, 3, 0.5)
    assert Spread.of(gaussian_kl(retrains, null)).median == pytest.approx(0.02, abs=0.006)
    assert Spread.of(gaussian_kl(retrains, shifted)).median == pytest.approx(0.14, abs=0.02)
    assert Spread.of(binned_kl(retrains, null)).median == pytest.approx(0.18, abs=0.02)
    third = ensemble(64, 3, 1 / 3)  # half a unit of z_rank
    assert Spread.of(binned_kl(retrains, third)).median == pytest.approx(0.25, abs=0.02)


def test_a_recipe_stands_beside_retrains_of_sets_as_large():
    retrains = ensemble(64, 1)
    like, unlike = (klom(ensemble(40, 2, shift), retrains, np.random.default_rng(0)) for shift in (0.0, 0.5))
    assert (like.num_runs, like.num_retrains, like.size) == (40, 64, 32)
    assert like.gaussian.median == pytest.approx(like.gaussian_null.median, rel=0.2)
    assert unlike.gaussian_null == like.gaussian_null
    assert unlike.gaussian.median > 2.5 * unlike.gaussian_null.median
    assert unlike.gaussian.tail > unlike.gaussian_null.tail
    assert klom(ensemble(32, 2), retrains[:32], np.random.default_rng(0)).size == 16, "the null shares no model"


def test_fewer_than_32_are_not_judged():
    many, few = ensemble(32, 1), ensemble(31, 2)
    assert klom(few, many, np.random.default_rng(0)) is None
    assert klom(many, few, np.random.default_rng(0)) is None
    assert lacks(5, 32) == "5 of 32 runs"
    assert lacks(5, 8) == "5 of 32 runs, 8 of 32 Retrains"
    assert lacks(32, 32) == ""
