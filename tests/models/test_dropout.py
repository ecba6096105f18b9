"""Dropout from a given generator: its rate, its scale, its repeatability."""

import pytest
import torch

from srun.models.base import Dropout
from srun.rng import stream

SIZE = 200_001  # no multiple of the eight positions that one random integer serves


def dropped(rate: float, seed: int = 0, size: int = SIZE) -> torch.Tensor:
    dropout = Dropout(rate)
    dropout.generator = stream(seed, "dropout")
    return dropout(torch.ones(size))


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
def test_rate_and_scale(rate: float) -> None:
    result = dropped(rate)
    exact = round(rate * 256) / 256
    deviation = (exact * (1 - exact) / SIZE) ** 0.5
    assert abs(float((result == 0).float().mean()) - exact) < 5 * deviation
    assert abs(exact - rate) <= 1 / 512
    assert result.max().item() == pytest.approx(1 / (1 - exact))
    assert result.unique().numel() == 2


def test_positions_are_independent() -> None:
    """Neighbours, among them those that share a random integer, agree as often as independent ones do."""
    kept = (dropped(0.5) != 0).float()
    for shift in (1, 3, 7, 8, 9):
        agreement = float((kept[:-shift] == kept[shift:]).float().mean())
        assert abs(agreement - 0.5) < 5 * 0.5 / SIZE**0.5


def test_same_generator_same_masks() -> None:
    assert torch.equal(dropped(0.5, seed=1), dropped(0.5, seed=1))
    assert not torch.equal(dropped(0.5, seed=1), dropped(0.5, seed=2))


def test_masks_differ_from_call_to_call() -> None:
    dropout = Dropout(0.5)
    dropout.generator = stream(0, "dropout")
    assert not torch.equal(dropout(torch.ones(64)), dropout(torch.ones(64)))


def test_the_global_generator_is_untouched() -> None:
    before = torch.get_rng_state()
    dropped(0.5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True)])
def test_identity_in_eval_mode_and_at_rate_zero(rate: float, training: bool) -> None:
    dropout = Dropout(rate).train(training)
    dropout.generator = stream(0, "dropout")
    before, x = dropout.generator.get_state(), torch.randn(10)
    assert dropout(x) is x
    assert torch.equal(dropout.generator.get_state(), before)


def test_gradients_pass_where_the_values_do() -> None:
    dropout = Dropout(0.5)
    dropout.generator = stream(0, "dropout")
    x = torch.ones(1000, requires_grad=True)
    result = dropout(x)
    result.sum().backward()
    assert torch.equal(x.grad, result.detach())  # type: ignore[arg-type]  # not None after backward


def test_a_rate_near_one_keeps_something() -> None:
    result = dropped(0.9999)
    assert torch.isfinite(result).all()
    assert (result != 0).any()


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 5)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    dropout = Dropout(0.5)
    dropout.generator = stream(0, "dropout")
    assert dropout(torch.ones(shape)).shape == shape
