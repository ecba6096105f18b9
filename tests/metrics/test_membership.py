"""Membership attacks: formulas against loops, scipy and scikit-learn; a model that memorises, one that does not."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from srun.metrics.membership import (
    ATTACKS,
    Events,
    Signals,
    auc,
    drawn_users,
    judge_membership,
    lira,
    lists_only,
    membership,
    rmia,
    tpr_at,
    weighted_aucs,
)

NUM_ITEMS = 1000


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_lira_is_the_log_ratio_of_normal_densities_with_one_variance_for_few_references(rng):
    z, out, seen = rng.normal(size=5), rng.normal(size=(3, 5)), 2 + rng.normal(size=(4, 5))
    squares = sum(
        (side[i, q] - side[:, q].mean()) ** 2 for side in (out, seen) for i in range(len(side)) for q in range(5)
    )
    scale = math.sqrt(squares / (5 * (2 + 3)))
    wanted = [
        norm.logpdf(z[q], seen[:, q].mean(), scale) - norm.logpdf(z[q], out[:, q].mean(), scale) for q in range(5)
    ]
    np.testing.assert_allclose(lira(z, out, seen), wanted)


def test_lira_has_a_variance_by_event_from_64_references_on(rng):
    z, out, seen = rng.normal(size=4), rng.normal(size=(64, 4)), 1 + 2 * rng.normal(size=(64, 4))
    wanted = [
        norm.logpdf(z[q], seen[:, q].mean(), seen[:, q].std(ddof=1))
        - norm.logpdf(z[q], out[:, q].mean(), out[:, q].std(ddof=1))
        for q in range(4)
    ]
    np.testing.assert_allclose(lira(z, out, seen), wanted)


def test_offline_lira_orders_events_by_the_tail_of_the_out_density(rng):
    z, out = rng.normal(size=6), rng.normal(size=(5, 6))
    scale = math.sqrt(((out - out.mean(0)) ** 2).sum() / (4 * 6))
    np.testing.assert_allclose(norm.cdf(lira(z, out)), norm.cdf(z, out.mean(0), scale))


def test_lira_needs_two_references_on_one_side(rng):
    with pytest.raises(ValueError, match="at least 2 references"):
        lira(np.zeros(3), np.zeros((1, 3)))
    assert np.isfinite(lira(np.zeros(3), rng.normal(size=(2, 3)), np.zeros((1, 3)))).all()
    assert lira(np.zeros(2), np.zeros((2, 2))).tolist() == [0, 0], "references that agree to the bit"


@pytest.mark.parametrize(("gamma", "interpolation"), [(1.0, 1.0), (2.0, 1.0), (1.0, 0.3)])
def test_rmia_is_the_share_of_pairs_whose_ratio_is_at_least_gamma(rng, gamma, interpolation):
    p, out, others, others_out = (rng.uniform(0.01, 0.9, size) for size in (4, (3, 4), 7, (3, 7)))

    def normal(row):
        return ((1 + interpolation) * row.mean() + 1 - interpolation) / 2

    wanted = []
    for q in range(4):
        ratios = [(p[q] / normal(out[:, q])) / (others[j] / normal(others_out[:, j])) for j in range(7)]
        wanted.append(np.mean([ratio >= gamma for ratio in ratios]))
    found = rmia(np.log(p), np.log(out), np.log(others), np.log(others_out), gamma, interpolation)
    np.testing.assert_allclose(found, wanted)


def test_rmia_with_references_of_both_sorts_goes_by_the_mean_of_their_means(rng):
    p, out, seen = (rng.uniform(0.01, 0.9, size) for size in (4, (3, 4), (5, 4)))
    others, others_out, others_seen = (rng.uniform(0.01, 0.9, size) for size in (7, (3, 7), (5, 7)))
    wanted = []
    for q in range(4):
        own = p[q] / ((out[:, q].mean() + seen[:, q].mean()) / 2)
        beside = [others[j] / ((others_out[:, j].mean() + others_seen[:, j].mean()) / 2) for j in range(7)]
        wanted.append(np.mean([own >= ratio for ratio in beside]))
    logs = [np.log(values) for values in (p, out, others, others_out)]
    np.testing.assert_allclose(rmia(*logs, seen=np.log(seen), population_seen=np.log(others_seen)), wanted)


def test_rmia_needs_a_population():
    with pytest.raises(ValueError, match="population"):
        rmia(np.zeros(1), np.zeros((2, 1)), np.zeros(0), np.zeros((2, 0)))


def test_a_list_shows_a_place_or_nothing():
    found = lists_only(np.array([3.0, 900.0, 21.0]), np.array([[5.0, 400.0, 10.0], [30.0, 25.0, 12.0]]))
    assert found.tolist() == [(5 + 21) / 2 - 3, 0, 11 - 21]


def test_auc_is_that_of_scikit_learn_with_ties_and_with_weights(rng):
    members, others = rng.integers(0, 6, 40).astype(float), rng.integers(-1, 5, 30).astype(float)
    truth, scores = np.r_[np.ones(40), np.zeros(30)], np.r_[members, others]
    assert auc(members, others) == pytest.approx(roc_auc_score(truth, scores))
    weights = rng.integers(0, 3, (3, 70)).astype(float)
    wanted = [roc_auc_score(truth, scores, sample_weight=weight) for weight in weights]
    np.testing.assert_allclose(weighted_aucs(members, others, weights), wanted)
    assert math.isnan(weighted_aucs(members, others, np.zeros((1, 70)))[0])


@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_the_true_positive_rate_is_that_of_the_roc_curve(rng, rate):
    members, others = rng.normal(1, 1, 500).round(1), rng.normal(0, 1, 1000).round(1)
    false, true, _ = roc_curve(np.r_[np.ones(500), np.zeros(1000)], np.r_[members, others], drop_intermediate=False)
    assert tpr_at(members, others, rate) == pytest.approx(true[false <= rate].max())


def test_a_true_positive_rate_needs_ten_false_ones():
    members = np.ones(5)
    assert tpr_at(members, np.zeros(99), 0.1) is None
    assert tpr_at(members, np.zeros(100), 0.1) == 1
    assert tpr_at(np.zeros(0), np.zeros(100), 0.1) is None


def test_a_draw_takes_a_user_with_all_events(rng):
    times = drawn_users(np.array([7, 3, 7, 3, 9]), rng, 50)
    assert times.shape == (50, 5)
    assert (times[:, 0] == times[:, 2]).all()
    assert (times[:, 1] == times[:, 3]).all()
    assert (times[:, 0] + times[:, 1] + times[:, 4] == 3).all()


@pytest.fixture
def world(rng):
    """400 forgotten and 300 never-seen events; models share what is known of them, and differ by noise."""
    known = rng.normal(-5, 1.5, 700)
    member = np.arange(700) < 400
    events = Events(member, ~member, ~member, rng.integers(0, 100, 700))

    def model(memory):
        z = known + memory * member * np.abs(rng.normal(2.5, 0.5, 700)) + 0.5 * rng.normal(size=700)
        rank = 1 + np.round((NUM_ITEMS - 1) / (1 + np.exp(z + 7)))
        return Signals(-np.logaddexp(0, -z), z, rank)

    return model, [model(0.0) for _ in range(5)], events


def test_a_model_that_memorises_is_told_and_one_that_never_saw_them_is_not(world, rng):
    model, retrains, events = world
    told, unseen = membership(model(1.0), retrains, events, rng), membership(model(0.0), retrains, events, rng)
    assert set(told) == set(unseen) == set(ATTACKS)
    assert min(told["lira"].auc, told["rmia"].auc) >= 0.9
    assert told["lists"].auc > 0.7, "a list of 20 shows less"
    assert all(attack.excess > 0.3 and attack.low > 0 for attack in told.values())
    assert all(attack.low <= 0 <= attack.high for attack in unseen.values())
    assert all(abs(attack.auc - 0.5) < 0.06 for attack in unseen.values())
    assert set(told["lira"].tpr) == {"tpr_at_0.1"}, "300 non-members are too few for one in a hundred"
    assert judge_membership(told, 0.01).beyond == ATTACKS
    assert judge_membership(unseen, 0.01).beyond == ()


def test_with_originals_a_little_memory_is_told_and_a_further_retrain_is_not(world, rng):
    """A Retrain scores below .5 then, for its events are like those of models that did not see them: so do all."""
    model, retrains, events = world
    originals = [model(1.0) for _ in range(5)]
    little, unseen = (membership(model(memory), retrains, events, rng, originals) for memory in (0.3, 0.0))
    for attack in ("lira", "rmia"):
        assert little[attack].low > 0
        assert unseen[attack].low <= 0 <= unseen[attack].high
    assert np.mean(unseen["lira"].retrains) < 0.4
    assert judge_membership(unseen, 0.01).beyond == ()


def test_model_and_retrain_are_held_against_as_many_references(world, rng):
    """So a Retrain that is judged by the others is nobody's outlier, and equal models get equal figures."""
    _, retrains, events = world
    twin = membership(retrains[0], [retrains[0]] * 3, events, rng)
    assert twin["lists"].auc == pytest.approx(0.5)
    assert [attack.excess for attack in twin.values()] == [0, 0, 0]


def test_what_is_missing_is_said(world, rng):
    model, retrains, events = world
    with pytest.raises(ValueError, match="3 Retrains, found 2"):
        membership(model(0.0), retrains[:2], events, rng)
    nothing = Events(np.zeros(700, bool), events.other, events.population, events.users)
    with pytest.raises(ValueError, match="forgotten events and never-seen ones"):
        membership(model(0.0), retrains, nothing, rng)


def test_the_whole_attack_is_that_of_scipy_and_scikit_learn(world, rng):
    """AUC, the Retrains' and true positive rates, as loops over what is left out give them."""
    model, retrains, events = world
    attacked = model(0.5)
    told, truth = membership(attacked, retrains, events, rng), events.member
    aucs: dict[str, list[tuple[float, float]]] = {attack: [] for attack in ATTACKS}
    rates = []
    for index, left_out in enumerate(retrains):
        out = [other for place, other in enumerate(retrains) if place != index]
        both = [_independent(one, out, events) for one in (attacked, left_out)]
        for attack in ATTACKS:
            aucs[attack].append(tuple(roc_auc_score(truth, scores[attack]) for scores in both))
        false, true, _ = roc_curve(truth, both[0]["lira"], drop_intermediate=False)
        rates.append(true[false <= 0.1].max())
    for attack in ATTACKS:
        own, of = zip(*aucs[attack], strict=True)
        assert told[attack].auc == pytest.approx(np.mean(own))
        assert told[attack].retrains == pytest.approx(of)
        assert told[attack].excess == pytest.approx(np.mean(own) - np.mean(of))
    assert told["lira"].tpr["tpr_at_0.1"] == pytest.approx(np.mean(rates))


def _independent(model, out, events):
    """Scores of the three attacks, an event at a time."""
    number, numbers = len(out), range(len(model.z_logit))
    means = [np.mean([one.z_logit[q] for one in out]) for q in numbers]
    squares = sum((one.z_logit[q] - means[q]) ** 2 for q in numbers for one in out)
    scale = math.sqrt(squares / ((number - 1) * len(means)))
    lira_scores = [norm.logcdf(model.z_logit[q], means[q], scale) for q in numbers]
    ratios = np.array([np.exp(model.log_p[q]) / np.mean([np.exp(one.log_p[q]) for one in out]) for q in numbers])
    rmia_scores = [np.mean(ratio >= ratios[events.population] * (1 - 1e-12)) for ratio in ratios]
    places = [np.mean([min(one.rank[q], 21) for one in out]) - min(model.rank[q], 21) for q in numbers]
    return {"lira": lira_scores, "rmia": rmia_scores, "lists": places}
