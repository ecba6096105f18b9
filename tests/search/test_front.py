"""Fronts and hypervolume: worked by hand, against sampling, and the properties that make them a measure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srun.search.front import front, hypervolume, hypervolume_over_time

points = st.integers(1, 3).flatmap(
    lambda m: st.lists(st.lists(st.integers(0, 6), min_size=m, max_size=m), min_size=1, max_size=12)
)


def array(rows):
    return np.array(rows, dtype=np.float64)


def test_front_by_hand():
    rows = array([[1, 4], [2, 2], [3, 3], [4, 1], [2, 2], [4, 4]])
    assert front(rows).tolist() == [True, True, False, True, True, False]


def test_hypervolume_by_hand():
    assert hypervolume(array([[1, 3], [2, 1]]), array([4])[0] * np.ones(2)) == 3 * 1 + 2 * 2
    assert hypervolume(array([[1], [3]]), array([5])) == 4
    assert hypervolume(array([[0, 0, 0], [1, 1, 1]]), array([2, 2, 2])) == 8
    assert hypervolume(array([[0, 1, 1], [1, 0, 0]]), array([2, 2, 2])) == 2 + 4 - 1


def test_what_lies_beyond_the_reference_point_adds_nothing():
    assert hypervolume(array([[5, 0], [4, 1]]), array([4, 4])) == 0
    assert hypervolume(array([[5, 0], [1, 1]]), array([4, 4])) == 9


@given(points)
def test_hypervolume_counts_the_unit_cells_that_are_dominated(rows):
    values = array(rows)
    reference = np.full(values.shape[1], 5.0)
    grid = np.stack(np.meshgrid(*[np.arange(5)] * values.shape[1], indexing="ij"), -1).reshape(-1, values.shape[1])
    covered = (values[:, None] <= grid[None]).all(2).any(0)
    assert hypervolume(values, reference) == pytest.approx(covered.sum())


@given(points)
def test_the_front_has_all_of_the_hypervolume_and_nothing_too_much(rows):
    values, reference = array(rows), np.full(len(rows[0]), 6.5)
    kept = front(values)
    assert hypervolume(values[kept], reference) == pytest.approx(hypervolume(values, reference))
    for row in values[~kept]:
        assert any((other <= row).all() and (other < row).any() for other in values[kept])
    over_time = hypervolume_over_time(values, reference)
    assert (np.diff(over_time) >= -1e-12).all()
    assert over_time[-1] == hypervolume(values, reference)
