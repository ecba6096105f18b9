import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srun.metrics.bootstrap import user_interval


def rng(seed=0):
    return np.random.default_rng(seed)


def by_definition(values, users, generator, number):
    known = np.unique(users)
    means = []
    for _ in range(number):
        rows = np.concatenate([np.flatnonzero(users == user) for user in generator.choice(known, len(known))])
        means.append(values[rows].mean())
    return np.quantile(means, [0.025, 0.975])


def test_agrees_with_drawing_users_one_by_one():
    users = np.repeat(np.arange(40), rng().integers(1, 9, 40))
    values = (rng(1).random(len(users)) < 0.3 + 0.4 * (users % 2)).astype(float)
    expected = by_definition(values, users, rng(2), 4000)
    assert user_interval(values, users, rng(3), 4000) == pytest.approx(expected, abs=0.012)


def test_is_wider_than_if_events_were_drawn():
    users = np.repeat(np.arange(30), 10)
    values = (users % 2).astype(float)  # all events of a user are the same
    low, high = user_interval(values, users, rng())
    alone_low, alone_high = user_interval(values, np.arange(300), rng())
    assert high - low > 2 * (alone_high - alone_low)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), min_size=1, max_size=30))
def test_lies_within_the_values_and_orders_its_ends(pairs):
    users, values = np.array([u for u, _ in pairs]), np.array([v for _, v in pairs])
    low, high = user_interval(values, users, rng(), 50)
    if len(np.unique(users)) < 2:
        assert math.isnan(low)
        assert math.isnan(high)
    else:
        assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9


def test_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(200):
        share = np.repeat(rng(seed).beta(2, 5, 80), 6)
        low, high = user_interval(
            (rng([seed, 1]).random(480) < share).astype(float), np.repeat(range(80), 6), rng(), 300
        )
        hits += low <= 2 / 7 <= high
    assert 0.89 < hits / 200 < 0.99


def test_many_users_cost_little():
    values = (rng().random(300_000) < 0.1).astype(float)
    began = time.perf_counter()
    low, high = user_interval(values, np.arange(300_000), rng())
    assert time.perf_counter() - began < 3
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.09 / 300_000), rel=0.1)
