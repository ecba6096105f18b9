"""Journals of studies that were damaged: each is read, gone on with, or refused in one line."""

import json
import random
import shutil
from pathlib import Path

import pytest

from srun.errors import SrunError
from srun.search.results import describe_goal, read_study
from srun.search.storage import open_storage, reaching
from srun.search.study import LimitsConfig, Search, load_study, open_study

COUNT = 90
LIMITS = LimitsConfig(trial=60.0, beat=0.05, silence=0.3, poll=0.02)
ODD = (None, -1, 0, 99, 1.5, "", "x", [], {}, True, [1, 2], {"x": 1}, "\x1b[31m")


@pytest.fixture(scope="module")
def source(toy, tmp_path_factory) -> Path:
    """The journal of a study with three trials."""
    place = tmp_path_factory.mktemp("journals") / "s.journal"
    work(str(place), toy, 3)
    return place


def work(place: str, toy, num_trials: int) -> None:
    """Take a study to so many trials."""
    goal = toy.toy_goal()
    study = open_study(open_storage(place), "s", goal, {"goal": describe_goal(goal)})
    Search(study, toy.toy_space(), goal, LIMITS, "random", 0).run(
        lambda settings, tell: toy.toy(settings), num_trials, 20
    )


def change_bytes(rng: random.Random, lines: list[bytes]) -> bytes:
    data = bytearray(b"".join(lines))
    for _ in range(rng.choice([1, 1, 4])):
        place = rng.randrange(len(data))
        if rng.random() < 0.5:
            data[place] = rng.randrange(256)
        else:
            del data[place : place + rng.choice([1, 1, 200])]
    return bytes(data)


def change_lines(rng: random.Random, lines: list[bytes]) -> bytes:
    lines, place = list(lines), rng.randrange(len(lines))
    way = rng.randrange(4)
    if way == 0:
        del lines[place]
    elif way == 1:
        lines.insert(place, lines[place])
    elif way == 2:
        other = rng.randrange(len(lines))
        lines[place], lines[other] = lines[other], lines[place]
    else:
        del lines[place:]
    return b"".join(lines)


def change_field(rng: random.Random, lines: list[bytes]) -> bytes:
    lines, place = list(lines), rng.randrange(len(lines))
    entry = json.loads(lines[place])
    key = rng.choice(sorted(entry))
    if rng.random() < 0.7:
        entry[key] = rng.choice(ODD)
    else:
        del entry[key]
    lines[place] = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    return b"".join(lines)


MUTATIONS = (change_bytes, change_lines, change_field)


def use(place: str, toy) -> None:
    """Read a study as a report does, and take it one trial further."""
    with reaching(place):
        read_study(load_study(open_storage(place), "s"))
        work(place, toy, 4)


@pytest.mark.fuzz("study-journals")
def test_a_damaged_journal_is_read_or_refused_in_one_line(source, toy, fuzz) -> None:
    lines = source.read_bytes().splitlines(keepends=True)

    def case(number: int, folder: Path) -> str:
        rng = random.Random(number)
        place = folder / "s.journal"
        shutil.copy(source, place)
        place.write_bytes(MUTATIONS[number % len(MUTATIONS)](rng, lines))
        try:
            use(str(place), toy)
        except SrunError as error:
            return fuzz.refused(error, folder)
        return "read"

    outcomes = fuzz.run(COUNT, case)
    assert min(outcomes["refused"], outcomes["read"]) > outcomes.total() / 20, outcomes
