"""The toy search, and workers on it that are processes of their own."""

import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib import util
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srun.search.storage import open_storage
from srun.search.study import load_study

PLACES: set[str] = set()
SCRIPT = Path(__file__).with_name("toy.py")
spec = util.spec_from_file_location("toy", SCRIPT)
assert spec is not None
assert spec.loader is not None
TOY = util.module_from_spec(spec)
spec.loader.exec_module(TOY)


def start_worker(place: str, name: str, trials: int, seconds: float) -> ForkProcess:
    """A worker as a process of its own; forked, so that it need not import everything again."""
    worker = get_context("fork").Process(target=TOY.work, args=(place, name, trials, seconds))
    worker.start()
    return worker


def ends_of(workers: list[ForkProcess]) -> list[int | None]:
    """Exit codes, once all have ended; minus the signal for one that was killed."""
    for worker in workers:
        worker.join(60)
    return [worker.exitcode for worker in workers]


@cache
def opened(place: str) -> Any:
    """A storage to look at, one for all looks."""
    PLACES.add(place)
    return open_storage(place)


def count(place: str, name: str) -> Counter[str]:
    """Trials by state; none where the study is not there yet."""
    if "://" not in place and not Path(place).exists():
        return Counter()
    try:
        study = load_study(opened(place), name)
    except Exception:  # not made yet
        return Counter()
    return Counter(trial.state.name for trial in study.get_trials(deepcopy=False))


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No connection outlives its test."""
    yield
    for place in PLACES:
        if "://" in place:
            opened(place).engine.dispose()
    PLACES.clear()
    opened.cache_clear()


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    names = {
        "script": SCRIPT,
        "start": start_worker,
        "ends_of": ends_of,
        "count": count,
        "opened": opened,
        "wait_for": wait_for,
    }
    return SimpleNamespace(**names, **{key: getattr(TOY, key) for key in dir(TOY) if not key.startswith("_")})
