"""Whether a step's output is up to date, why it is not, and what is accepted all the same."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from srun.errors import RunError
from srun.files import SUMS, write_folder
from srun.flow.freshness import MAX_REASONS, Output, Parts, file_digests, reasons_text
from srun.flow.steps import Step, accept_steps, take_steps

PARTS = Parts({"rate": 5.0, "of": [1, 2]}, {"may.csv": "a"}, {"srun.rng": "1", "torch": "2"})


class World:
    """A folder in which one step writes what it is told to."""

    def __init__(self, root: Path) -> None:
        self.root, self.parts, self.content, self.keys = root, PARTS, "one", []
        self.out, self.resume = root / "out", root / "resume"

    def work(self, key: str) -> str:
        self.keys.append(key)
        self.resume.mkdir()
        with write_folder(self.out, sealed=True) as new:
            (new / "model.json").write_text(self.content)
        return self.content

    @property
    def step(self) -> Step:
        output = Output((self.out,), self.root / "keys" / "out.json")
        return Step("make", (), self.work, lambda: self.parts, output, self.resume, "making")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_output_is_up_to_date_once_it_is_made(world: World) -> None:
    assert world.step.stale() == ["not there yet"]
    assert world.step.run() == "one"
    assert world.step.stale() == []
    assert not world.resume.exists()
    assert world.keys == [PARTS.key]


CHANGES = {
    "rate 5.0 -> 4.0": replace(PARTS, parameters={**PARTS.parameters, "rate": 4.0}),
    "rate 5.0 -> nothing": replace(PARTS, parameters={"of": [1, 2]}),
    "of [1, 2] -> [1]": replace(PARTS, parameters={**PARTS.parameters, "of": (1,)}),
    "file may.csv changed": replace(PARTS, files={"may.csv": "b"}),
    "file may.csv is gone": replace(PARTS, files={"may.csv": "absent"}),
    "file june.csv is new": replace(PARTS, files={**PARTS.files, "june.csv": "c"}),
    "code of srun.rng changed": replace(PARTS, code={**PARTS.code, "srun.rng": "0"}),
    "code of srun.rng is read no more": replace(PARTS, code={"torch": "2"}),
    "code of srun.files is read now": replace(PARTS, code={**PARTS.code, "srun.files": "1"}),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_what_has_changed_is_said(world: World, reason: str) -> None:
    world.step.run()
    world.parts = CHANGES[reason]
    assert world.step.stale() == [reason]


def test_of_many_reasons_the_first_are_told() -> None:
    reasons = [f"a{number} 0 -> 1" for number in range(MAX_REASONS + 2)]
    assert reasons_text(reasons).endswith("a3 0 -> 1; and 2 more")
    assert reasons_text(reasons[:2]) == "a0 0 -> 1; a1 0 -> 1"


def test_an_output_that_another_has_replaced_is_made_again(world: World) -> None:
    world.step.run()
    world.content = "two"
    world.work("by hand")
    assert world.step.stale() == [f"{world.out} is not the one that was made"]


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b"{}", b'{"key": "k", "output": 1, "parts": {}}'])
def test_a_key_file_that_cannot_be_read_is_told_and_the_output_made_again(world: World, data: bytes) -> None:
    world.step.run()
    world.step.output.key_file.write_bytes(data)
    [reason] = world.step.stale()
    assert str(world.step.output.key_file) in reason
    assert "makes it again" in reason
    with pytest.raises(RunError, match="makes it again"):
        accept_steps([world.step], ["make"])


def test_a_kill_before_the_key_file_leaves_the_saved_states(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(output: Output, parts: Parts) -> None:
        assert output.is_there()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Output, "write_key", kill)
        with pytest.raises(Killed):
            world.step.run()
    assert world.resume.exists(), "so that the work is done again from its last state"
    assert [str(world.step.output.key_file) in reason for reason in world.step.stale()] == [True]


def test_parts_are_those_from_before_the_work(world: World) -> None:
    class Meddled(World):
        def work(self, key: str) -> str:
            self.parts = CHANGES["rate 5.0 -> 4.0"]
            return super().work(key)

    meddled = Meddled(world.root)
    meddled.step.run()
    assert meddled.step.stale() == ["rate 5.0 -> 4.0"]


def test_the_same_bytes_made_again_are_no_change_for_what_reads_them(world: World) -> None:
    world.step.run()
    before = file_digests(world.root, world.out, world.out / "model.json")
    world.parts = CHANGES["code of srun.rng changed"]
    assert take_steps([world.step], None) == {"done": ["make"], "left": []}
    assert file_digests(world.root, world.out, world.out / "model.json") == before
    assert set(before) == {"out", "out/model.json"}


def test_an_accepted_output_is_up_to_date_and_says_why_it_was_not(world: World) -> None:
    world.step.run()
    assert accept_steps([world.step], []) == {}
    world.parts = CHANGES["rate 5.0 -> 4.0"]
    assert accept_steps([world.step], []) == {"make": ["rate 5.0 -> 4.0"]}
    assert world.step.stale() == []
    assert json.loads(world.step.output.key_file.read_text())["parts"]["parameters"]["rate"] == 4.0
    assert len(world.keys) == 1, "nothing was made again"


def test_what_is_not_there_or_not_as_it_was_made_is_refused(world: World) -> None:
    assert accept_steps([world.step], []) == {}, "nothing is there"
    with pytest.raises(RunError, match="out: not there"):
        accept_steps([world.step], ["make"])
    world.step.run()
    world.parts = CHANGES["rate 5.0 -> 4.0"]
    with pytest.raises(RunError, match='unknown step "mak"; did you mean "make"'):
        accept_steps([world.step], ["mak"])
    (world.out / "model.json").write_text("two")
    with pytest.raises(RunError, match=r"model\.json: not what was written"):
        accept_steps([world.step], [])
    world.content = "two"
    world.work("by hand")
    with pytest.raises(RunError, match="out: not the one that was made"):
        accept_steps([world.step], ["make"])
    assert world.step.stale() != []


def test_one_that_is_refused_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    first, second = World(tmp_path / "a"), World(tmp_path / "b")
    steps = [replace(world.step, name=name) for world, name in ((first, "a"), (second, "b"))]
    for world, step in zip((first, second), steps, strict=True):
        world.root.mkdir()
        step.run()
        world.parts = CHANGES["rate 5.0 -> 4.0"]
    (second.out / SUMS).unlink()
    with pytest.raises(RunError):
        accept_steps(steps, [])
    assert steps[0].stale() == ["rate 5.0 -> 4.0"]
