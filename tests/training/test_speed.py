"""How fast the training loop is beside others in one run; absolute times say nothing about another machine.

Shapes: B batch, L length, D hidden.
"""

import itertools
import statistics
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from srun.data.batches import TrainingData
from srun.data.dataset import Role
from srun.models.scorer import new_model
from srun.rng import Streams
from srun.training.fit import make_adam, train_step

L, D, B, DROPOUT = 50, 64, 64, 0.5


@pytest.fixture(scope="module")
def windows(small) -> TrainingData:
    """Windows of L + 1 at most, of which three quarters are padding."""
    events = small.random_events(600, 500, low=5, high=12) + [
        (f"v{user[1:]}", item, time) for user, item, time in small.random_events(60, 500, low=45, high=55)
    ]
    data = small.make_data(events, max_length=L)
    return TrainingData(data, data.role == Role.TRAIN, None, small.CPU)


def our_steps(small, windows: TrainingData, **recipe) -> Iterator[int]:
    """Endless training of SASRec; yields how many windows every step took."""
    settings = {**small.PARAMS["model"]["sasrec"], "hidden": D, "blocks": 2, "heads": 1, "dropout": DROPOUT}
    description = {"name": "sasrec", "settings": settings, "num_items": windows.num_items, "max_length": L}
    streams, recipe = Streams(0), small.recipe(loss="bce", batch_size=B, **recipe)
    model = new_model(description)
    model.initialise(streams["weights"])
    model.use_generator(streams["dropout"])
    model.train()
    optimiser = make_adam(model, 0.001)
    while True:
        for rows in windows.epoch(B, streams["batches"], recipe.group_by_length):
            train_step(model, windows, recipe, streams, optimiser, rows)
            yield len(rows)


class PlainSASRec(nn.Module):
    """SASRec as its public implementations have it: torch's own attention and dropout, every window of full length."""

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.items, self.positions = nn.Embedding(num_items + 1, D, padding_idx=0), nn.Embedding(L, D)
        self.attention = nn.ModuleList(nn.MultiheadAttention(D, 1, DROPOUT, batch_first=True) for _ in range(2))
        self.forwards = nn.ModuleList(
            nn.Sequential(nn.Linear(D, D), nn.Dropout(DROPOUT), nn.ReLU(), nn.Linear(D, D), nn.Dropout(DROPOUT))
            for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(5))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.dropout(self.items(inputs) * D**0.5 + self.positions.weight) * (inputs != 0)[..., None]
        future = torch.ones(L, L, dtype=torch.bool).triu(1)
        for block in range(2):
            query = self.norms[2 * block](x)
            x = self.norms[2 * block + 1](query + self.attention[block](query, x, x, attn_mask=future)[0])
            x = (x + self.forwards[block](x)) * (inputs != 0)[..., None]
        return self.norms[4](x)


def plain_steps(windows: TrainingData) -> Iterator[int]:
    """Endless training of the plain model, with negatives that are not even exact."""
    model = PlainSASRec(windows.num_items)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.001)
    while True:
        for rows in torch.randperm(len(windows)).split(B):
            inputs, targets = windows.windows[rows, :-1], windows.windows[rows, 1:]
            negatives = torch.randint(1, windows.num_items + 1, targets.shape)
            hidden = model(inputs)
            positive, negative = ((hidden * model.items(items)).sum(-1) for items in (targets, negatives))
            loss = (softplus(-positive) + softplus(negative))[inputs != 0].mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            yield len(rows)


def ratio(fast: Iterator[int], slow: Iterator[int], rounds: int = 3) -> float:
    """Median over rounds of how many windows the first trains in the time in which the second trains one.

    Time of the processor, so that a busy machine hurts neither.
    """

    def rate(steps: Iterator[int]) -> float:
        began = time.process_time()
        trained = sum(itertools.islice(steps, 11))  # an epoch
        return trained / (time.process_time() - began)

    rate(fast), rate(slow)  # warm-up
    return statistics.median(rate(fast) / rate(slow) for _ in range(rounds))


def test_batches_by_length_are_faster_than_shuffled_ones(small, windows) -> None:
    assert len(windows) / B < 11
    assert (
        ratio(our_steps(small, windows, group_by_length=True), our_steps(small, windows, group_by_length=False)) > 1.5
    )


def test_training_is_faster_than_the_plain_loop(small, windows) -> None:
    torch.manual_seed(0)
    assert ratio(our_steps(small, windows, group_by_length=True), plain_steps(windows)) > 3
