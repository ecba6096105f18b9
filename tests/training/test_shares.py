"""What several processes compute for a batch adds up to what one computes, and their random streams stay together."""

import pytest
import torch

from srun.data.batches import TrainingData
from srun.data.dataset import Role
from srun.models import MODELS
from srun.rng import Streams
from srun.system import distributed
from srun.training.fit import train_step

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def windows(small):
    data = small.make_data(small.random_events(30, 15))
    return data, TrainingData(data, data.role == Role.TRAIN, None, CPU)


def step(small, windows, model, loss, num_rows):
    """Losses and gradients of a step, and the state of the random streams after it."""
    data, training = windows
    network = small.random_model(data, model, dropout=0.4).train()
    streams = Streams(3)
    network.use_generator(streams["dropout"])
    still = torch.optim.SGD(network.parameters(), lr=0.0)
    found, _ = train_step(network, training, small.recipe(loss=loss), streams, still, torch.arange(num_rows))
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return found, gradients, streams.state()


@pytest.mark.parametrize("num_rows", [1, 2, 7])
@pytest.mark.parametrize("loss", ["bce", "gbce", "ce"])
@pytest.mark.parametrize("model", MODELS)
def test_shares_of_a_batch_add_up_to_it(small, windows, monkeypatch, model, loss, num_rows):
    losses, gradients, streams = step(small, windows, model, loss, num_rows)
    monkeypatch.setattr(distributed, "add_up", lambda tensor: tensor)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "_place", {"rank": rank, "size": 3, "local_rank": rank})
        parts.append(step(small, windows, model, loss, num_rows))
    torch.testing.assert_close(torch.cat([part for part, _, _ in parts]), losses)
    for name, gradient in gradients.items():
        total = sum(part[name] for _, part, _ in parts)
        torch.testing.assert_close(total, gradient, rtol=1e-4, atol=1e-6, msg=name)
    for _, _, state in parts:
        assert all(torch.equal(state[name], expected) for name, expected in streams.items())
