"""Counted operations agree with a count by hand, also of products that torch's counter does not know by itself."""

import pytest
import torch

from srun.data.batches import TrainingData
from srun.data.dataset import Role
from srun.models import products
from srun.models.scorer import new_model
from srun.rng import Streams
from srun.system.flops import counting_flops
from srun.system.meter import Meter
from srun.training import losses
from srun.training.fit import make_optimiser, train_step


def counted(work) -> float:
    meter = Meter()
    with counting_flops(), meter.running():
        work()
    return meter.read().flops


@pytest.mark.parametrize("onednn", [False, True])
def test_a_product_is_two_for_each_multiplication(monkeypatch, onednn):
    if onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(products, "onednn_pays", lambda: onednn)
    one, other = torch.randn(2**11, 64), torch.randn(2**6, 64)
    assert counted(lambda: products.product(one, other)) == 2 * 2**11 * 64 * 2**6


@pytest.mark.parametrize("onednn", [False, True])
def test_a_layer_counts_forward_and_both_gradients(monkeypatch, onednn):
    if onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(products, "onednn_pays", lambda: onednn)
    rows = torch.randn(2**12, 64, requires_grad=True)  # of a size that is not filled up
    weight, bias = torch.randn(64, 64, requires_grad=True), torch.randn(64, requires_grad=True)
    assert counted(lambda: products.linear(rows, weight, bias).sum().backward()) == 3 * 2 * 2**12 * 64 * 64


def test_solves_are_counted():
    matrices, right = torch.eye(6).expand(3, 6, 6).contiguous(), torch.ones(3, 6, 1)
    assert counted(lambda: torch.linalg.cholesky(matrices)) == 3 * 6**3 / 3
    assert counted(lambda: torch.cholesky_solve(right, matrices)) == 3 * 2 * 6**2


NUM_ITEMS, HIDDEN, LENGTH, USERS = 20, 8, 4, 6


@pytest.fixture
def data(small):
    """Users with as many items each, so that nothing is padding: two for validation and test, the others train."""
    return small.make_data(
        small.log_of([[1 + (user + k) % NUM_ITEMS for k in range(LENGTH + 3)] for user in range(NUM_ITEMS)])
    )


@pytest.mark.parametrize("alike", [True, False])
def test_cross_entropy_takes_its_gradients_on_the_way(small, data, alike):
    """Scores, and gradients by states and rows; once more where the losses turn out not to count the same."""
    model = new_model(small.describe_model(data, hidden=HIDDEN))
    model.initialise(Streams(0)["weights"])
    state = torch.randn(10, HIDDEN, requires_grad=True)
    weights = torch.ones(10) if alike else torch.arange(10.0)

    def work():
        (losses.ce(model, state, torch.arange(1, 11), None) * weights).sum().backward()

    assert counted(work) == (1 if alike else 2) * 3 * 2 * 10 * data.num_items * HIDDEN


def test_a_training_step_agrees_with_a_count_by_hand(small, data):
    train = small.recipe(loss="ce", batch_size=USERS, group_by_length=False)
    model = new_model(small.describe_model(data, hidden=HIDDEN, blocks=1, heads=1, dropout=0.0))
    streams = Streams(0)
    model.initialise(streams["weights"])
    windows = TrainingData(data, data.role == Role.TRAIN, None, torch.device("cpu"))
    optimiser = make_optimiser(model, train)
    length = int(windows.length[:USERS].max()) - 1
    assert int((windows.length[:USERS] - 1).min()) == length, "no padding, or the count is another"
    positions = USERS * length
    weights_met = 2 * 2 * HIDDEN**3  # query times key, value times output
    layers = 4 * 2 * positions * HIDDEN**2  # of queries and values, inner, outer
    attention = 2 * 2 * positions * length * HIDDEN
    scores = 2 * positions * data.num_items * HIDDEN
    step = counted(lambda: train_step(model, windows, train, streams, optimiser, torch.arange(USERS)))
    assert step == 3 * (weights_met + layers + attention + scores)


def test_nothing_is_counted_unless_it_is_asked_for():
    meter = Meter()
    with meter.running():
        products.product(torch.randn(8, 8), torch.randn(8, 8))
    assert meter.read().flops == 0
