"""Core and edge draws: which events they take, and how many of a user's."""

import numpy as np
import pytest

from srun.data.dataset import Role
from srun.errors import DataError
from srun.requests.draws import draw_extreme

MAX_SHARE = 0.3


@pytest.fixture(scope="module")
def data(small):
    return small.make_data(small.random_events(60, 30), calibration_users=0.1, calibration_events=0.2)


@pytest.fixture(scope="module")
def expected(data):
    values = np.random.default_rng(0).normal(size=data.num_events)
    values[data.role != Role.TRAIN] = np.nan
    return values


def per_user(data, events):
    return np.bincount(data.user[events], minlength=data.num_users)


@pytest.mark.parametrize("extreme", ["most", "least"])
def test_no_user_loses_more_than_the_share_and_nobody_the_first_events(data, expected, extreme):
    drawn = draw_extreme(data, expected, 40, extreme, MAX_SHARE)
    train = data.role == Role.TRAIN
    assert drawn.sum() == 40
    assert (train | ~drawn).all()
    assert (per_user(data, drawn) <= MAX_SHARE * per_user(data, train)).all()
    for user in np.unique(data.user[drawn]):
        own = np.flatnonzero(train & (data.user == user))
        assert not drawn[own[:2]].any()


def test_core_is_expected_more_of_than_all_and_edge_less(data, expected):
    core, edge = (
        expected[draw_extreme(data, expected, 40, extreme, MAX_SHARE)].mean() for extreme in ("most", "least")
    )
    assert core > np.nanmean(expected) + 0.5
    assert edge < np.nanmean(expected) - 0.5


def test_the_best_of_a_user_go_first_and_no_other_event_would_be_better(small):
    """One user with 10 events may lose 3, one with 6 one: worked by hand."""
    data = small.make_data(small.log_of([list(range(12)), list(range(8))]))
    train = np.flatnonzero(data.role == Role.TRAIN)
    assert [int((data.user[train] == user).sum()) for user in (0, 1)] == [10, 6]
    expected = np.full(data.num_events, np.nan)
    expected[train] = [99, 98, 1, 9, 8, 7, 6, 0, 0, 0, 99, 98, 5, 2, 3, np.nan]
    drawn = draw_extreme(data, expected, 4, "most", MAX_SHARE)
    assert sorted(expected[drawn].tolist()) == [5, 7, 8, 9]
    assert sorted(expected[draw_extreme(data, expected, 2, "most", MAX_SHARE)].tolist()) == [8, 9]


def test_more_than_there_are_cannot_be_drawn(data, expected):
    with pytest.raises(DataError, match=r"500 events cannot be drawn: .* there are \d+; lower share_of_events"):
        draw_extreme(data, expected, 500, "most", MAX_SHARE)
