"""LazyAdam against a loop over rows, and what the recipe's switch does to a model.

Shapes: V rows, D width.
"""

import math

import pytest
import torch
from torch import nn

from srun.data.batches import TrainingData
from srun.data.dataset import Role
from srun.models.scorer import new_model
from srun.rng import Streams
from srun.training.fit import make_adam, make_optimiser, train_step
from srun.training.lazy_adam import LazyAdam

V, D, RATE = 7, 3, 0.1


def steps(seed: int) -> list[torch.Tensor]:
    """Items looked up in six steps, some more than once, row 4 never."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.tensor([0, 1, 2, 3, 5, 6])[torch.randint(6, (4,), generator=generator)] for _ in range(6)]


def loss(rows: torch.Tensor, number: int) -> torch.Tensor:
    """Gradients that change from step to step and differ between weights."""
    return (rows.pow(2) * (1 + number)).sum() + rows.sum() * math.sin(number)


def by_hand(table: list[list[float]]) -> list[list[float]]:
    """The same training with a counter and moments of every row, weight by weight."""
    counts, moments = [0] * V, [[(0.0, 0.0)] * D for _ in range(V)]
    for number, items in enumerate(steps(0)):
        looked = items.tolist()
        for row in sorted(set(looked)):
            counts[row] += 1
            for column in range(D):
                value = table[row][column]
                gradient = looked.count(row) * (2 * value * (1 + number) + math.sin(number))
                mean, square = moments[row][column]
                mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
                moments[row][column] = mean, square
                corrected = square / (1 - 0.999 ** counts[row])
                table[row][column] -= RATE * mean / (1 - 0.9 ** counts[row]) / (math.sqrt(corrected) + 1e-8)
    return table


def trained(
    sparse: bool, lookups: list[torch.Tensor], kind: type[torch.optim.Adam]
) -> tuple[torch.Tensor, nn.Embedding]:
    table = nn.Embedding(V, D, sparse=sparse, dtype=torch.float64)
    table.weight.data = torch.linspace(-1, 1, V * D, dtype=torch.float64).view(V, D)
    first = table.weight.detach().clone()
    optimiser = kind(table.parameters(), lr=RATE)
    for number, items in enumerate(lookups):
        optimiser.zero_grad()
        loss(table(items), number).backward()
        optimiser.step()
    return first, table


def test_rows_go_as_by_hand_and_others_keep_their_bits():
    first, table = trained(True, steps(0), LazyAdam)
    expected = torch.tensor(by_hand(first.tolist()), dtype=torch.float64)
    torch.testing.assert_close(table.weight.detach(), expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(table.weight[4], first[4])


def test_rows_seen_in_every_step_go_as_under_adam():
    everything = [torch.arange(V)] * 5
    lazy, usual = (
        trained(sparse, everything, kind)[1] for sparse, kind in ((True, LazyAdam), (False, torch.optim.Adam))
    )
    torch.testing.assert_close(lazy.weight, usual.weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("loss", ["bce", "gbce"])
def test_the_first_step_of_a_model_is_that_of_adam(small, loss, tied):
    """From no moments on there is no difference: a row without a gradient does not move under Adam either."""
    data = small.make_data(small.random_events(20, 60))
    windows = TrainingData(data, data.role == Role.TRAIN, None, small.CPU)
    weights = []
    for lazy in (True, False):
        streams, recipe = Streams(0), small.recipe(loss=loss, lazy_adam=lazy)
        model = new_model(small.describe_model(data, tie_embeddings=tied))
        model.initialise(streams["weights"])
        model.use_generator(streams["dropout"])
        optimiser = make_optimiser(model, recipe)
        train_step(model, windows, recipe, streams, optimiser, torch.arange(8))
        weights.append(model.state_dict())
        moments = optimiser.state_dict()["state"][0]
        assert not lazy or 0 < int((moments["step"] > 0).sum()) < len(moments["step"])
        train_step(
            model, windows, small.recipe(loss="ce"), streams, make_adam(model, 0.1), torch.arange(8)
        )  # dense again
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-4, atol=1e-5, msg=name)


def test_full_cross_entropy_refuses_it(small):
    with pytest.raises(ValueError, match="lazy_adam needs loss bce or gbce"):
        small.recipe(loss="ce", lazy_adam=True)
