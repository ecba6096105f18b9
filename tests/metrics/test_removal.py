"""Removal rates by hand."""

import math

import numpy as np
import pytest

from srun.metrics.removal import kept_rate, list_removal_rate, removal_rate


def ranks(*values):
    return np.array(values, dtype=float)


@pytest.mark.parametrize(
    ("before", "after", "rate"),
    [
        (ranks(1, 5, 10, 11), ranks(1, 11, 10.5, 2), 1 - 2 / 3),
        (ranks(1, 2), ranks(1, 2), 0.0),
        (ranks(1, 2), ranks(11, 500), 1.0),
        (ranks(1, 50), ranks(1, 2), -1.0),
    ],
)
def test_removal_rate(before, after, rate):
    assert removal_rate(before, after) == pytest.approx(rate)
    assert kept_rate(before, after) == pytest.approx(1 - rate)


def test_another_cut_off():
    assert removal_rate(ranks(1, 4), ranks(1, 6), k=5) == 0.5
    assert removal_rate(ranks(1, 4), ranks(1, 6), k=10) == 0.0


def test_nothing_to_remove_is_no_number():
    assert math.isnan(removal_rate(ranks(), ranks()))
    assert math.isnan(removal_rate(ranks(11, 12), ranks(1, 2)))
    assert math.isnan(kept_rate(ranks(11), ranks(1)))
    lists = np.array([[1, 2]])
    assert math.isnan(list_removal_rate(lists, lists, np.array([False, False, False])))


def test_list_removal_counts_net_entries():
    items = np.array([True, True, True, False, False])  # item 0 is no item, whatever the mask says
    before = np.array([[1, 2, 3], [2, 3, 4]])
    assert list_removal_rate(before, np.array([[2, 1, 4], [1, 3, 4]]), items) == 0.0
    assert list_removal_rate(before, np.array([[3, 4, 0], [1, 3, 4]]), items) == pytest.approx(2 / 3)
    assert list_removal_rate(before, np.array([[3, 4, 0], [3, 4, 0]]), items) == 1.0
