"""Params files that were damaged in hundreds of ways: each is refused in short clean lines, or is another valid one."""

import random
import re
from copy import deepcopy
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from srun.config import flatten, merge, parse_assignment
from srun.errors import MAX_LETTERS, ConfigError, in_lines
from srun.flow.params import Params, load, load_values

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "params.yaml").read_text()
WHOLE = load_values(ROOT / "params.yaml")
ODD = [
    "x",
    "",
    -1,
    0,
    1.5,
    True,
    None,
    [],
    {},
    [[]],
    {"x": 1},
    10**30,
    float("nan"),
    "\x1b[31m",
    "\u202e",
    "../x",
    2**62,
]
WORDS = [
    "&a",
    "*a",
    "*attribution",
    "<<: ",
    "[",
    "]",
    "{",
    "}",
    "\t",
    "\0",
    "%",
    "!!int",
    "- ",
    ": ",
    "'",
    '"',
    "#",
    "é",
    "\u2028",
]


def lines_of(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def flip(rng: random.Random) -> bytes:
    content = bytearray(TEXT.encode())
    for _ in range(rng.choice([1, 1, 3])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def swap(rng: random.Random) -> bytes:
    lines = lines_of(TEXT)
    first, second = rng.sample(range(len(lines)), 2)
    lines[first], lines[second] = lines[second], lines[first]
    return "".join(lines).encode()


def drop_or_repeat(rng: random.Random) -> bytes:
    lines = lines_of(TEXT)
    place = rng.randrange(len(lines))
    lines[place : place + 1] = rng.choice([[], [lines[place]] * 2])
    return "".join(lines).encode()


def insert(rng: random.Random) -> bytes:
    place = rng.randrange(len(TEXT))
    return (TEXT[:place] + rng.choice(WORDS) * rng.choice([1, 1, 50]) + TEXT[place:]).encode()


def cut(rng: random.Random) -> bytes:
    first, second = sorted(rng.sample(range(len(TEXT)), 2))
    return (TEXT[:first] + TEXT[second:]).encode()


MUTATIONS = [flip, swap, drop_or_repeat, insert, cut]


def check_refused(error: ConfigError) -> None:
    for line in in_lines(error.faults).splitlines():
        assert line.isprintable(), repr(line)
        assert len(line) <= MAX_LETTERS


def outcome(file: Path) -> str:
    """Whether a file is refused, as it must be, or valid; every other exception fails the test."""
    try:
        params = load(file)
    except ConfigError as error:
        check_refused(error)
        return "refused"
    assert isinstance(params, Params)
    return "valid"


@pytest.mark.fuzz("params")
def test_a_damaged_file_is_refused_in_short_lines_or_is_a_valid_one(fuzz) -> None:
    def case(number: int, folder: Path) -> str:
        file = folder / "params.yaml"
        file.write_bytes(MUTATIONS[number % len(MUTATIONS)](random.Random(number)))
        result = outcome(file)
        if result == "valid":  # only where the values say so: no damage is taken for the file as it was
            plain = YAML(typ="safe", pure=True).load(file.read_bytes())
            assert load_values(file) == plain
        assert [path.name for path in folder.iterdir()] == ["params.yaml"]
        return result

    outcomes = fuzz.run(300, case)
    assert min(outcomes["refused"], outcomes["valid"]) > outcomes.total() / 30, outcomes


def leaf(values: dict, key: str) -> tuple[dict, str]:
    *parents, last = key.split(".")
    for part in parents:
        values = values[part]
    return values, last


def load_changed(monkeypatch: pytest.MonkeyPatch, values: dict) -> Params:
    """``load`` of values that are given as they are; a file of them would only be read again."""
    monkeypatch.setattr("srun.flow.params.read_yaml", lambda path: deepcopy(values))
    return load(ROOT / "params.yaml")


def test_odd_values_in_every_leaf_are_refused_by_its_key_or_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    for key in flatten(WHOLE):
        odd = rng.choice(ODD)
        values = deepcopy(WHOLE)
        node, last = leaf(values, key)
        node[last] = odd
        try:
            load_changed(monkeypatch, values)
        except ConfigError as error:
            check_refused(error)


WRONG = {str: True, int: "seven", float: "seven", bool: "seven", type(None): {"seven": 7}, list: 7, dict: 7}


def test_a_wrong_type_in_any_leaf_is_refused_by_its_whole_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in flatten(WHOLE).items():
        values = deepcopy(WHOLE)
        node, last = leaf(values, key)
        node[last] = WRONG[type(value)]
        with pytest.raises(ConfigError) as caught:
            load_changed(monkeypatch, values)
        assert any(f'"{key}' in fault for fault in caught.value.faults), f"{key}: {caught.value}"


def test_a_scalar_in_the_place_of_any_section_is_refused_by_its_whole_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in set(every_key(WHOLE)) - set(flatten(WHOLE)):
        for odd in (3, "x", [1]):
            values = deepcopy(WHOLE)
            node, last = leaf(values, key)
            node[last] = odd
            with pytest.raises(ConfigError) as caught:
                load_changed(monkeypatch, values)
            assert any(f'"{key}' in fault for fault in caught.value.faults), f"{key}: {caught.value}"


def misspelt(key: str, rng: random.Random) -> str:
    """One letter doubled, lost or another."""
    place = rng.randrange(len(key))
    kinds = [key[:place] + key[place] + key[place:]]
    if len(key) > 4:
        kinds += [key[:place] + key[place + 1 :], key[:place] + "q" + key[place + 1 :]]
    return rng.choice([kind for kind in kinds if kind != key])


FREE = r"(optimize\.objectives\.(?!pareto)|cells\.|originals\.|partition\.)[^.]+$"
"""What users name themselves: with another name it is another entry, which is refused where something refers to it."""


def every_key(values: dict, prefix: str = "") -> list[str]:
    keys = [f"{prefix}{key}" for key in values]
    return keys + [
        k for key, part in values.items() if isinstance(part, dict) for k in every_key(part, f"{prefix}{key}.")
    ]


def test_one_wrong_letter_in_any_key_is_refused_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(2)
    for key in every_key(WHOLE):
        values = deepcopy(WHOLE)
        node, last = leaf(values, key)
        wrong = misspelt(last, rng)
        entries = {wrong if name == last else name: part for name, part in node.items()}
        node.clear()
        node.update(entries)
        if re.match(FREE, key):
            continue
        with pytest.raises(ConfigError) as caught:
            load_changed(monkeypatch, values)
        told = (
            f'did you mean "{wrong if key.startswith("optimize.objectives.pareto") and key.count(".") == 2 else last}"'
        )
        assert told in str(caught.value), f"{key} as {wrong}: {caught.value}"


def test_one_wrong_letter_in_any_key_of_a_preset_or_an_assignment_is_refused_with_the_right_one() -> None:
    rng = random.Random(3)
    for key, value in flatten(WHOLE).items():
        if re.match(FREE, key):
            continue
        *parents, last = key.split(".")
        wrong = misspelt(last, rng)
        preset = {wrong: value}
        for part in reversed(parents):
            preset = {part: preset}
        with pytest.raises(ConfigError, match=f'did you mean "{re.escape(last)}"'):
            merge(deepcopy(WHOLE), preset, (), ())


@pytest.mark.fuzz("assignments")
def test_odd_assignments_are_refused_or_read(fuzz) -> None:
    letters = "ab.[]{}&*!%:=,'\"\\\n\t\0 -#|>019\u2028\x1b\ud800é"

    def case(number: int, folder: Path) -> str:
        rng = random.Random(number)
        text = "a=" + "".join(rng.choice(letters) for _ in range(rng.randrange(1, 12)))
        (folder / "assignment").write_text(ascii(text))
        try:
            parse_assignment(text)
        except ConfigError as error:
            check_refused(error)
            return "refused"
        return "read"

    fuzz.run(300, case)
