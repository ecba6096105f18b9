"""Levels by event: what they are learned from, what they may not know, and how they are spread out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from srun.data.dataset import Role
from srun.errors import ConfigError, DataError
from srun.unlearning.closed_form.features import RetainedFeatures, item_space
from srun.unlearning.closed_form.levels import _with_errors, predict_level
from srun.unlearning.closed_form.regression import Regression, basis
from srun.unlearning.closed_form.standing import last_states, questions, standing
from srun.unlearning.crossfit import CrossFit

CPU = torch.device("cpu")


def test_a_regression_bends_and_multiplies_where_the_truth_does():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3000, 3))
    values = np.abs(features[:, 0]) + features[:, 1] * features[:, 2] + 0.1 * rng.normal(size=3000)
    predicted = Regression.fit(features[:2000], values[:2000]).predict(features[2000:])
    assert np.corrcoef(predicted, values[2000:])[0, 1] > 0.95
    assert basis(features, features).shape == (3000, 1 + 3 + 3 + 4 * 3 + 6)


def test_a_feature_that_does_not_vary_says_nothing():
    features = np.column_stack([np.arange(50.0), np.full(50, 7.0)])
    predicted = Regression.fit(features, np.arange(50.0)).predict(np.array([[10.0, 7.0], [40.0, 7.0]]))
    assert predicted == pytest.approx([10, 40], abs=2)


def test_an_event_is_predicted_by_other_users_only():
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(40, dtype=np.int32), 5)
    secret = rng.normal(size=40)[users]  # of the user: whoever sees one event of a user knows the others
    features = np.column_stack([secret, rng.normal(size=200)])
    values = np.where(users < 39, 0.0, 100.0)
    regression, predicted = Regression.fit_crossed(features, values, users, rng)
    assert np.abs(predicted[users == 39]).max() < 20
    np.testing.assert_allclose(regression.weights, Regression.fit(features, values).weights, atol=1e-9)


def test_errors_are_those_of_events_that_were_predicted_alike():
    known = np.concatenate([np.zeros(300), np.full(300, 10.0)])
    error = np.concatenate([np.full(300, -1.0), np.full(300, 5.0)])
    spread = _with_errors(np.array([0.0, 10.0]), known, error, np.random.default_rng(0))
    assert sorted(spread.tolist()) == [-1.0] * 4 + [15.0] * 4


@pytest.fixture
def world(aside_worlds):
    return aside_worlds["interactions"]


def level_of(world, crossfit=None, request=None):
    return predict_level(world.original.model, request or world.request, crossfit, 0, CPU)


def test_there_is_a_level_for_every_forgotten_event_in_the_order_of_its_prediction(world):
    level = level_of(world)
    assert len(level.wanted) == len(level.predicted) == len(world.request.forget_queries())
    assert (level.items[:, -1].numpy() == world.request.forget_queries().target).all()
    order = level.predicted.argsort(kind="stable")
    assert (np.diff(level.wanted.numpy()[order]) >= 0).all()
    assert level.info["level_events"] == len(world.request.never_trained(audit=False))


def test_cross_fitted_models_tell_more_than_retained_data_where_they_know_more(world):
    aside, forgotten = world.request.never_trained(audit=False), world.request.forget_queries()
    z = np.zeros(world.data.num_events, dtype=np.float32)
    z[forgotten.event] = np.linspace(-3, 3, len(forgotten))
    items = questions(aside, world.data.max_length)
    model = world.original.model
    truth = standing(last_states(model, items), model.output_weight[1:].detach(), items[:, -1])[0]
    z[aside.event] = truth.numpy()
    level = level_of(world, CrossFit(z))
    assert level.info["level_r2"] > level_of(world).info["level_r2"]
    assert np.corrcoef(level.predicted, z[forgotten.event])[0, 1] > 0.8


def test_nothing_of_the_audit_half_reaches_a_level(world, monkeypatch):
    """Set-aside events that only the audit may touch can be anything at all, and no level moves."""
    audit = world.request.never_trained(audit=True)
    mine = world.request.never_trained(audit=False)
    assert len(audit)
    assert not set(audit.user) & set(mine.user)
    assert set(audit.event) | set(mine.event) <= set(np.flatnonzero(world.data.role == Role.SET_ASIDE))
    table = np.random.default_rng(0).normal(size=world.data.num_events).astype(np.float32)
    expected = level_of(world, CrossFit(table)).wanted
    table[audit.event] = 1e6
    assert torch.equal(level_of(world, CrossFit(table)).wanted, expected)


def test_a_level_knows_no_forgotten_event(world):
    """Features of a request in which the forgotten items were other ones are those of the retained data."""
    features = RetainedFeatures(world.request, 0)
    counts = np.bincount(world.data.item[world.request.retain], minlength=world.data.num_items + 1)
    assert (features.popularity == counts).all()
    users = world.data.user[world.request.retain], world.data.item[world.request.retain]
    assert set(zip(*(part.tolist() for part in users), strict=True)) == {
        (int(u), int(i)) for i, u in zip(*features.overlap.nonzero(), strict=True)
    }


def test_features_are_finite_and_the_same_at_every_call(world):
    queries = world.request.forget_queries()
    one, two = (RetainedFeatures(world.request, 0)(queries) for _ in range(2))
    assert np.isfinite(one).all()
    assert (one == two).all()
    assert one[:, 1] == pytest.approx(np.log1p(RetainedFeatures(world.request, 0).popularity[queries.target]))


def test_the_space_of_items_is_that_of_the_first_singular_vectors():
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(60, 20)) @ rng.normal(size=(20, 90))
    space = item_space(sparse.csr_array(dense), rng)
    np.testing.assert_allclose(space @ space.T, dense @ dense.T, atol=1e-5 * np.abs(dense @ dense.T).max())


def test_a_category_is_not_asked_of_models_that_were_trained_on_it(aside_worlds):
    world = aside_worlds["category"]
    assert len(world.request.never_trained(audit=False))
    table = CrossFit(np.full(world.data.num_events, np.nan, dtype=np.float32))
    assert torch.equal(level_of(world, table).wanted, level_of(world).wanted)


def test_a_row_that_was_erased_is_asked_for_in_vain(world):
    table = CrossFit(np.zeros(world.data.num_events, dtype=np.float32)).without(world.request.forget)
    assert np.isnan(table.z[world.request.forget]).all()
    assert not np.isnan(table.z[~world.request.forget]).any()
    with pytest.raises(DataError, match=r"erased from it.*level_from=retained"):
        level_of(world, table)


def test_without_events_set_aside_there_is_nothing_to_learn_from(worlds):
    with pytest.raises(DataError, match=r"none of two users or more; set prepare.calibration_events"):
        level_of(worlds["interactions", False])


def test_a_missing_table_says_how_to_make_it(world, tmp_path):
    bare = replace(world, original=replace(world.original, crossfit=None))
    with pytest.raises(ConfigError, match=r"make it by `srun levels`.*level_from=retained"):
        bare.run("closed_form", tmp_path)
    bare.run("closed_form", tmp_path, level_from="retained")
