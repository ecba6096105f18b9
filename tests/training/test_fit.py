"""The training loop: stop, best epoch, cost, resume with the same bits."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srun.data.batches import TrainingData
from srun.data.dataset import Role, original_validation
from srun.errors import RunError, SrunError
from srun.evaluation.probe import Probe
from srun.models import MODELS
from srun.models.scorer import Scorer
from srun.training.checkpoint import ResumeFolder
from srun.training.fit import STOP_METRIC, Watch, train_new

CPU = torch.device("cpu")


class Killed(BaseException):
    """Stands for the death of the process."""


def from_weights(model):
    """A validation figure that depends on every weight, up and down from epoch to epoch."""
    total = sum(float(p.detach().double().abs().sum()) for p in model.parameters())
    return {STOP_METRIC: total * 1e3 % 1.0}


@pytest.fixture(scope="module")
def data(small):
    return small.make_data(small.random_events(30, 15))


@pytest.fixture(scope="module")
def train(small, data):
    windows = TrainingData(data, data.role == Role.TRAIN, None, CPU)

    def train(folder, seed=0, key="k", kill_at=None, validate=from_weights, model="sasrec", told=None, **changes):
        def on_epoch(row, epoch, cap):
            if told is not None:
                told.append((row, epoch, cap))
            if epoch == kill_at:
                raise Killed

        watch = Watch(validate, lambda m: {"forget_tune/hit_10": 0.25}, on_epoch, ResumeFolder(folder / "resume", key))
        return train_new(small.describe_model(data, model), windows, small.recipe(**changes), seed, watch)

    return train


def bits(small, model):
    return small.weight_bytes(Scorer([model]))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kill_at=st.integers(1, 6),
    every=st.integers(1, 3),
    how=st.sampled_from([{"loss": "bce"}, {"loss": "bce", "lazy_adam": True}, {"loss": "ce"}]),
    twice=st.booleans(),
)
def test_a_killed_run_goes_on_to_the_same_bits(small, train, tmp_path_factory, kill_at, every, how, twice):
    folder = tmp_path_factory.mktemp("fit")
    changes = {"max_epochs": 6, "evaluate_every": every, **how}
    whole, expected = train(folder / "whole", **changes)
    with pytest.raises(Killed):
        train(folder / "killed", kill_at=kill_at, **changes)
    if twice and kill_at < 6:
        with pytest.raises(Killed):
            train(folder / "killed", kill_at=kill_at + 1, **changes)
    torch.rand(7)  # the state of the global generator must not matter
    again, found = train(folder / "killed", **changes)
    assert bits(small, again) == bits(small, whole)
    assert found.history == expected.history
    assert found.best_epoch == expected.best_epoch
    assert found.cost.exact() == expected.cost.exact()


@pytest.mark.parametrize("model", MODELS)
def test_every_model_resumes_to_the_same_bits(small, train, tmp_path, model):
    whole, expected = train(tmp_path / "whole", model=model, max_epochs=4)
    with pytest.raises(Killed):
        train(tmp_path / "killed", model=model, max_epochs=4, kill_at=3)
    again, found = train(tmp_path / "killed", model=model, max_epochs=4)
    assert bits(small, again) == bits(small, whole)
    assert found.history == expected.history


def test_a_resumed_run_does_not_start_from_the_beginning(train, tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, max_epochs=6, evaluate_every=2, kill_at=5)
    told = []
    train(tmp_path, max_epochs=6, evaluate_every=2, told=told)
    assert [epoch for _, epoch, _ in told] == [5, 6]


def test_the_state_of_another_key_is_not_resumed(small, train, tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, seed=1, key="other", max_epochs=6, kill_at=4)
    told = []
    found, _ = train(tmp_path, told=told, max_epochs=6)
    assert [epoch for _, epoch, _ in told] == [1, 2, 3, 4, 5, 6]
    assert bits(small, found) == bits(small, train(tmp_path / "fresh", max_epochs=6)[0])


def test_the_same_seed_gives_the_same_bits_and_another_does_not(small, train, tmp_path):
    one, two, other = (bits(small, train(tmp_path / n, seed=s)[0]) for n, s in (("a", 0), ("b", 0), ("c", 1)))
    assert one == two
    assert one != other


def test_the_global_generator_plays_no_part(small, train, tmp_path):
    torch.manual_seed(1)
    one = bits(small, train(tmp_path / "a")[0])
    torch.manual_seed(2)
    assert bits(small, train(tmp_path / "b")[0]) == one


def scripted(values, weights=None):
    """Validation figures in order; keeps a copy of one weight matrix at every look."""
    left = list(values)

    def validate(model):
        if weights is not None:
            weights.append(model.embedding.weight.detach().clone())
        return {STOP_METRIC: left.pop(0)}

    return validate


@pytest.mark.parametrize(
    ("values", "every", "patience", "cap", "epochs", "best"),
    [
        ([0.1, 0.3, 0.2, 0.2, 0.1, 0.9], 1, 3, 20, 5, 2),  # the best is three epochs old after the fifth
        ([0.1, 0.3, 0.2, 0.2, 0.4, 0.1, 0.1, 0.1], 1, 3, 20, 8, 5),
        ([0.5, 0.5, 0.5, 0.5], 1, 3, 20, 4, 1),  # the first of equals
        ([0.1, 0.2, 0.3, 0.4], 1, 3, 4, 4, 4),
        ([0.3, 0.2, 0.1], 2, 4, 20, 6, 2),
        ([0.1, 0.2, 0.9], 2, 20, 5, 5, 5),  # the last epoch is looked at, whatever the interval
        ([0.0, 0.0], 1, 1, 20, 2, 1),
    ],
)
def test_early_stop(train, tmp_path, values, every, patience, cap, epochs, best):
    weights = []
    validate = scripted(values, weights)
    model, fit = train(tmp_path, validate=validate, evaluate_every=every, patience=patience, max_epochs=cap)
    assert len(fit.history) == epochs
    assert fit.best_epoch == best
    looked = [row["epoch"] for row in fit.history if STOP_METRIC in row]
    assert torch.equal(model.embedding.weight, weights[looked.index(best)])
    assert not model.training


def test_a_patience_shorter_than_the_interval_is_refused(train, tmp_path):
    """It would stop before the first validation and return an untrained model."""
    with pytest.raises(ValueError, match="patience 2 is less than evaluate_every 4"):
        train(tmp_path, evaluate_every=4, patience=2, max_epochs=8)


def test_every_epoch_is_told_with_its_figures(train, tmp_path):
    told = []
    _, fit = train(tmp_path, told=told, max_epochs=4, evaluate_every=2)
    assert [(epoch, cap) for _, epoch, cap in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [row for row, *_ in told] == fit.history
    assert ["forget_tune/hit_10" in row for row in fit.history] == [False, True, False, True]
    assert all(row["train/loss"] > 0 for row in fit.history)


def test_training_lowers_the_loss(train, tmp_path):
    for loss in ("bce", "ce"):
        _, fit = train(tmp_path / loss, loss=loss, max_epochs=15, patience=99)
        assert fit.history[-1]["train/loss"] < 0.9 * fit.history[0]["train/loss"]


@pytest.mark.parametrize("batch_size", [5, 1000])
@pytest.mark.parametrize("loss", ["bce", "ce"])
def test_target_gradients_count_real_input_positions(small, data, train, tmp_path, loss, batch_size):
    _, fit = train(tmp_path, validate=scripted([0.1, 0.2, 0.3]), loss=loss, batch_size=batch_size, max_epochs=3)
    windows = TrainingData(data, data.role == Role.TRAIN, None, CPU)
    positions = sum(len(row[row != 0]) - 1 for row in windows.windows)
    assert fit.cost.target_gradients == 3 * positions
    assert fit.cost.steps == 3 * math.ceil(len(windows) / batch_size)
    assert fit.cost.epochs == 3


def test_cost_is_that_of_the_returned_model_and_patience_stands_apart(data, train, tmp_path):
    _, short = train(tmp_path / "a", validate=scripted([0.1, 0.9]), max_epochs=2)
    _, long = train(tmp_path / "b", validate=scripted([0.1, 0.9, 0.2, 0.2, 0.2]), max_epochs=20, patience=3)
    assert len(long.history) == 5
    assert long.cost.exact() == short.cost.exact()
    assert long.cost.seconds_patience > 0
    assert short.cost.seconds_patience == 0


def test_a_loss_that_is_no_number_is_an_error_that_says_what_to_do(train, tmp_path):
    with pytest.raises(RunError, match="learning_rate"):
        train(tmp_path, learning_rate=1e30, max_epochs=10)


def test_data_without_validation_targets_is_an_error_of_ours(small, tmp_path):
    data = small.make_data(small.log_of([[0, 1], [1, 2], [2, 0]]))
    windows = TrainingData(data, data.role == Role.TRAIN, None, CPU)
    probe = Probe({"validation": original_validation(data)}, data.max_length, CPU, 8)
    watch = Watch(
        lambda m: probe(Scorer([m]), "validation"), lambda m: {}, small.no_telling, ResumeFolder(tmp_path / "r", "k")
    )
    with pytest.raises(SrunError, match="validation"):
        train_new(small.describe_model(data), windows, small.recipe(), 0, watch)


def test_resume_states_are_few_and_hold_no_pickle(train, tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, max_epochs=6, kill_at=4)
    files = [path for path in (tmp_path / "resume").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ""}
    assert len({path.parent for path in files}) == 1


def test_every_value_of_the_recipe_changes_the_result(small, train, tmp_path):
    changes = {
        "loss": "ce",
        "num_negatives": 3,
        "gbce_t": 0.1,
        "learning_rate": 0.02,
        "batch_size": 7,
        "group_by_length": False,
        "lazy_adam": True,
        "precision": "bf16",
        "max_epochs": 3,
        "evaluate_every": 2,
        "patience": 1,
    }
    assert set(changes) == set(vars(small.recipe()))
    base = {"loss": "gbce", "gbce_t": 0.9, "max_epochs": 6, "num_negatives": 2}

    def falling():
        return scripted([0.9 - 0.1 * k for k in range(6)])

    def result(name, **more):
        model, fit = train(tmp_path / name, validate=falling(), **{**base, **more})
        return bits(small, model), fit.history

    plain = result("plain")
    for name, value in changes.items():
        assert result(name, **{name: value}) != plain, f"{name} does nothing"
