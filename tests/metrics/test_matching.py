import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from srun.metrics.matching import match

PAIRS = st.lists(st.tuples(st.integers(1, 10), st.integers(0, 50)), max_size=40)


def table(pairs):
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def rng():
    return np.random.default_rng(0)


@given(PAIRS, PAIRS, st.integers(1, 3))
def test_shapes_and_range(wanted, pool, number):
    rows, partners = match(table(wanted), table(pool), number, rng())
    assert partners.shape == (len(rows), number)
    assert (np.diff(rows) > 0).all()
    assert ((partners >= 0) & (partners < max(len(pool), 1))).all()


def test_partners_are_alike():
    wanted = table([(1, 1), (10, 100)] * 40)
    pool = table([(1, 1), (1, 100), (10, 1), (10, 100), (5, 50)] * 40)
    rows, partners = match(wanted, pool, 2, rng())
    assert len(rows) == 80
    assert (pool[partners] == wanted[rows][:, None]).all()


def test_an_event_without_anything_like_it_is_left_out():
    rows, _ = match(table([(1, 1), (10, 100)] * 40), table([(1, 1)] * 5), 1, rng())
    assert rows.tolist() == list(range(0, 80, 2))


def test_matching_removes_a_difference_in_popularity():
    """Ranks that follow popularity alone: before matching the samples differ, afterwards they hardly do."""
    generator = np.random.default_rng(1)
    wanted = np.stack([generator.integers(1, 11, 500), generator.geometric(0.05, 500)], 1)
    pool = np.stack([generator.integers(1, 11, 3000), generator.geometric(0.02, 3000)], 1)
    rows, partners = match(wanted, pool, 2, rng())
    assert abs(pool[:, 1].mean() - wanted[:, 1].mean()) > 20
    assert abs(np.median(pool[partners][..., 1]) - np.median(wanted[rows][:, 1])) < 3


def test_few_partners_are_used_equally_often_and_the_draw_depends_on_the_seed_alone():
    wanted, pool = table([(1, 1)] * 9), table([(1, 1)] * 6)
    _, partners = match(wanted, pool, 2, rng())
    assert np.bincount(partners.ravel()).tolist() == [3] * 6
    assert np.array_equal(partners, match(wanted, pool, 2, rng())[1])
    many = match(wanted, table([(1, 1)] * 100), 2, rng())[1]
    assert len(np.unique(many)) == many.size
