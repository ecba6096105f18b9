"""Named random streams: independent by name and seed, savable, and free of the global generators."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from srun.rng import Streams, derive, numpy_stream, stream

NAMES = st.text(max_size=12)
SEEDS = st.integers(0, 2**40)


@given(SEEDS, NAMES, SEEDS, NAMES)
def test_other_seeds_and_names_give_other_streams(seed, name, other_seed, other_name):
    assert 0 <= derive(seed, name) < 2**63
    assert (derive(seed, name) == derive(other_seed, other_name)) == ((seed, name) == (other_seed, other_name))


def test_the_derivation_is_fixed():
    assert derive(0, "negatives") == derive(0, "negatives")
    assert derive(1, "1/x") != derive(11, "/x")
    assert torch.equal(torch.rand(3, generator=stream(3, "a")), torch.rand(3, generator=stream(3, "a")))
    assert (numpy_stream(3, "a").random(3) == numpy_stream(3, "a").random(3)).all()


def test_streams_of_two_names_are_not_correlated():
    first, second = (numpy_stream(0, name).random(20_000) for name in ("batches", "negatives"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_global_generators_are_neither_read_nor_moved():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    drawn = torch.rand(2, generator=Streams(5)["x"])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    torch.manual_seed(99)
    assert torch.equal(torch.rand(2, generator=Streams(5)["x"]), drawn)


def test_a_draw_from_one_stream_does_not_move_another():
    one, two = Streams(0), Streams(0)
    torch.rand(100, generator=one["a"])
    assert torch.equal(torch.rand(5, generator=one["b"]), torch.rand(5, generator=two["b"]))


def test_states_are_put_back():
    streams = Streams(0)
    torch.rand(3, generator=streams["a"])
    state = streams.state()
    expected = torch.rand(4, generator=streams["a"]), torch.rand(4, generator=streams["b"])
    again = Streams(0)
    again.restore(state)
    assert torch.equal(torch.rand(4, generator=again["a"]), expected[0])
    assert torch.equal(torch.rand(4, generator=again["b"]), expected[1])


def test_restore_moves_generators_that_were_handed_out_before():
    streams = Streams(0)
    held = streams["a"]
    state = streams.state()
    first = torch.rand(4, generator=held)
    streams.restore(state)
    assert torch.equal(torch.rand(4, generator=held), first)
