"""Small synthetic logs, requests and models that several test files use. Builders are given as functions."""

import os
import re
import shutil
import subprocess
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pytest
import torch

from srun.config import build, read_yaml
from srun.data.dataset import Dataset, PrepareConfig, Role, prepare
from srun.data.raw import RawData, canonical
from srun.errors import SrunError
from srun.evaluation.probe import Probe
from srun.flow.partition import read_rows
from srun.judging.records import Record
from srun.metrics.ranking import EventRanks
from srun.models.scorer import Scorer, new_model
from srun.requests.kinds import CategoryRequest, DrawnInteractions, DrawnUsers, GivenRequest
from srun.requests.partition import Partition, partition
from srun.training.checkpoint import ResumeFolder
from srun.training.fit import TrainConfig, Watch, train_new
from srun.training.shards import Shards
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context, Original
from srun.unlearning.crossfit import CrossFit

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
PARAMS = read_yaml(ROOT / "params.yaml")

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
hypothesis.settings.register_profile("srun", deadline=None, max_examples=50, database=None)
hypothesis.settings.register_profile("fast", parent=hypothesis.settings.get_profile("srun"), max_examples=10)
hypothesis.settings.load_profile("srun")

RECIPE = {
    **PARAMS["train"],
    "loss": "ce",
    "learning_rate": 0.01,
    "batch_size": 64,
    "max_epochs": 2,
    "evaluate_every": 1,
    "patience": 10,
}
PREPARE = {
    **PARAMS["prepare"],
    "filter": "none",
    "min_interactions": 1,
    "max_length": 5,
    "holdout": "user",
    "drop_short": False,
    "calibration_users": 0.0,
    "calibration_events": 0.0,
    "seed": 0,
}


# Fuzzing: in the suite so many cases of a target, under `make fuzz` until time is up

FINDINGS = ROOT / "runs" / "fuzz"
"""Where `make fuzz` keeps the files of a case that failed, as TARGET/NUMBER, with the error."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `make fuzz`."""
    parser.addoption("--fuzz-minutes", type=float, default=0.0, help="Of all targets together; 0: so many cases.")
    parser.addoption("--fuzz-seed", type=int, default=0, help="Cases are numbered from a million times this on.")


class Fuzz:
    """The cases of one target. A case is made from its number alone, so that a number is all it takes to repeat it."""

    def __init__(self, target: str, folder: Path, first: int, seconds: float) -> None:
        self.target, self.folder, self.first, self.seconds = target, folder, first, seconds

    def run(self, count: int, case: Callable[[int, Path], str]) -> Counter[str]:
        """How often each outcome came of ``case(number, empty folder)``, which raises where the program is at fault.

        ``count`` cases in the suite, whose first fault is raised. With ``seconds``, as many as there is time for: the
        folder of each that failed stays, with the error in it, and they are told at the end.
        """
        outcomes: Counter[str] = Counter()
        if not self.seconds:
            for number in range(self.first, self.first + count):
                outcomes[self._one(number, case)] += 1
            return outcomes
        number, end, faults = self.first, monotonic() + self.seconds, []
        while monotonic() < end:
            try:
                outcomes[self._one(number, case)] += 1
            except Exception as error:  # whatever it is, it is a finding
                (self._folder(number) / "error.txt").write_text("".join(traceback.format_exception(error)))
                faults.append(f"case {number}: {type(error).__name__}: {str(error)[:300]!r}")
            number += 1
        print(f"\n{self.target}: {number - self.first} cases from {self.first} on, {dict(outcomes)}")
        if faults:
            pytest.fail("\n".join([f"{len(faults)} findings, kept in {self.folder}", *faults]), pytrace=False)
        return outcomes

    @staticmethod
    def refused(error: SrunError, folder: Path, mentions: str = "") -> str:
        """The outcome of a case that was refused: in short lines that may be shown, one of which ``mentions`` fits."""
        for fault in error.faults:
            assert fault.isprintable(), repr(fault)
            assert len(fault.replace(str(folder), "")) <= 400, fault
        assert re.search(mentions, str(error)), f"{mentions}: {error}"
        return "refused"

    def _folder(self, number: int) -> Path:
        return self.folder / str(number)

    def _one(self, number: int, case: Callable[[int, Path], str]) -> str:
        """The outcome of a case, whose folder goes where it has one."""
        folder = self._folder(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        outcome = case(number, folder)
        shutil.rmtree(folder)
        return outcome


@pytest.fixture
def fuzz(request: pytest.FixtureRequest, tmp_path: Path) -> Fuzz:
    """The cases of a target: of a test that is marked ``fuzz`` with its name."""
    [target] = request.node.get_closest_marker("fuzz").args
    options, targets = (
        request.config.option,
        [item for item in request.session.items if item.get_closest_marker("fuzz")],
    )
    seconds = 60 * options.fuzz_minutes / len(targets)
    return Fuzz(target, FINDINGS / target if seconds else tmp_path / "fuzz", 1_000_000 * options.fuzz_seed, seconds)


RAW: dict[str, RawData] = {}
"""Every log that a test has made, by fingerprint: what data were prepared from."""


def carry_out(data: Dataset, request, name: str = "r", after: Partition | None = None) -> Partition:
    """The partition of a request; the raw log is at hand, as it is in the flow. ``after``: of the one before it."""
    return partition(data, name, request, read_rows(request, data), lambda: RAW[data.fingerprint], after)


def make_raw(events: list[tuple[str, str, int]], categories: dict[str, str] | None = None) -> RawData:
    """A raw data set of (user, item, time); ``categories`` maps an item to its ``|``-separated categories."""
    items = None
    if categories is not None:
        items = pd.DataFrame({"item_id": list(categories), "title": "", "categories": list(categories.values())})
    raw = canonical(pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"]), items, name="tiny")
    RAW[raw.fingerprint] = raw
    return raw


def make_data(events: list[tuple[str, str, int]], categories: dict[str, str] | None = None, **settings) -> Dataset:
    """Prepared data of (user, item, time): nothing filtered, no calibration users, n = 5, unless settings say so."""
    return prepare(make_raw(events, categories), PrepareConfig(**{**PREPARE, **settings}))


def chained_data() -> Dataset:
    """A log of which the next item follows from the last two times in five, with a small category.

    The rest is chance: what it was never trained on nobody can rank, so that what a model still knows is seen.
    """
    rng, events = np.random.default_rng(0), []
    num_items = 200
    for user in range(300):
        item = int(rng.integers(num_items))
        for time in range(int(rng.integers(8, 15))):
            events.append((f"u{user}", f"i{item}", time))
            item = (item * 3 + 1) % num_items if rng.random() < 0.4 else int(rng.integers(num_items))
    categories = {f"i{item}": "green" if item % 8 else "red" for item in range(num_items)}
    return make_data(events, categories, calibration_users=0.1, calibration_events=0.5, max_length=8)


def random_events(num_users: int, num_items: int, seed: int = 0, low: int = 5, high: int = 14) -> list:
    """A log in which the next item mostly follows from the last; names are u0, u1, ... and i0, i1, ..."""
    rng = np.random.default_rng(seed)
    events = []
    for user in range(num_users):
        item = int(rng.integers(num_items))
        for time in range(int(rng.integers(low, high + 1))):
            events.append((f"u{user}", f"i{item}", time))
            item = (item * 3 + 1) % num_items if rng.random() < 0.8 else int(rng.integers(num_items))
    return events


def log_of(sequences: list[list[int]]) -> list:
    """(user, item, time) of one sequence of item numbers for each user; time is the position."""
    return [(f"u{u}", f"i{item}", t) for u, items in enumerate(sequences) for t, item in enumerate(items)]


def interactions_request(**changes) -> DrawnInteractions | GivenRequest:
    """A drawn request, or a given one where ``file`` is among the changes."""
    if "file" in changes:
        return given_request("interactions", **changes)
    values = {"share_of_users": 0.5, "max_share_of_items": 0.5, "catalogue": "full", "seed": 0}
    return DrawnInteractions(kind="interactions", **{**values, **changes})


def users_request(**changes) -> DrawnUsers | GivenRequest:
    """A drawn request, or a given one where ``file`` is among the changes."""
    if "file" in changes:
        return given_request("users", **changes)
    return DrawnUsers(kind="users", **{"share_of_users": 0.3, "catalogue": "full", "seed": 0, **changes})


def given_request(kind: str, file: str, **changes) -> GivenRequest:
    values = {"format": None, "columns": None, "catalogue": "full", "seed": 0}
    return GivenRequest(kind=kind, file=file, **{**values, **changes})


def category_request(users=None, **changes) -> CategoryRequest:
    """``users``: raw ids, which are written to a file."""
    if users is not None:
        file = Path(tempfile.mkdtemp()) / "users.csv"
        users = write_request(file, [(user,) for user in users], "user_id")
    values = {"categories": ("red",), "users": users, "context": "retained", "catalogue": "retained", "seed": 0}
    return CategoryRequest(kind="category", **{**values, **changes})


def write_request(path: Path, rows: list[tuple], header: str = "user_id,item_id,timestamp") -> str:
    """Write a request file and return its path as text."""
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def describe_model(data: Dataset, name: str = "sasrec", **changes) -> dict:
    """A tiny model of any kind: its block of params.yaml, cut down."""
    small = {key: value for key, value in {"hidden": 8, "blocks": 1}.items() if key in PARAMS["model"][name]}
    settings = {**PARAMS["model"][name], **small, **changes}
    return {"name": name, "settings": settings, "num_items": data.num_items, "max_length": data.max_length}


def random_model(data: Dataset, name: str = "sasrec", seed: int = 0, **changes):
    """An untrained model with weights from a seed, in eval mode."""
    model = new_model(describe_model(data, name, **changes))
    model.initialise(torch.Generator().manual_seed(seed))
    return model.eval()


def method_settings(name: str, **changes):
    """A method's block of params.yaml, cut down to two epochs."""
    small = {"max_epochs": 2} if "max_epochs" in PARAMS["unlearn"][name] else {}
    return build(UNLEARNERS[name].Config, {**PARAMS["unlearn"][name], **small, **changes}, f"unlearn.{name}")


def recipe(**changes) -> TrainConfig:
    return TrainConfig(**{**RECIPE, **changes})


def no_telling(row: dict, epoch: int, cap: int) -> None:
    """An on_epoch that does nothing."""


@dataclass(frozen=True)
class World:
    """An Original trained a little on a small log, and a request to it."""

    data: Dataset
    request: Partition
    original: Original

    def probe(self) -> Probe:
        return Probe(self.request.splits, self.data.max_length, CPU, 64)

    def context(self, folder: Path, seed: int = 0, **changes) -> Context:
        resume = ResumeFolder(folder / "resume", f"key-{seed}")
        return replace(Context.quiet(CPU, seed, self.probe(), resume), **changes)

    def run(self, name: str, folder: Path, seed: int = 0, **settings):
        """Carry out the request by a method; SRUGA's default ascent is not defined for a category."""
        if name == "sruga" and self.request.kind == "category":
            settings = {"ascent": "ga", **settings}
        return UNLEARNERS[name](method_settings(name, **settings)).unlearn(
            self.original, self.request, self.context(folder, seed)
        )


def make_world(data: Dataset, request, folder: Path, model: str = "sasrec", num_shards: int = 1, **train) -> World:
    """Train an Original for two epochs and carry out the partition."""
    settings = recipe(**train)
    shards = Shards.draw(data.num_users, num_shards, 0)

    def trained(shard: int):
        resume = ResumeFolder(folder / f"original-{shard}", "original")
        rising = count()  # so that the last epoch is the one that is kept
        watch = Watch(lambda m: {"validation/ndcg_10": float(next(rising))}, lambda m: {}, no_telling, resume)
        windows = shards.data(data, data.role == Role.TRAIN, shard, None, CPU)
        return train_new(describe_model(data, model), windows, settings, shards.training_seed(shard, 0), watch)[0]

    info = {"train": vars(settings), "seed": 0, "shards": num_shards}
    scorer = Scorer([trained(s) for s in range(num_shards)])
    crossfit = CrossFit(np.random.default_rng(0).normal(size=data.num_events).astype(np.float32))
    return World(data, carry_out(data, request), Original(scorer, info, crossfit=crossfit))


def weight_bytes(scorer: Scorer) -> bytes:
    """All weights of a scorer as bytes."""
    tensors = [t for model in scorer.models for t in model.state_dict().values()]
    return b"".join(t.detach().cpu().contiguous().numpy().tobytes() for t in tensors)


@pytest.fixture(scope="session")
def small() -> SimpleNamespace:
    """The builders above."""
    names = (
        *(
            "make_raw",
            "make_data",
            "chained_data",
            "carry_out",
            "random_events",
            "log_of",
            "write_request",
            "describe_model",
            "random_model",
        ),
        *("interactions_request", "users_request", "category_request", "method_settings", "recipe", "no_telling"),
        *("make_world", "weight_bytes", "no_server", "PREPARE", "RECIPE", "PARAMS", "ROOT", "CPU"),
    )
    return SimpleNamespace(**{name: globals()[name] for name in names})


CATEGORIES = {f"i{item}": ["red", "green", "red|green", ""][item % 4] for item in range(30)}


@pytest.fixture(scope="session")
def coloured() -> Dataset:
    """60 users, up to 30 items with categories red and green, 20 % calibration users."""
    return make_data(random_events(60, 30), CATEGORIES, calibration_users=0.2)


REQUESTS = {
    "interactions": interactions_request(),
    "category": category_request(),
    "users": users_request(share_of_users=0.5),
}


@pytest.fixture(scope="session")
def worlds(coloured: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], World]:
    """(kind of request, in shards or not) -> an Original and a request to it."""
    return {
        (kind, sharded): make_world(coloured, request, tmp_path_factory.mktemp("world"), num_shards=2 if sharded else 1)
        for kind, request in REQUESTS.items()
        for sharded in (False, True)
    }


@pytest.fixture(scope="session")
def aside_worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    """Kind of request -> a world in which half of the users have events set aside."""
    data = make_data(random_events(60, 30), CATEGORIES, calibration_users=0.2, calibration_events=0.5)
    return {kind: make_world(data, request, tmp_path_factory.mktemp("world")) for kind, request in REQUESTS.items()}


@pytest.fixture(scope="session")
def world_for(worlds: dict[tuple[str, bool], World], aside_worlds: dict[str, World]):
    """The world for a method: of the kind of request given, or the first it is defined for."""

    def world_for(name: str, kind: str | None = None) -> World:
        method = UNLEARNERS[name](method_settings(name))
        kind = kind or method.kinds[0]
        return aside_worlds[kind] if method.predicts_levels else worlds[kind, method.needs_shards]

    return world_for


@pytest.fixture(scope="session")
def world(worlds: dict[tuple[str, bool], World]) -> World:
    """An Original and a drawn request of single interactions with tune and report halves."""
    return worlds["interactions", False]


# A PostgreSQL and a Slurm of their own, on loopback


def no_server(why: str) -> None:
    """End a test that needs a server that is not there: it skips, but fails where, as in .ci/run, servers must be."""
    if os.environ.get("SRUN_TEST_SERVERS") == "required":
        pytest.fail(f"{why} (SRUN_TEST_SERVERS is required)")
    pytest.skip(why)


def _script(name: str, *words: str) -> str:
    command = [str(ROOT / "tests/servers" / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()[-1] if done.stdout.split() else ""


@pytest.fixture(scope="module")
def servers_folder() -> Iterator[Path]:
    """A folder that other users may enter, as a server's own user must."""
    path = Path(tempfile.mkdtemp(prefix="srun-servers-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def servers_port(servers_folder: Path) -> int:
    """A port of its own for every process of the tests."""
    return 20000 + zlib.crc32(str(servers_folder).encode()) % 10000


@pytest.fixture(scope="module")
def postgres(servers_folder: Path, servers_port: int) -> Iterator[str]:
    """A database's address."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        no_server("PostgreSQL is not installed: apt-get install postgresql")
    yield _script("start_postgres.sh", str(servers_folder / "postgres"), str(servers_port))
    _script("stop_postgres.sh", str(servers_folder / "postgres"))


@pytest.fixture(scope="module")
def slurm(servers_folder: Path, servers_port: int) -> Iterator[dict[str, str]]:
    """Environment in which Slurm's commands find the cluster."""
    if os.geteuid() != 0:
        no_server("only root can start Slurm")
    missing = [name for name in ("slurmctld", "slurmd", "munged") if shutil.which(name) is None]
    if missing:
        no_server(f"{', '.join(missing)} not installed: apt-get install slurm-wlm slurm-wlm-basic-plugins munge")
    configuration = _script("start_slurm.sh", str(servers_folder / "slurm"), str(servers_port + 20))
    yield {"SLURM_CONF": configuration, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    _script("stop_slurm.sh", str(servers_folder / "slurm"))


# records as the evaluate stage writes them, made up so that every figure can be worked by hand
MACHINE = {"python": "3.11", "torch": "2.13", "system": "Linux", "processor": "P", "threads": "2", "gpu": "none"}


def make_record(method: str = "retrain", seed: int = 0, hit: float = 0.2, **changes: Any) -> Record:
    """A row whose forget Hit@10 is ``hit``, in hundredths; everything else is the same for all unless it is given."""
    kind = changes.pop("kind", "interactions")
    request = {"kind": kind, "seed": 7, "catalogue": "full", "file": None, "share_of_users": 0.1}
    if kind == "category":
        request = {"kind": kind, "seed": 7, "catalogue": "retained", "categories": ["War", "Film-Noir"], "users": None}
    partition = {"name": "r", "num_users": 40, "num_forget": 300, "num_retain": 5000, "request": request}
    sizes = {"num_users": 20.0, "num_events": 100.0}
    metrics = {
        "test": {**sizes, "ndcg_10": 0.1, "recall_10": 0.2, "ndcg_10_sampled": 0.4},
        "forget_tune": {**sizes, "hit_10": hit},
        "forget_report": {**sizes, "hit_10": hit, "hit_10_sampled": 0.8, "mrr": float("nan")},
        "never_seen_report": {**sizes, "hit_10": 0.15},
        "validation": {**sizes, "recall_10": 0.2},
        "empty": {"num_users": 0.0, "num_events": 0.0},
    }
    values: dict[str, Any] = {
        "cell": f"{method}-{seed}",
        "request": "r",
        "model": "sasrec",
        "method": method,
        "original": "sasrec-0",
        "seed": seed,
        "dataset": "data",
        "fingerprint": "f" * 64,
        "partition": partition,
        "metrics": metrics,
        "untrained_raw": None,
        "counts": {"epochs": 10, "steps": 100, "target_gradients": 1000.0, "scored_positions": 500},
        "measured": {
            **{"seconds": 12.5, "seconds_patience": 0.0, "seconds_evaluation": 1.0},
            **{"processor_seconds": 10.0, "peak_memory_mb": 64.0},
        },
        "machine": MACHINE,
        "info": {"version": "1", "prepare": {"seed": 0}, "train": {"loss": "ce"}, "settings": {}, "models": []},
        "history": [],
        "events": {"forget_report": make_ranks(hit)},
    }
    return Record(**{**values, **changes})


def make_ranks(hit: float) -> EventRanks:
    """100 events of 20 users, a share ``hit`` of them in the first 10 and the others at the same ranks for all rows."""
    event = np.arange(100)
    return EventRanks(event, event // 5, np.where(event < round(100 * hit), 5.0, 20.0 + event))


@pytest.fixture
def record() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def retrains() -> list[Record]:
    """Three Retrains with forget Hit@10 of 0.20, 0.22 and 0.24: mean 0.22, standard deviation 0.02."""
    return [make_record("retrain", seed, hit) for seed, hit in enumerate((0.20, 0.22, 0.24))]
