"""Weightings on gradients made by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srun.rng import Streams
from srun.unlearning.sruga.weighting import NAMES, make_weighting, min_norm, pcgrad


def points(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def shares(*rows):
    gradients = points(*rows)
    return min_norm(gradients @ gradients.T)


def backward(kind, losses, rate=0.1, streams=None, times=1):
    """Gradients of two parameters after ``times`` steps; ``losses`` maps them to {name: (weight, loss)}."""
    one, two = (torch.nn.Parameter(torch.tensor(value)) for value in ([1.0, 2.0], [3.0]))
    weighting = make_weighting(kind, rate, streams or Streams(0))
    for _ in range(times):
        one.grad = two.grad = None
        weighting.backward(losses(one, two), [one, two])
    return one.grad, two.grad, weighting


def test_fixed_is_the_gradient_of_the_weighted_sum():
    one, two, _ = backward("fixed", lambda a, b: {"ascent": (0.5, (a * a).sum()), "kl": (2.0, b.sum())})
    assert one.tolist() == [1.0, 2.0]
    assert two.tolist() == [2.0]


def test_pcgrad_takes_the_conflict_out_of_both():
    # g1 = (1, 0), g2 = (-1, 1): g1 . g2 = -1; g1' = g1 + g2 / 2 = (1/2, 1/2); g2' = g2 + g1 = (0, 1)
    total = pcgrad(points([1, 0], [-1, 1]), [(0, 1), (1, 0)])
    assert total.tolist() == [0.5, 1.5]


def test_pcgrad_leaves_agreeing_terms_alone():
    gradients = points([1, 0], [1, 1], [0, 2])
    assert torch.equal(pcgrad(gradients, [range(3)] * 3), gradients.sum(0))


def test_pcgrad_projects_on_original_gradients_in_the_given_order():
    gradients = points([1, 0], [-1, 1], [-1, -1])
    # g1 first against g2: (1/2, 1/2), which meets g3 with -1: + g3 / 2 = (0, 0)
    # the other way round: (1/2, -1/2), then against g2: (1/2, -1/2) + g2 / 2 = (0, 0)
    for order in ((1, 2), (2, 1)):
        alone = pcgrad(gradients, [order, (), ()]) - gradients[1:].sum(0)
        assert alone.tolist() == [0.0, 0.0]


def test_opposite_gradients_cancel():
    assert pcgrad(points([1, 2], [-1, -2]), [(1,), (0,)]).tolist() == [0, 0]
    assert shares([1, 2], [-1, -2]).tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 0], [0, 1]], [0.5, 0.5]),
        ([[2, 0], [0, 1]], [0.2, 0.8]),  # (g2 - g1) . g2 / |g1 - g2|^2
        ([[1, 0], [3, 0]], [1, 0]),  # the shorter of two that agree
        ([[1, 1], [2, 2.0], [1, -1]], [0.5, 0, 0.5]),
        ([[0, 0], [1, 5]], [1, 0]),
        ([[3, 4]], [1]),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_min_norm_by_hand(rows, expected):
    assert shares(*rows).tolist() == pytest.approx(expected, abs=1e-7)


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 4))
def test_nothing_in_the_hull_is_shorter(seed, count, width):
    generator = np.random.default_rng(seed)
    gradients = torch.from_numpy(generator.normal(size=(count, width)) * generator.lognormal(0, 2, (count, 1)))
    found = min_norm(gradients @ gradients.T)
    assert (found >= 0).all()
    assert float(found.sum()) == pytest.approx(1)
    others = torch.from_numpy(generator.dirichlet([0.5] * count, 500))
    length = (found @ gradients).norm()
    assert ((others @ gradients).norm(dim=1) >= length - 1e-6 * gradients.norm()).all()
    # common descent: no term rises along the step (Desideri, 2012)
    assert (gradients @ (found @ gradients) >= length**2 - 1e-6 * gradients.norm() ** 2).all()


def terms(a, b):
    return {"ascent": (0.5, (2 * a * a).sum()), "finetune": (1.0, -a.sum() + b.sum())}


def test_mgda_and_pcgrad_work_on_weighted_gradients_over_all_parameters():
    gradients = points([2, 4, 0], [-1, -1, 1])
    one, two, _ = backward("pcgrad", terms)
    assert torch.cat([one, two]).tolist() == pytest.approx(pcgrad(gradients, [(1,), (0,)]).tolist())
    one, two, _ = backward("mgda", terms)
    expected = shares(*gradients.tolist()) @ gradients
    assert torch.cat([one, two]).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_uncertainty_starts_as_fixed_and_learns_its_equation():
    def losses(a, b):
        return {"kl": (1.0, (a * a).sum()), "finetune": (1.0, 0.1 * b.sum())}  # 5 and 0.3

    fixed, learned = backward("fixed", losses), backward("uncertainty", losses)
    assert torch.equal(fixed[0], learned[0])
    *_, weighting = backward("uncertainty", losses, rate=0.05, times=400)
    factors = dict(zip(NAMES, weighting._factors(), strict=True))
    # d/ds (exp(-s) L + s / 2) = 0 where exp(-s) = 1 / (2 L)
    assert factors["kl"] == pytest.approx(1 / 10, rel=0.02)
    assert factors["finetune"] == pytest.approx(1 / 0.6, rel=0.02)
    assert factors["ascent"] == 1.0
    assert weighting.figures()["unlearn/kl_factor"] == factors["kl"]


def test_what_uncertainty_learned_survives():
    def losses(a, b):
        return {"kl": (1.0, (a * a).sum()), "finetune": (1.0, b.sum())}

    *_, whole = backward("uncertainty", losses, times=5)
    *_, first = backward("uncertainty", losses, times=3)
    again = make_weighting("uncertainty", 0.1, Streams(0))
    again.restore({name: tensor.clone() for name, tensor in first.tensors().items()})
    a, b = (torch.nn.Parameter(torch.tensor(value)) for value in ([1.0, 2.0], [3.0]))
    for _ in range(2):
        again.backward(losses(a, b), [a, b])
    assert torch.equal(again.log_variance, whole.log_variance)
    assert all(math.isfinite(value) for value in again.figures().values())
