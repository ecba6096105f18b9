"""The linear probe: against scikit-learn, by hand, and that no user is scored by a fit that saw them."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from srun.evaluation.linear_probe import auc, last_states, linear_probe_scores, nearer
from srun.models.scorer import Scorer


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    inside, scores = rng.random(300) < 0.3, rng.integers(0, 9, 300).astype(float)  # many ties
    assert auc(scores, inside) == pytest.approx(roc_auc_score(inside, scores))
    assert auc(np.array([1.0, 2.0, 3.0]), np.array([False, True, True])) == 1
    assert math.isnan(auc(scores, np.ones(300, dtype=bool)))


def test_what_is_there_is_read_and_what_is_not_is_not():
    rng = np.random.default_rng(0)
    inside, users = rng.random(600) < 0.4, np.arange(600)
    noise = rng.normal(size=(600, 4))
    assert abs(auc(linear_probe_scores(noise, inside, users, rng), inside) - 0.5) < 0.06
    told = noise + inside[:, None] * np.array([2.0, 0, 0, 0])
    assert auc(linear_probe_scores(told, inside, users, rng), inside) > 0.85


def test_a_user_is_never_scored_by_a_fit_that_saw_them():
    """States name the user, whose targets are all of one kind: whoever has seen the user knows, and nobody may."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(40), 5)
    kind = rng.permutation(np.arange(40) % 2 == 0)
    states = np.eye(40)[users]
    scores = linear_probe_scores(states, kind[users], users, rng)
    assert auc(scores, kind[users]) < 0.6


def test_too_few_of_a_kind_give_no_score():
    inside = np.arange(40) < 5
    assert np.isnan(linear_probe_scores(np.zeros((40, 2)), inside, np.arange(40), np.random.default_rng(0))).all()


def test_nearer_by_hand():
    inside = np.array([True, False] * 50)
    good, bad = inside.astype(float), np.zeros(100)
    rng = np.random.default_rng(0)
    value, low, high = nearer(bad, good, bad, inside, np.arange(100), rng)
    assert value == low == high == 0.5  # the control is .5 away from the reference, the scores are where it is
    value, low, high = nearer(good, good, bad, inside, np.arange(100), rng)
    assert value == low == high == 0


def test_masks_are_no_part_of_states(worlds, tmp_path):
    world = worlds["category", False]
    queries = world.request.test_targets
    masked = world.run("output_mask", tmp_path).scorer
    states = [last_states(s, queries, masked.device, 7) for s in (world.original.scorer, masked)]
    assert states[0].shape == (len(queries), 8)
    assert np.array_equal(*states)
    twice = last_states(Scorer([world.original.model] * 2), queries, masked.device, 64)
    assert twice.shape == (len(queries), 16)
