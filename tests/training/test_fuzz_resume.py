"""Resume folders that were damaged: training ends with the bits of a run that nobody killed."""

import json
import shutil

import numpy as np
import pytest
import torch

from srun.data.batches import TrainingData
from srun.data.dataset import Role
from srun.files import SUMS, seal
from srun.models.scorer import Scorer
from srun.training.checkpoint import ResumeFolder
from srun.training.fit import STOP_METRIC, Watch, train_new

COUNT = 30
EPOCHS = 3
ODD = (None, -1, 0, 1.5, "", "x", [], {}, True, [[1]], 10**30)


class Killed(BaseException):
    """Stands for the death of the process."""


@pytest.fixture(scope="module")
def train(small):
    data = small.make_data(small.random_events(12, 8))
    windows = TrainingData(data, data.role == Role.TRAIN, None, torch.device("cpu"))

    def train(folder, kill_at=None):
        """Weights and history of training with a resume folder."""

        def on_epoch(row, epoch, cap):
            if epoch == kill_at:
                raise Killed

        def validate(model):
            return {STOP_METRIC: sum(float(p.detach().sum()) for p in model.parameters()) % 1.0}

        watch = Watch(validate, lambda model: {}, on_epoch, ResumeFolder(folder, "k"))
        model, fit = train_new(small.describe_model(data), windows, small.recipe(max_epochs=EPOCHS), 0, watch)
        return small.weight_bytes(Scorer([model])), fit.history

    return train


@pytest.fixture(scope="module")
def killed(train, tmp_path_factory):
    """What a whole run makes, and the resume folder of one that was killed before its last epoch."""
    place = tmp_path_factory.mktemp("resume")
    expected = train(place / "whole")
    with pytest.raises(Killed):
        train(place / "killed", kill_at=EPOCHS - 1)
    return place / "killed", expected


def flip(rng, state, file):
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)


def truncate(rng, state, file):
    file.write_bytes(file.read_bytes()[: rng.integers(file.stat().st_size)])


def delete(rng, state, file):
    file.unlink()


def add(rng, state, file):
    (state / "more").write_text("x")
    (state.parent / "notes.txt").write_text("x")


def leave_a_file(rng, state, file):
    """A file where a state would be, or a state that was never ended."""
    (state.parent / "00000009").write_text("x") if rng.integers(2) else (state.parent / "00000009").mkdir()


def edit_origin(rng, state, file):
    """Another key or format, under checksums made anew: the state of another computation."""
    values = json.loads((state / "state.json").read_text())
    values[["key", "format"][rng.integers(2)]] = ODD[rng.integers(len(ODD))]
    (state / "state.json").write_text(json.dumps(values))
    seal(state)


MUTATIONS = (flip, truncate, delete, add, leave_a_file, edit_origin)
"""All are noticed, by checksums or by the key. A state of this key with sound checksums is one that this code wrote."""


@pytest.mark.fuzz("resume-states")
def test_a_damaged_state_never_makes_another_model(train, killed, fuzz):
    source, expected = killed

    def case(number, folder):
        rng = np.random.default_rng(number)
        shutil.copytree(source, folder / "resume")
        [state] = (folder / "resume").iterdir()
        change = MUTATIONS[rng.integers(len(MUTATIONS))]
        names = ["state.json", "state.safetensors", SUMS]
        change(rng, state, state / names[rng.integers(len(names))])
        assert train(folder / "resume") == expected, change.__name__
        return change.__name__

    fuzz.run(COUNT, case)
