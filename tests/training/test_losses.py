"""Training losses against torch's own and against formulas written out.

Shapes: T targets, N negatives, D hidden, V catalogue.
"""

import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from srun.config import build
from srun.models.base import ModelConfig, SequenceModel
from srun.rng import Streams, stream
from srun.training import losses
from srun.training.fit import TrainConfig, target_loss

V, D, T, N = 20, 8, 6, 4


@pytest.fixture
def model() -> SequenceModel:
    """The shared part of every recommender: it scores states and has no body."""
    made = SequenceModel(ModelConfig(hidden=D, dropout=0.0, tie_embeddings=True), V, 5)
    made.initialise(stream(0, "weights"))
    with torch.no_grad():
        made.embedding.weight.mul_(5)
    return made


@pytest.fixture
def state() -> Tensor:
    return 2 * torch.randn(T, D, generator=stream(0, "state"))


@pytest.fixture
def targets() -> Tensor:
    return torch.randint(1, V + 1, (T,), generator=stream(0, "targets"))


@pytest.fixture
def negatives() -> Tensor:
    return torch.randint(1, V + 1, (T, N), generator=stream(0, "negatives"))


def chosen_scores(model: SequenceModel, state: Tensor, items: Tensor) -> Tensor:
    return torch.stack([state[row] @ model.embedding.weight[items[row]].T for row in range(len(items))])


def test_bce(model: SequenceModel, state: Tensor, targets: Tensor, negatives: Tensor) -> None:
    scores = torch.cat([chosen_scores(model, state, targets[:, None]), chosen_scores(model, state, negatives)], 1)
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    expected = binary_cross_entropy_with_logits(scores, labels, reduction="none").sum(1)
    torch.testing.assert_close(losses.bce(model, state, targets, negatives), expected)


def test_ce(model: SequenceModel, state: Tensor, targets: Tensor) -> None:
    scores = state @ model.embedding.weight[1 : V + 1].T  # neither padding nor the mask
    expected = cross_entropy(scores, targets - 1, reduction="none")
    torch.testing.assert_close(losses.ce(model, state, targets, None), expected)


def test_ce_over_a_part_of_the_catalogue(model: SequenceModel, state: Tensor, targets: Tensor) -> None:
    catalogue = torch.zeros(V + 1, dtype=torch.bool)
    catalogue[::2] = True
    catalogue[targets] = True
    items = [item for item in range(1, V + 1) if catalogue[item]]
    places = torch.tensor([items.index(int(target)) for target in targets])
    expected = cross_entropy(state @ model.embedding.weight[items].T, places, reduction="none")
    torch.testing.assert_close(losses.ce(model, state, targets, catalogue), expected)
    assert (losses.ce(model, state, targets, catalogue) < losses.ce(model, state, targets, None)).all()


@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("chunk", [1, 1000 * V])
def test_gradients_of_ce_are_those_of_torch(
    model: SequenceModel, monkeypatch: pytest.MonkeyPatch, some: bool, weighted: bool, chunk: int
) -> None:
    monkeypatch.setitem(losses.CHUNK, "cpu", chunk)
    many = 100  # targets, more than the smallest chunk has
    state = 2 * torch.randn(many, D, generator=stream(0, "state"))
    targets = torch.randint(1, 8, (many,), generator=stream(0, "targets"))
    catalogue = torch.arange(V + 1) < 9 if some else None
    items = torch.arange(1, 9 if some else V + 1)
    weight = torch.linspace(-1, 2, many) if weighted else torch.full((many,), 1 / many)

    def gradients(loss: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        return loss.detach(), *torch.autograd.grad((loss * weight).sum(), [state, model.embedding.weight])

    state.requires_grad_()
    found = gradients(losses.ce(model, state, targets, catalogue), state)
    scores = state @ model.embedding.weight[items].T
    torch.testing.assert_close(found, gradients(cross_entropy(scores, targets - 1, reduction="none"), state))


def test_a_chunk_has_as_many_scores_until_too_few_targets_share_its_sum() -> None:
    assert losses._chunk_size(12_101, "cpu") == 3 * 2**19 // 12_101  # 129
    assert losses._chunk_size(12_289, "cpu") == 256
    assert losses._chunk_size(23_715, "cpu") == 256
    assert losses._chunk_size(100_000, "cpu") == 3 * 2**21 // 100_000
    assert losses._chunk_size(10_000_000, "cpu") == 32
    assert losses._chunk_size(1_000_000, "cuda") == 2**26 // 1_000_000


def test_the_loss_of_a_target_that_has_no_probability_left_is_still_a_number() -> None:
    rows, places = torch.tensor([[100.0], [-100.0]]), torch.tensor([1])
    loss, by_state, _ = losses._ce_chunks(torch.tensor([[1.0]]), rows, places, torch.ones(1), torch.float32)
    assert loss.tolist() == [200.0]
    assert by_state.tolist() == [[200.0]]


def test_ce_without_targets_or_gradients(model: SequenceModel, state: Tensor, targets: Tensor) -> None:
    empty = losses.ce(model, state[:0], targets[:0], None)
    assert empty.shape == (0,)
    assert (torch.autograd.grad(empty.sum(), model.embedding.weight)[0] == 0).all()
    with torch.no_grad():
        assert torch.equal(losses.ce(model, state, targets, None), losses.ce(model, state, targets, None))


def test_without_gradients_ce_takes_none(
    model: SequenceModel, state: Tensor, targets: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, weights = losses._ce_chunks, []

    def chunks(*given: Any) -> Any:
        weights.append(given[3])
        return plain(*given)

    monkeypatch.setattr(losses, "_ce_chunks", chunks)
    expected = losses.ce(model, state, targets, None)
    with torch.no_grad():
        assert torch.equal(losses.ce(model, state, targets, None), expected)
    assert [weight is None for weight in weights] == [False, True]


def test_ce_in_bfloat16_is_near(model: SequenceModel, state: Tensor, targets: Tensor) -> None:
    state.requires_grad_()

    def result(enabled: bool) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16, enabled):
            loss = losses.ce(model, state, targets, None)
        assert loss.dtype == torch.float32
        return loss, *torch.autograd.grad(loss.mean(), [state, model.embedding.weight])

    exact, near = result(False), result(True)
    for one, other in zip(exact, near, strict=True):
        assert not torch.equal(one, other)
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05 * float(one.detach().abs().max()))


def test_memory_of_ce_does_not_grow_with_targets_times_items() -> None:
    """Peak memory of a fresh process: all scores would take 1.6 GB, and their gradients too."""
    code = """
import resource, torch
from srun.models.base import ModelConfig, SequenceModel
from srun.training import losses
model = SequenceModel(ModelConfig(hidden=8, dropout=0.0, tie_embeddings=True), 50_000, 5)
model.initialise(torch.Generator().manual_seed(0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
state = torch.randn(8_000, 8, requires_grad=True)
losses.ce(model, state, torch.arange(1, 8_001), None).mean().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 400  # MiB; the allocator's own needs vary


def test_sampled_ce_against_every_item_is_ce(model: SequenceModel, state: Tensor, targets: Tensor) -> None:
    every = torch.arange(1, V + 1)
    sampled = losses.sampled_ce(state, model.output_weight, targets, every, V)
    torch.testing.assert_close(sampled, losses.ce(model, state, targets, None))


def test_sampled_ce_counts_each_drawn_item_for_those_not_drawn(
    model: SequenceModel, state: Tensor, targets: Tensor
) -> None:
    drawn = torch.tensor([1, 2, 5])
    scores = (state @ model.output_weight.T).detach()
    sampled = losses.sampled_ce(state, model.output_weight, targets, drawn, V).detach()
    for row, (own, loss) in enumerate(zip(targets, sampled, strict=True)):
        others = [float(scores[row, item].exp()) * V / 3 for item in drawn if item != own]
        mine = float(scores[row, own].exp())
        assert float(loss) == pytest.approx(-math.log(mine / (mine + sum(others))), rel=1e-4)


def test_catalogue_scores_keep_their_columns(model: SequenceModel, state: Tensor) -> None:
    catalogue = torch.ones(V + 1, dtype=torch.bool)
    catalogue[3] = False
    scores = losses.catalogue_scores(model, state, catalogue)
    assert scores.shape == (T, V + 1)
    assert torch.isneginf(scores).nonzero()[:, 1].unique().tolist() == [0, 3]


@pytest.mark.parametrize("t", [0.0, 0.5, 0.75, 1.0])
def test_gbce(model: SequenceModel, state: Tensor, targets: Tensor, negatives: Tensor, t: float) -> None:
    alpha = N / (V - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    assert losses.gbce_beta(N, V, t) == pytest.approx(beta)
    positive = chosen_scores(model, state, targets[:, None])[:, 0].double()
    others = chosen_scores(model, state, negatives).double()
    expected = -torch.log(torch.sigmoid(positive) ** beta) - torch.log(1 - torch.sigmoid(others)).sum(1)
    torch.testing.assert_close(
        losses.gbce(model, state, targets, negatives, beta).double(), expected, rtol=1e-5, atol=0
    )


def test_gbce_without_calibration_is_bce(
    model: SequenceModel, state: Tensor, targets: Tensor, negatives: Tensor
) -> None:
    beta = losses.gbce_beta(N, V, 0.0)
    assert beta == pytest.approx(1.0)
    expected = losses.bce(model, state, targets, negatives)
    torch.testing.assert_close(losses.gbce(model, state, targets, negatives, beta), expected)


def test_gbce_beta_at_its_ends() -> None:
    assert losses.gbce_beta(N, V, 1.0) == pytest.approx(N / (V - 1))
    assert losses.gbce_beta(V - 1, V, 0.75) == pytest.approx(1.0)  # every other item is drawn: nothing to correct
    assert losses.gbce_beta(1000, V, 0.75) == pytest.approx(1.0)
    assert losses.gbce_beta(1, 1, 0.5) == pytest.approx(1.0)


@pytest.mark.parametrize("loss", ["bce", "gbce", "ce"])
def test_the_recipe_chooses_the_loss_of_real_targets(
    model: SequenceModel, state: Tensor, targets: Tensor, negatives: Tensor, loss: str
) -> None:
    values = {"loss": loss, "num_negatives": N, "gbce_t": 0.75, "learning_rate": 0.1, "batch_size": 2}
    values |= {"group_by_length": True, "lazy_adam": False, "precision": "float32"}
    recipe = build(TrainConfig, values | {"max_epochs": 1, "evaluate_every": 1, "patience": 1})
    users = torch.tensor([7, 9])

    def draw(owners: Tensor, count: int, generator: torch.Generator) -> Tensor:
        assert owners.tolist() == [7, 7, 9, 9, 9, 9]
        assert count == N
        return negatives

    data: Any = SimpleNamespace(catalogue=None, candidates=torch.arange(1, V + 1), negatives=draw)
    padded = torch.cat([targets.new_zeros(2), targets]).view(2, 4)
    hidden = torch.cat([state.new_ones(2, D), state]).view(2, 4, D)
    expected = {
        "bce": losses.bce(model, state, targets, negatives),
        "gbce": losses.gbce(model, state, targets, negatives, losses.gbce_beta(N, V, 0.75)),
        "ce": losses.ce(model, state, targets, None),
    }[loss]
    found = target_loss(model, hidden, padded, users, data, recipe, Streams(0))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("loss", ["bce", "gbce", "ce"])
def test_large_scores_stay_finite(model: SequenceModel, loss: str) -> None:
    state = 1e4 * torch.ones(T, D)
    state.requires_grad_()
    targets, negatives = torch.arange(1, T + 1), torch.arange(1, T * N + 1).view(T, N) % V + 1
    values = {
        "bce": lambda: losses.bce(model, state, targets, negatives),
        "gbce": lambda: losses.gbce(model, state, targets, negatives, 0.3),
        "ce": lambda: losses.ce(model, state, targets, None),
    }[loss]()
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert torch.isfinite(state.grad).all()  # type: ignore[arg-type]


def test_one_candidate_costs_nothing(model: SequenceModel, state: Tensor) -> None:
    catalogue = torch.zeros(V + 1, dtype=torch.bool)
    catalogue[2] = True
    assert losses.ce(model, state, torch.full((T,), 2), catalogue).tolist() == pytest.approx([0.0] * T)
