"""The gate's two judges, on ranks that are made up."""

import numpy as np
import pytest

from srun.requests.policy import GateConfig
from srun.service.gate import Standing, judge_forgetting, judge_utility

SETTINGS = GateConfig(
    utility=0.98, min_targets=500, weak_utility=0.95, retrained_utility=0.9, error_rate=0.05, draws=200, simulated=30
)


def standing(model, anchor, num_users=50, seed=0):
    rng = np.random.default_rng(seed)
    described = np.stack([rng.integers(1, 10, len(model)), rng.integers(1, 100, len(model))], axis=1).astype(float)
    return Standing(np.sort(rng.integers(0, num_users, len(model))), described, model, anchor)


def ranks(share_of_hits, number, seed=0):
    """Ranks among 1,000 items, a share of them among the first ten."""
    rng = np.random.default_rng(seed)
    is_hit = rng.random(number) < share_of_hits
    return np.where(is_hit, rng.integers(1, 11, number), rng.integers(11, 1000, number)).astype(float)


def judged(model_share, anchor_share=0.5, never=0.1, number=600):
    forgotten = standing(ranks(model_share, number, 1), ranks(anchor_share, number, 2))
    unseen = ranks(never, 800, 3)
    return judge_forgetting(forgotten, standing(unseen, unseen, seed=5), SETTINGS, 0)


@pytest.mark.parametrize(
    ("share", "word", "reason"),
    [(0.1, "passes", "Hit@10"), (0.5, "fails", "under-unlearning"), (0.0, "fails", "over-unlearning")],
)
def test_forgotten_events_stand_as_never_seen_ones_or_not(share, word, reason):
    gate = judged(share)
    assert gate.word == word
    assert reason in gate.reason
    assert gate.opens == (word == "passes")


def test_ranks_that_are_distributed_otherwise_fail_with_good_hits():
    model = np.where(ranks(0.1, 600, 1) <= 10, 5.0, 999.0)
    unseen = ranks(0.1, 800, 3)
    gate = judge_forgetting(standing(model, ranks(0.5, 600, 2)), standing(unseen, unseen, seed=5), SETTINGS, 0)
    assert gate.word == "fails"
    assert "distributed otherwise" in gate.reason


def test_a_pass_says_nothing_where_the_anchor_passes_too():
    gate = judged(0.1, anchor_share=0.1)
    assert gate.word == "cannot tell"
    assert "the anchor passes" in gate.reason


def test_a_few_events_tell_nothing():
    assert "too few" in judged(0.5, number=10).reason
    assert judged(0.5, number=10).word == "cannot tell"


def test_a_model_without_memory_rarely_fails():
    """At most about one in twenty, by the error rate; users of the never-seen events vary."""
    failed = 0
    for seed in range(40):
        unseen, own = ranks(0.1, 800, 1000 + seed), ranks(0.1, 300, 2000 + seed)
        gate = judge_forgetting(standing(own, ranks(0.6, 300, 9)), standing(unseen, unseen, seed=5), SETTINGS, seed)
        failed += gate.word == "fails"
    assert failed <= 6


@pytest.mark.parametrize(
    ("number", "factor", "word"),
    [(1000, 1.0, "passes"), (1000, 0.9, "fails"), (100, 1.0, "passes"), (100, 0.9, "fails")],
)
def test_utility_is_held_against_the_anchor(number, factor, word):
    anchor = np.full(number, 1.0)
    model = anchor.copy()
    model[: round((1 - factor) * number)] = 500.0
    gate = judge_utility(model, anchor, np.arange(number, dtype=np.int32), SETTINGS)
    assert gate.word == word
    assert gate.figures["utility"] == pytest.approx(factor)
    assert ("weak" in gate.reason) == (number < 500)


def test_without_a_target_nobody_knows():
    nothing = np.zeros(0)
    assert judge_utility(nothing, nothing, np.zeros(0, dtype=np.int32), SETTINGS).word == "cannot tell"
