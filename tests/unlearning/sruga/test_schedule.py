import pytest
from hypothesis import given
from hypothesis import strategies as st

from srun.unlearning.sruga.schedule import annealed

SHAPES = ("linear", "cosine", "exponential")


@given(st.integers(0, 40), st.integers(1, 20), st.floats(0.01, 1), st.sampled_from(SHAPES))
def test_annealing_falls_from_one_to_the_floor(epoch, epochs, floor, shape):
    assert annealed(0, shape, epochs, floor) == pytest.approx(1.0)
    assert floor - 1e-12 <= annealed(epoch + 1, shape, epochs, floor) <= annealed(epoch, shape, epochs, floor) + 1e-12
    assert annealed(epochs + epoch, shape, epochs, floor) == pytest.approx(floor)
    assert annealed(epoch, "none", epochs, floor) == 1.0


@pytest.mark.parametrize(("shape", "half", "quarter"), [("linear", 0.52, 0.76), ("exponential", 0.2, 0.2**0.5)])
def test_on_the_way(shape, half, quarter):
    assert annealed(10, shape, 20, 0.04) == pytest.approx(half)
    assert annealed(5, shape, 20, 0.04) == pytest.approx(quarter)


def test_cosine_starts_and_ends_slowly():
    values = [annealed(epoch, "cosine", 4, 0.0) for epoch in range(5)]
    assert values == pytest.approx([1.0, 0.8535534, 0.5, 0.1464466, 0.0])
