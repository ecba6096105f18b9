"""What every recommender must do, over every entry of MODELS.

Shapes: B batch, L length, D hidden, V catalogue, n maximum length of a history.
"""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from srun.config import build, read_yaml
from srun.errors import ConfigError
from srun.models import MODELS
from srun.models.base import Dropout, SequenceModel
from srun.models.published import load_published, publish
from srun.models.scorer import Scorer, clone_model, new_model
from srun.rng import stream
from srun.training import losses

V, N, D = 30, 6, 8  # catalogue, n, hidden
ROOT = Path(__file__).parents[2]

SETTINGS: dict[str, dict[str, Any]] = {
    "sasrec": {"blocks": 2, "heads": 2},
    "bert4rec": {"blocks": 2, "heads": 2, "mask_probability": 0.3, "norm_first": False, "gelu": "exact"},
    "caser": {"window": 3, "vertical_filters": 2, "horizontal_filters": 3},
}
"""What stands in for a model's block of params.yaml, to make it small."""


def values_of(name: str, **changes: object) -> dict[str, Any]:
    block = read_yaml(ROOT / "params.yaml")["model"][name]
    return {**block, "hidden": D, "dropout": 0.2, "tie_embeddings": True, **SETTINGS.get(name, {}), **changes}


def another(name: str, key: str) -> Any:
    """A valid value of a setting other than the one that ``make`` gives it."""
    values, kind = values_of(name), MODELS[name].Config
    now = values[key]
    candidates: list[Any] = [not now] if isinstance(now, bool) else list(get_args(get_type_hints(kind)[key]))
    if isinstance(now, int) and not isinstance(now, bool):
        candidates = [now // 2, now + 1, now * 2]
    elif isinstance(now, float):
        candidates = [1 - now, now / 2]
    for candidate in candidates:
        with contextlib.suppress(ConfigError):
            build(kind, {**values, key: candidate}, name)
            if candidate != now:
                return candidate
    pytest.fail(f"model.{name}.{key}: no other value was found, so it cannot be shown to do something")


def make(name: str, seed: int = 0, **changes: object) -> SequenceModel:
    """An initialised model in eval mode."""
    values = values_of(name, **changes)
    model = new_model({"name": name, "settings": values, "num_items": V, "max_length": N})
    model.initialise(stream(seed, "weights"))
    model.use_generator(stream(seed, "dropout"))
    return model.eval()


def pad_front(rows: list[list[int]], width: int) -> Tensor:
    return torch.tensor([[0] * (width - len(row)) + row for row in rows])


def histories(batch: int = 5, seed: int = 0) -> Tensor:
    """Histories (B, n) of 1 to n items, the first full."""
    items = torch.randint(1, V + 1, (batch, N), generator=stream(seed, "histories"))
    for row in range(1, batch):
        items[row, : (row * 2) % N] = 0
    return items


def windows(seed: int = 0) -> Tensor:
    """Windows (B, n+1) of at least 2 items."""
    return torch.cat([histories(seed=seed), torch.randint(1, V + 1, (5, 1), generator=stream(seed, "last"))], 1)


def last_scores(model: SequenceModel, items: Tensor) -> Tensor:
    return model.scores(model.hidden(model.prediction_inputs(items))[:, -1])


every_model = pytest.mark.parametrize("name", list(MODELS))
next_item_model = pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].next_item])


@every_model
def test_shapes(name: str) -> None:
    model = make(name)
    inputs, targets = model.training_pairs(windows(), stream(0, "cloze"))
    hidden = model.hidden(inputs)
    assert inputs.shape == targets.shape
    assert hidden.shape == (*inputs.shape, D)
    assert model.scores(hidden[:, -1]).shape == (5, V + 1)
    assert ((inputs != 0) | (targets == 0)).all(), "a target stands at padding"
    assert model.hidden(model.last_item_inputs(windows()))[:, -1].shape == (5, D)


@every_model
@pytest.mark.parametrize("training", [False, True])
def test_the_last_state_is_that_of_all_states(name: str, training: bool) -> None:
    model = make(name, dropout=0.0).train(training)
    inputs = model.prediction_inputs(histories())
    torch.testing.assert_close(model.last_state(inputs), model.hidden(inputs)[:, -1])
    assert model.last_state(inputs[:1]).shape == (1, D)


@every_model
def test_scores_of_items_are_those_of_the_catalogue(name: str) -> None:
    model = make(name, tie_embeddings=False)
    state = model.hidden(model.prediction_inputs(histories()))[:, -1]
    scores = model.scores(state)
    items = torch.arange(1, 11).view(5, 2)
    torch.testing.assert_close(model.item_scores(state, items), scores.gather(1, items))
    torch.testing.assert_close(model.item_scores(state, items[:, 0]), scores.gather(1, items[:, :1])[:, 0])


@every_model
@pytest.mark.parametrize("tied", [True, False])
def test_gradients_are_finite_and_reach_every_parameter(name: str, tied: bool) -> None:
    model = make(name, tie_embeddings=tied).train()
    inputs, targets = model.training_pairs(windows(), stream(0, "cloze"))
    place = targets != 0
    losses.ce(model, model.hidden(inputs)[place], targets[place], None).mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        # attention does not depend on the bias of its keys: the softmax takes it away
        assert parameter.grad.abs().sum() > 0 or "key.bias" in parameter_name, parameter_name
    assert (model.embedding.weight.grad[0] == 0).all(), "padding is learned"  # type: ignore[index]  # not None: asserted above


@every_model
def test_untied_scores_use_the_output_embedding(name: str) -> None:
    tied, untied = make(name), make(name, tie_embeddings=False)
    assert tied.output is None
    assert untied.output is not None
    before = last_scores(untied, histories())
    with torch.no_grad():
        untied.output.weight[3] += 1
    after = last_scores(untied, histories())
    changed = (before != after).any(0)
    assert changed[3]
    assert changed.sum() == 1


@every_model
def test_save_and_load_gives_the_same_scores(name: str, tmp_path: Path) -> None:
    model = make(name, tie_embeddings=False)
    publish(tmp_path / "model", Scorer([model]), {"seed": 0}, [{"epoch": 1.0}])
    loaded, _ = load_published(tmp_path / "model")
    users = torch.zeros(5, dtype=torch.int64)
    assert torch.equal(loaded.scores(histories(), users), Scorer([model]).scores(histories(), users))
    assert loaded.model.settings == model.settings
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], tensor), key


@every_model
def test_a_clone_shares_no_weights(name: str) -> None:
    model = make(name)
    clone = clone_model(model)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in clone.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@every_model
def test_rows_of_a_batch_do_not_touch_each_other(name: str) -> None:
    model, items = make(name), histories()
    together = last_scores(model, items)
    for row in range(len(items)):
        torch.testing.assert_close(last_scores(model, items[row : row + 1])[0], together[row], rtol=0, atol=1e-5)


@every_model
@given(st.lists(st.lists(st.integers(1, V), min_size=1, max_size=N), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_padding_at_the_front_changes_nothing(name: str, rows: list[list[int]]) -> None:
    model = make(name)
    padded = last_scores(model, pad_front(rows, N))
    trimmed = last_scores(model, pad_front(rows, max(map(len, rows))))
    torch.testing.assert_close(trimmed, padded, rtol=0, atol=1e-5)
    for row, items in enumerate(rows):
        torch.testing.assert_close(last_scores(model, torch.tensor([items]))[0], padded[row], rtol=0, atol=1e-5)


@every_model
def test_a_history_without_items_gives_finite_scores(name: str) -> None:
    assert torch.isfinite(last_scores(make(name), torch.zeros(2, N, dtype=torch.int64))).all()


@next_item_model
def test_no_state_sees_what_comes_after(name: str) -> None:
    model, items = make(name), histories()
    before = model.hidden(items)
    for position in range(1, N):
        changed = items.clone()
        changed[:, position:] = changed[:, position:] % V + 1
        after = model.hidden(changed)
        real = (items != 0)[:, :position]
        torch.testing.assert_close(after[:, :position][real], before[:, :position][real], rtol=0, atol=1e-6)
        assert not torch.allclose(after[:, position:], before[:, position:])


@next_item_model
def test_next_item_targets(name: str) -> None:
    inputs, targets = make(name).training_pairs(torch.tensor([[0, 0, 4, 5, 6], [1, 2, 3, 4, 5]]), stream(0, "cloze"))
    assert inputs.tolist() == [[0, 0, 4, 5], [1, 2, 3, 4]]
    assert targets.tolist() == [[0, 0, 5, 6], [2, 3, 4, 5]]


@next_item_model
def test_the_last_training_state_predicts_the_last_item(name: str) -> None:
    model = make(name)
    inputs, _ = model.training_pairs(windows(), stream(0, "cloze"))
    assert torch.equal(model.hidden(inputs)[:, -1], model.hidden(model.last_item_inputs(windows()))[:, -1])


@every_model
def test_initialise_sets_every_parameter_from_the_seed_alone(name: str) -> None:
    models = []
    for poison in (float("nan"), 7.0):
        model = make(name, tie_embeddings=False)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(poison)
        model.initialise(stream(3, "weights"))
        models.append(model)
    first, second = (dict(model.named_parameters()) for model in models)
    other = dict(make(name, seed=4, tie_embeddings=False).named_parameters())
    for key, parameter in first.items():
        assert torch.equal(parameter, second[key]), key
        assert parameter.dim() == 1 or not torch.equal(parameter, other[key]), key
    for key, parameter in first.items():
        if parameter.dim() == 1:
            assert (parameter == (1.0 if key.endswith("norm.weight") else 0.0)).all(), key
    assert (first["embedding.weight"][0] == 0).all()
    assert (first["output.weight"][0] == 0).all()


def train_a_little(name: str) -> SequenceModel:
    model = make(name, dropout=0.3).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = stream(0, "cloze")
    for step in range(3):
        inputs, targets = model.training_pairs(windows(step), generator)
        place = targets != 0
        loss = losses.ce(model, model.hidden(inputs)[place], targets[place], None).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


@every_model
def test_same_seed_same_bits(name: str) -> None:
    torch.manual_seed(1)
    first = train_a_little(name).state_dict()
    torch.manual_seed(2)
    second = train_a_little(name).state_dict()
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


@every_model
def test_only_given_generators_are_drawn_from(name: str) -> None:
    model = make(name, dropout=0.5).train()
    dropout, cloze = stream(0, "dropout"), stream(0, "cloze")
    model.use_generator(dropout)
    before, unused = torch.get_rng_state(), dropout.get_state()
    hidden = model.hidden(model.training_pairs(windows(), cloze)[0])
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(dropout.get_state(), unused)
    model.use_generator(stream(0, "dropout"))
    assert torch.equal(model.hidden(model.training_pairs(windows(), stream(0, "cloze"))[0]), hidden)
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())


@every_model
def test_every_setting_does_something(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(MODELS[name].Config)} - {"tie_embeddings"}  # tested above

    def states(**changes: Any) -> Tensor:
        model = make(name, **changes).train()
        inputs, _ = model.training_pairs(windows(), stream(0, "cloze"))
        return model.hidden(inputs)

    before = states()
    for key in fields:
        after = states(**{key: another(name, key)})
        assert after.shape != before.shape or not torch.equal(after, before), key


@pytest.mark.parametrize("name", ["sasrec", "bert4rec"])
def test_heads_must_share_the_width(name: str) -> None:
    with pytest.raises(ConfigError, match="hidden 8 is no multiple of heads 3"):
        build(
            MODELS[name].Config,
            values_of(name, hidden=8, heads=3),
            "m",
        )


class TestCloze:
    """BERT4Rec's training pairs and prediction inputs."""

    def test_masked_items_are_the_targets(self) -> None:
        inputs, targets = make("bert4rec").training_pairs(windows(), stream(0, "cloze"))
        masked = inputs == V + 1
        assert torch.equal(masked, targets != 0)
        assert torch.equal(torch.where(masked, targets, inputs), windows())

    def test_share_of_masks(self) -> None:
        full = torch.ones(4000, 11, dtype=torch.int64)
        _, targets = make("bert4rec").training_pairs(full, stream(0, "cloze"))
        expected = 0.3 + 0.7**11 / 11  # a window without a mask gets one
        assert float((targets != 0).float().mean()) == pytest.approx(expected, abs=0.01)

    def test_at_least_one_mask_and_never_on_padding(self) -> None:
        short = pad_front([[1, 2]] * 500 + [[1, 2, 3, 4]] * 500, N + 1)
        model = make("bert4rec", mask_probability=0.001)
        _, targets = model.training_pairs(short, stream(0, "cloze"))
        assert ((targets != 0).sum(1) == 1).float().mean() > 0.98
        assert (targets != 0).any(1).all()
        assert (targets[short == 0] == 0).all()
        where = targets[500:, -4:].ne(0).sum(0)
        assert (where > 75).all(), "the forced mask favours a place"

    def test_all_masks(self) -> None:
        _, targets = make("bert4rec", mask_probability=1.0).training_pairs(windows(), stream(0, "cloze"))
        assert torch.equal(targets, windows())

    def test_prediction_appends_the_mask_to_the_last_items(self) -> None:
        model = make("bert4rec")
        assert model.prediction_inputs(torch.tensor([[0, 4, 5]])).tolist() == [[0, 4, 5, V + 1]]
        long = torch.arange(1, N + 3)[None]
        assert model.prediction_inputs(long).tolist() == [[*range(3, N + 3), V + 1]]

    def test_last_item_inputs_hide_the_last_item_only(self) -> None:
        assert make("bert4rec").last_item_inputs(torch.tensor([[0, 1, 2, 3]])).tolist() == [[0, 1, 2, V + 1]]

    def test_states_see_both_sides(self) -> None:
        model, items = make("bert4rec"), histories()[:1]
        changed = items.clone()
        changed[:, -1] = changed[:, -1] % V + 1
        assert not torch.allclose(model.hidden(changed)[:, 0], model.hidden(items)[:, 0])


class TestGRU4Rec:
    def test_its_layer_has_a_gradient_without_dropout_on_a_gpu_too(self) -> None:
        model = make("gru4rec").eval()
        assert not model.dropout.training
        assert model.gru.training  # else cuDNN refuses the backward pass, which unlearning takes without dropout

    def test_states_at_padding_are_zero(self) -> None:
        hidden = make("gru4rec").hidden(histories())
        assert (hidden[histories() == 0] == 0).all()
        assert (hidden[histories() != 0] != 0).all()


class TestCaser:
    def test_states_depend_on_the_window_alone(self) -> None:
        model, items = make("caser", window=3), histories()[:1]
        changed = items.clone()
        changed[:, : N - 3] = changed[:, : N - 3] % V + 1
        assert torch.allclose(model.hidden(changed)[:, -1], model.hidden(items)[:, -1], atol=1e-6)
        changed[:, N - 3] = changed[:, N - 3] % V + 1
        assert not torch.allclose(model.hidden(changed)[:, -1], model.hidden(items)[:, -1], atol=1e-6)


def test_dropout_modules_are_found() -> None:
    """Every model drops something in training when it is told to."""
    for name in MODELS:
        assert any(isinstance(module, Dropout) and module.threshold for module in make(name, dropout=0.5).modules())
