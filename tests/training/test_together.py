"""Models trained as one are those trained one by one: weights, curves, stops and costs; also after a kill."""

from dataclasses import replace

import pytest
import torch

from srun.config import build
from srun.data.dataset import Role
from srun.system.devices import RuntimeConfig, trains_together
from srun.training.checkpoint import ResumeFolder
from srun.training.fit import STOP_METRIC, Watch
from srun.training.shards import Shards
from srun.training.together import Job, _train_together, train_all
from srun.unlearning import UNLEARNERS

CPU = torch.device("cpu")
STOPS = {0: [0.1, 0.3, 0.2, 0.2], 1: [0.3, 0.2, 0.1], 2: [0.1, 0.2, 0.3, 0.4, 0.5]}  # patience 2, at most 5 epochs


class Killed(BaseException):
    """Stands for the death of the process."""


@pytest.fixture(scope="module")
def data(small):
    return small.make_data(small.random_events(70, 25))


@pytest.fixture
def jobs(small, data):
    def jobs(folder, model="sasrec", kill=None, **settings):
        """Three shards of unlike sizes, with as many steps in an epoch as none of the others."""
        users = torch.arange(data.num_users).numpy()
        shards = Shards(3, (users > 20).astype("int64") + (users > 35), 1, 0 * users)

        def job(shard):
            looks = iter(STOPS[shard])

            def on_epoch(row, epoch, cap):
                if kill == (shard, epoch):
                    raise Killed

            def look(model):
                return {STOP_METRIC: next(looks)}

            def skip(state):
                """A run that goes on has had the looks of the epochs before."""
                for _ in range(state[1]["cost"]["epochs"] if state else 0):
                    next(looks)
                return state

            resume = ResumeFolder(folder / str(shard), "k")
            load = resume.load
            resume.load = lambda: skip(load())
            watch = Watch(look, lambda m: {}, on_epoch, resume, 7)
            windows = lambda: shards.data(data, data.role == Role.TRAIN, shard, None, CPU)  # noqa: E731
            return Job(small.describe_model(data, model, **settings), windows, shard + 5, watch)

        return [job(shard) for shard in range(3)]

    return jobs


def check_equal(alone, joint):
    for (one, fit), (other, found) in zip(alone, joint, strict=True):
        assert found.best_epoch == fit.best_epoch
        assert found.cost.exact() == fit.cost.exact()
        assert [row["epoch"] for row in found.history] == [row["epoch"] for row in fit.history]
        for row, expected in zip(found.history, fit.history, strict=True):
            assert row == pytest.approx(expected, rel=1e-4)
        check_weights(one, other)


def check_weights(one, other):
    """Biases of keys are left out: no softmax sees them, so that Adam blows up the rounding of a gradient of zero."""
    for name, tensor in one.state_dict().items():
        if not name.endswith("key.bias"):
            torch.testing.assert_close(other.state_dict()[name], tensor, rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize(
    ("model", "changes", "settings"),
    [
        ("sasrec", {"loss": "bce", "num_negatives": 2}, {"dropout": 0.3}),
        ("sasrec", {"loss": "ce", "group_by_length": False}, {"heads": 2, "tie_embeddings": False}),
        ("bert4rec", {"loss": "gbce"}, {"dropout": 0.3}),
        ("bert4rec", {"loss": "ce"}, {"norm_first": False}),
        ("caser", {"loss": "bce"}, {"dropout": 0.5}),
    ],
)
def test_together_is_one_by_one(small, jobs, tmp_path, model, changes, settings):
    recipe = small.recipe(max_epochs=5, patience=2, batch_size=16, learning_rate=0.003, **changes)
    alone = train_all(jobs(tmp_path / "alone", model, **settings), recipe, False)
    joint = train_all(jobs(tmp_path / "joint", model, **settings), recipe, True)
    check_equal(alone, joint)
    assert [fit.best_epoch for _, fit in joint] == [2, 1, 5]
    assert len({fit.cost.steps / fit.best_epoch for _, fit in joint}) == 3, (
        "epochs of unlike lengths are what is tested"
    )


@pytest.mark.parametrize("kill", [(0, 2), (1, 3), (2, 4)])
def test_a_killed_run_goes_on_to_the_same_models(small, jobs, tmp_path, kill):
    recipe = small.recipe(max_epochs=5, patience=2, batch_size=16, loss="bce")
    alone = train_all(jobs(tmp_path / "alone"), recipe, False)
    with pytest.raises(Killed):
        train_all(jobs(tmp_path / "joint", kill=kill), recipe, True)
    check_equal(alone, train_all(jobs(tmp_path / "joint"), recipe, True))


def test_the_models_differ_and_own_their_weights(small, jobs, tmp_path):
    trained = train_all(jobs(tmp_path), small.recipe(max_epochs=2), True)
    weights = [model.embedding.weight for model, _ in trained]
    assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 3
    assert not torch.allclose(weights[0], weights[1])
    assert not any(model.training for model, _ in trained)
    assert all((weight[0] == 0).all() for weight in weights)


def test_recurrent_models_are_trained_one_by_one(small, jobs, tmp_path):
    recipe = small.recipe(max_epochs=2)
    one, other = (train_all(jobs(tmp_path / name, "gru4rec"), recipe, way) for name, way in (("a", False), ("b", True)))
    assert all(torch.equal(m.embedding.weight, n.embedding.weight) for (m, _), (n, _) in zip(one, other, strict=True))


def test_the_rule_of_auto(small):
    runtime = build(RuntimeConfig, small.PARAMS["runtime"], "runtime")
    found = {
        (way, kind): trains_together(replace(runtime, together=way), torch.device(kind))
        for way in ("auto", "on", "off")
        for kind in ("cpu", "cuda")
    }
    assert [pair for pair, together in found.items() if together] == [("auto", "cuda"), ("on", "cpu"), ("on", "cuda")]


def test_sisa_unlearns_the_same_both_ways(small, worlds, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("srun.training.together._train_together", lambda *a: calls.append(1) or _train_together(*a))
    world = worlds["interactions", True]
    settings = small.method_settings("sisa", retrain="all")
    alone, joint = (
        UNLEARNERS["sisa"](settings).unlearn(
            world.original, world.request, world.context(tmp_path / str(together), together=together)
        )
        for together in (False, True)
    )
    assert calls == [1]
    assert joint.cost.exact() == alone.cost.exact()
    for one, other in zip(alone.scorer.models, joint.scorer.models, strict=True):
        check_weights(one, other)
