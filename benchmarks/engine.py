"""The engine as the benchmarks set it up: settings from params.yaml, one thread, the logs that its peers read.

Import this before torch: it says how threads wait, which torch reads when it is imported (spinning threads starve a
peer). A benchmark names only the values it changes; all others, new ones too, come from params.yaml.
"""

import argparse
import gzip
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from works import BEAUTY, Work

from srun.data.batches import TrainingData
from srun.data.dataset import Dataset, Role, prepare
from srun.data.importing import read_import
from srun.data.raw import RawData, canonical, read_raw
from srun.data.sequences import make_queries
from srun.evaluation.ranking import RankingTask
from srun.flow.params import Params, load
from srun.models.base import SequenceModel
from srun.models.scorer import new_model
from srun.rng import Streams
from srun.system.devices import start
from srun.training.fit import TrainConfig, make_optimiser, train_step

ROOT = Path(__file__).parents[1]
HIDDEN, BATCH = 64, 256
RANKED_AT_ONCE = 512

ONE_THREAD = (
    *("runtime.device=cpu", "runtime.threads=1", "runtime.together=off"),
    *("runtime.tracking=false", "runtime.progress=false"),
)
PREPARE = (
    *("prepare.min_interactions=5", "prepare.holdout=user", "prepare.drop_short=false", "prepare.seed=0"),
    *("prepare.calibration_users=0.0", "prepare.calibration_events=0.0"),
)
TRAIN = (
    *("train.num_negatives=1", "train.gbce_t=0.0", "train.learning_rate=0.001", f"train.batch_size={BATCH}"),
    *("train.group_by_length=true", "train.lazy_adam=false", "train.precision=float32"),
    *("train.max_epochs=1", "train.evaluate_every=1", "train.patience=1"),
)
MODELS: dict[str, dict[str, object]] = {  # as the peers are set
    "sasrec": {"blocks": 2, "heads": 1, "dropout": 0.5},
    "gru4rec": {"dropout": 0.2},
    "bert4rec": {
        **{"blocks": 2, "heads": 2, "dropout": 0.2, "mask_probability": 0.2},
        **{"norm_first": "false", "gelu": "exact"},
    },
}


def settings(*overrides: str, presets: Sequence[Path] = ()) -> Params:
    """params.yaml with ``presets`` and ``key=value`` overrides laid over it, on one thread of the CPU, untracked."""
    return load(ROOT / "params.yaml", presets, [*ONE_THREAD, *overrides])


def one_thread() -> torch.device:
    """Set this process to one thread; returns its device, the CPU."""
    return start(settings().runtime)


@dataclass(frozen=True)
class Logs:
    """Where the logs are: Beauty's in the folder ``kit`` as sequences, any other below the folder ``raw``."""

    kit: Path
    raw: Path

    def folder(self, name: str) -> Path:
        return (self.kit if name == BEAUTY else self.raw) / name

    def sequences(self, name: str) -> Path:
        """The file of Beauty's log: a user and its items in order of time on a line."""
        return self.folder(name) / "sequences.txt.gz"

    def prepared(self, name: str, length: int) -> Dataset:
        """The prepared data set of a name, with windows of ``length``."""
        if name != BEAUTY:
            return prepared(read_raw(self.folder(name)), "prepare.filter=once", length)
        log = read_import(self.sequences(name), form="sequences")
        raw = canonical(log.interactions, None, name=name, time=log.time)
        return prepared(raw, "prepare.filter=none", length)


def prepared(raw: RawData, how: str, length: int) -> Dataset:
    """A raw log with nobody and nothing kept out of training; ``how`` is the override of prepare.filter."""
    return prepare(raw, settings(*PREPARE, how, f"prepare.max_length={length}").prepare)


def add_logs(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``logs`` reads."""
    kit, raw = ROOT.parent / "shared" / "data", ROOT / "data" / "raw"
    parser.add_argument("--data", type=Path, default=kit, help="folder in which Beauty's is; default ../shared/data")
    parser.add_argument("--raw", type=Path, default=raw, help="folder of all other data sets; default data/raw")


def logs(options: argparse.Namespace) -> Logs:
    """The logs that the options name."""
    return Logs(options.data, options.raw)


class Setting(NamedTuple):
    """What training a row starts from."""

    model: SequenceModel
    windows: TrainingData
    recipe: TrainConfig
    streams: Streams

    def optimiser(self) -> torch.optim.Optimizer:
        return make_optimiser(self.model, self.recipe)

    def epoch(self, optimiser: torch.optim.Optimizer) -> int:
        """Train for one epoch; returns the number of steps."""
        steps = 0
        for rows in self.windows.epoch(self.recipe.batch_size, self.streams["batches"], self.recipe.group_by_length):
            train_step(self.model, self.windows, self.recipe, self.streams, optimiser, rows)
            steps += 1
        return steps


def setting(work: Work, data: Dataset, device: torch.device, *overrides: str, seed: int = 0) -> Setting:
    """Model, windows, recipe and random streams of a row; ``overrides`` lie over what the peers have."""
    values: dict[str, object] = {"hidden": HIDDEN, "tie_embeddings": "true", **MODELS[work.model]}
    own = [f"model.{work.model}.{key}={value}" for key, value in values.items()]
    params = settings(*TRAIN, f"train.loss={work.loss}", *own, *overrides)
    streams = Streams(seed)
    model = new_model(describe(params, work.model, data.num_items, work.length))
    model.initialise(streams["weights"])
    model.use_generator(streams["dropout"])
    return Setting(model, TrainingData(data, data.role == Role.TRAIN, None, device), params.train, streams)


def describe(params: Params, model: str, num_items: int, max_length: int) -> dict[str, Any]:
    """What ``new_model`` makes a model from."""
    chosen = dict(vars(params.model_settings(model)))
    return {"name": model, "settings": chosen, "num_items": num_items, "max_length": max_length}


def test_task(data: Dataset, device: torch.device) -> RankingTask:
    """The peers' ranking: the last item of every user after all the ones before it."""
    return ranking(data, device, np.ones(data.num_events, dtype=bool), Role.TEST)


def ranking(data: Dataset, device: torch.device, known: NDArray[np.bool_], role: Role) -> RankingTask:
    """Rank the events of a role in the whole catalogue, without the ``known`` items before them."""
    queries = make_queries(data.item, data.user, data.offsets, known, data.role == role)
    return RankingTask.make(queries, data.max_length, device, RANKED_AT_ONCE)


def write_sequences(data: Dataset, path: Path) -> None:
    """Write a log in the peers' form: a user and its items in order of time on a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        for user in range(data.num_users):
            items = data.item[data.offsets[user] : data.offsets[user + 1]]
            file.write(f"{user + 1} {' '.join(map(str, items))}\n")
