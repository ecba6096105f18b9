"""Power on made-up worlds: what a test sees of Original mixed in, and how often a true Retrain fails."""

import math

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp, t

from srun.metrics.forgetting import RankLimits, ks_of_retrains, ks_to_retrains
from srun.metrics.membership import Events, Signals, auc, membership
from srun.metrics.memory import memory_left, user_draws, z_rank
from srun.metrics.power import (
    BLIND,
    SHARES,
    Attacked,
    Failures,
    References,
    Threshold,
    draw_users,
    failures,
    mix_signals,
    mix_z,
    mixtures,
    pairs,
    simulated_failures,
    threshold,
    whole_ranks,
)
from srun.metrics.ranking import hit

NUM_USERS, EACH, NUM_ITEMS = 150, 4, 500
NUM_EVENTS = NUM_USERS * EACH
USERS = np.repeat(np.arange(NUM_USERS), EACH)
FEATURES = np.random.default_rng(0).normal(size=(NUM_EVENTS, 2))
LEVEL = FEATURES @ [1.0, -0.5] + np.random.default_rng(1).normal(size=NUM_EVENTS) + 1.5
MEMORY = np.abs(np.random.default_rng(2).normal(size=NUM_EVENTS)) * 3
ALPHA = 0.05 / 4


def model(rng, memory=0.0, common=0.0):
    """Ranks of a training; ``common``: what its seed does to all events."""
    z = LEVEL + memory * MEMORY + common * rng.normal() + 0.5 * rng.normal(size=NUM_EVENTS)
    return np.clip(np.rint(0.5 + NUM_ITEMS / (1 + np.exp(z))), 1, NUM_ITEMS)


def world(number=8, seed=0, memory=1.0, **changes):
    rng = np.random.default_rng(seed)
    values = {
        "retrains": np.stack([model(rng) for _ in range(number)]),
        "originals": np.stack([model(rng, memory) for _ in range(2)]),
        "users": USERS,
        "num_items": NUM_ITEMS,
        "others": (1, 0),
        "features": FEATURES,
        "draws": user_draws(USERS, rng, 50),
        "memory_highs": (0.05,) * number,
    }
    return References(**{**values, **changes})


def judged(references, mixed):
    return Failures({way: failures(references, part, ALPHA) for way, part in mixed.items()}, len(references.originals))


@pytest.fixture(scope="module")
def eight():
    references = world()
    mixed = mixtures(references, 0)
    return references, mixed, judged(references, mixed)


def test_pairs_share_no_retrain_and_no_original_between_halves():
    chosen = pairs(9, 4)
    assert [pair.retrain for pair in chosen] == list(range(9))
    halves = [{(pair.original, pair.retrain) for pair in chosen if pair.half == half} for half in (0, 1)]
    for side in (0, 1):
        assert not {pair[side] for pair in halves[0]} & {pair[side] for pair in halves[1]}
    assert {pair.original for pair in chosen} == {0, 1, 2, 3}
    assert {pair.original for pair in pairs(5, 1)} == {0}


def test_users_are_put_back_whole_and_as_many_as_is_said():
    back = draw_users(USERS, 0.1, 20, np.random.default_rng(0))
    by_user = back.reshape(20, NUM_USERS, EACH)
    assert (by_user.all(2) == by_user.any(2)).all()
    assert (by_user.all(2).sum(1) == 15).all()
    assert len({tuple(draw) for draw in by_user.all(2)}) == 20
    assert draw_users(USERS, 0.0001, 1, np.random.default_rng(0)).sum() == EACH, "one user at least"


def test_ranks_come_back_from_z_rank_with_their_ties():
    ranks = np.arange(1.0, NUM_ITEMS + 1)
    z = z_rank(ranks, NUM_ITEMS)
    assert (whole_ranks(mix_z(z, z, 0.3), NUM_ITEMS) == ranks).all()


def test_figures_of_mixtures_are_those_of_the_rule(eight):
    """Each draw again, by scipy and by the functions that judge a row."""
    references, mixed, _ = eight
    rng = np.random.default_rng([0, 3])
    others = np.delete(references.retrains, 3, axis=0)
    for place, share in enumerate(SHARES[:4]):
        back = draw_users(USERS, share, mixed["users"].hits.shape[2], rng)
        ranks = np.where(back[7], references.originals[1], references.retrains[3])
        assert mixed["users"].hits[3, place, 7] == pytest.approx(hit(ranks, 10))
        pools = [np.delete(others, i, axis=0).ravel() for i in range(7)]
        distance = np.mean([ks_2samp(ranks, pool).statistic for pool in pools])
        assert mixed["users"].ks_d[3, place, 7] == pytest.approx(distance)
    z = [z_rank(ranks, NUM_ITEMS) for ranks in (references.retrains[3], *references.originals[::-1])]
    z_mixed = mix_z(z[0], z[1], SHARES[4])
    assert mixed["z_rank"].ks_d[3, 4, 0] == pytest.approx(ks_to_retrains(whole_ranks(z_mixed, NUM_ITEMS), others))
    draws = np.random.default_rng(0)
    [model(draws) for _ in range(8)], [model(draws, 1.0) for _ in range(2)]  # as the world was made
    left = memory_left(z_mixed, z[1], z[2], z_rank(others, NUM_ITEMS), FEATURES, USERS, draws, 50)
    assert mixed["z_rank"].memory_low[3, 4, 0] == pytest.approx(left.low)


def test_limits_are_those_of_the_other_retrains(eight):
    references, mixed, found = eight
    others = np.delete(references.retrains, 5, axis=0)
    distances = [ks_2samp(row, np.delete(others, i, axis=0).ravel()).statistic for i, row in enumerate(others)]
    limit = np.mean(distances) + t.ppf(1 - ALPHA, 6) * np.std(distances, ddof=1) * math.sqrt(1 + 1 / 7)
    assert (found.by_way["users"]["ranks"][5] == (mixed["users"].ks_d[5] > limit)).all()
    hits = [hit(row, 10) for row in others]
    bound = t.ppf(1 - ALPHA, 6) * np.std(hits, ddof=1) * math.sqrt(1 + 1 / 7)
    expected = np.abs(mixed["users"].hits[5] - np.mean(hits)) > bound
    assert (found.by_way["users"]["hits"][5] == expected).all()


def test_mixtures_fail_from_the_stated_share_on_and_few_below(eight):
    """On a world of its own: other Retrains, Originals and draws."""
    found = eight[2]
    fresh = world(seed=9)
    again = judged(fresh, mixtures(fresh, 9))
    for part in found.parts:
        sees = found.power([part]).users
        assert sees.share is not None
        rates = again.by_way["users"][part].mean((0, 2))
        assert rates[SHARES.index(sees.share)] > 0.65, part
        assert (np.diff(rates) > -0.05).all(), "the more is put back, the more fail"
    together = found.power(found.parts).users
    assert together.share == min(found.power([part]).users.share for part in found.parts)


def test_one_users_events_left_in_are_not_seen_and_power_says_so(eight):
    references, _, found = eight
    assert found.power(found.parts).users.share > 1 / NUM_USERS
    others, user = np.delete(references.retrains, 0, axis=0), USERS == 7
    ranks = np.where(user, references.originals[0], references.retrains[0])
    limits = RankLimits.of([hit(row, 10) for row in others], ks_of_retrains(others), ALPHA)
    assert not limits.hits.outside(hit(ranks, 10))
    assert ks_to_retrains(ranks, others) <= limits.ks_d


def test_where_originals_are_as_retrains_nothing_is_seen():
    references = world(memory=0.0, features=None)
    found = judged(references, mixtures(references, 0))
    assert found.parts == ("hits", "ranks")
    sees = found.power(found.parts)
    assert sees.users == Threshold(None, None)
    assert sees.blind


def test_more_retrains_and_tests_of_a_larger_share_see_more():
    references = world(number=4, features=None)
    mixed = mixtures(references, 0)
    few = Failures({way: failures(references, part, ALPHA) for way, part in mixed.items()}, 2).power(["ranks"])
    loose = Failures({way: failures(references, part, 0.05) for way, part in mixed.items()}, 2).power(["ranks"])
    many = judged(world(12, features=None), mixtures(world(12, features=None), 0)).power(["ranks"])
    assert loose.users.share < few.users.share
    assert many.users.share <= few.users.share


def test_a_threshold_is_set_on_one_half_and_checked_on_the_other():
    fails = np.zeros((4, len(SHARES), 10), dtype=bool)
    fails[::2, 3:] = True  # half 0
    fails[1, 3:] = True
    assert threshold(fails, np.array([0, 1, 0, 1])) == Threshold(SHARES[3], 0.5)
    fails[::2, 5] = False  # a gap: from the next on
    assert threshold(fails, np.array([0, 1, 0, 1])).share == SHARES[6]
    assert SHARES[4] == BLIND


def signals(rng, memory=0.0):
    """Signals of forgotten events, then of as many never-seen ones."""
    remembered = np.concatenate([memory * MEMORY, np.zeros(NUM_EVENTS)])
    z = np.tile(LEVEL, 2) - 5 + remembered + 0.5 * rng.normal(size=2 * NUM_EVENTS)
    return Signals(-np.logaddexp(0, -z), z, whole_ranks(z + 5, NUM_ITEMS))


def test_membership_of_mixtures_is_that_of_the_mixed_signals():
    rng = np.random.default_rng(0)
    member = np.arange(2 * NUM_EVENTS) < NUM_EVENTS
    events = Events(member, ~member, ~member, np.concatenate([USERS, USERS + NUM_USERS]))
    retrains, originals = [signals(rng) for _ in range(5)], [signals(rng, 1.0) for _ in range(2)]
    references = world(5, features=None)
    attacked = Attacked(retrains, originals, events)
    mixed = mixtures(references, 4, attacked)
    back = draw_users(USERS, SHARES[0], mixed["users"].hits.shape[2], np.random.default_rng([4, 1]))[3]
    chosen = np.concatenate([back, np.zeros(NUM_EVENTS, dtype=bool)])
    by_hand = mix_signals(retrains[1], originals[1], chosen, 1.0, NUM_ITEMS)
    others = [one for place, one in enumerate(retrains) if place != 1]
    told = membership(by_hand, others, events, np.random.default_rng(0))
    # the population is never-seen events, which are the Retrain's own in both
    for attack, found in mixed["users"].aucs.items():
        assert found[1, 0, 3] == pytest.approx(told[attack].auc), attack
    fails = failures(references, mixed["users"], ALPHA, attacked)["membership"]
    assert fails[:, -1].all()
    assert not fails[:, 0].all()
    assert auc(by_hand.z_logit[member], by_hand.z_logit[~member]) > 0.5


def test_true_retrains_fail_as_often_as_is_stated():
    """100 groups of 8 Retrains with a seed's effect on all events: what is simulated, and what a ninth one does."""
    rng, number, cases = np.random.default_rng(5), 8, 60
    stated, failed = [], []
    for _ in range(100):
        ranks = np.stack([model(rng, common=0.05) for _ in range(number + 1)])
        one, retrains = ranks[0], ranks[1:]
        limits = RankLimits.of([hit(row, 10) for row in retrains], ks_of_retrains(retrains), 0.05 / 3)
        failed.append(limits.hits.outside(hit(one, 10)) or ks_to_retrains(one, retrains) > limits.ks_d)
        stated.append(simulated_failures(retrains, USERS, [0.05 / 3] * number, rng, cases).mean())
    low, high = binom.interval(0.99, 100, np.mean(stated))
    assert low <= sum(failed) <= high
    assert 0.02 < np.mean(stated) < 0.15, "near the error rate of .05: the distances are not normal"


def test_a_retrain_that_is_far_from_the_others_fails_when_users_are_drawn_again():
    retrains = world().retrains
    retrains[2] = model(np.random.default_rng(3), 0.5)
    fails = simulated_failures(retrains, USERS, [ALPHA] * 8, np.random.default_rng(0), 80).mean(1)
    assert fails[2] > 0.9
    assert np.delete(fails, 2).max() < 0.2
