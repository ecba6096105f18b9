"""`srun run` after a change of code: a comment runs nothing, a change that computes what depends on it, and no more."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
from click.testing import CliRunner, Result

from srun.cli import cli
from srun.flow import code
from srun.models.sasrec import SASRec
from srun.unlearning.controls.finetune_only import FinetuneOnly
from srun.unlearning.sruga.method import SRUGA

CELLS = (
    "cells={o: {request: interactions, original: sasrec-0, method: original, seed: 0}, "
    "r: {request: interactions, original: sasrec-0, method: retrain, seed: 0}, "
    "s: {request: interactions, original: sasrec-0, method: sruga, seed: 0}}"
)
WORDS = ["--params", "tiny.yaml", "--set", CELLS]
LOSS = "loss.mean().backward()"


def srun(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


@pytest.fixture
def source(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package whose text counts as the code, after a first run; what runs is the package itself."""
    copy = project / "code"
    copytree(code.SOURCE / "srun", copy / "srun", ignore=lambda folder, names: {"__pycache__", "project"} & set(names))
    monkeypatch.setattr(code, "SOURCE", copy)
    assert srun("data", "import", "log.csv", "--name", "tiny").exit_code == 0
    assert srun("run", *WORDS).exit_code == 0
    return copy / "srun"


def edit(file: Path, change: Callable[[str], str]) -> None:
    before = file.read_text(encoding="utf-8")
    file.write_text(change(before), encoding="utf-8")
    assert file.read_text(encoding="utf-8") != before


def left() -> list[str]:
    """The steps that are not up to date, and those to be taken again for them."""
    result = srun("run", *WORDS, "--budget", "0", "--json")
    assert result.exit_code == 0, result.output
    names: list[str] = json.loads(result.stdout)["left"]
    return names


def test_a_comment_runs_nothing(source: Path) -> None:
    edit(source / "training/fit.py", lambda text: "# a comment\n" + text.replace('"""', '"""Other words: ', 1))
    edit(source / "evaluation/ranking.py", lambda text: f"{text}\n\n# another\n")
    assert left() == []


def test_a_change_of_one_method_runs_its_cells_and_nothing_below_them_where_the_bytes_stay(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(source / "unlearning/sruga/ascent.py", lambda text: f"{text}\nCHANGED = 1\n")
    assert left() == ["unlearn s", "evaluate s", "judge", "report"]
    with caplog.at_level("INFO", "srun"):
        result = srun("run", *WORDS, "--json")
    assert json.loads(result.stdout)["done"] == ["unlearn s", "judge", "report"], (
        "the model comes back to the same bytes"
    )
    assert "unlearn s: code of srun.unlearning.sruga.ascent changed" in caplog.messages
    assert left() == []


def test_a_change_of_ranking_is_seen_by_every_evaluation(source: Path) -> None:
    edit(source / "evaluation/ranking.py", lambda text: f"{text}\nCHANGED = 1\n")
    assert {"evaluate o", "evaluate r", "evaluate s"} <= set(left())
    edit(source / "evaluation/ranking.py", lambda text: text.removesuffix("\nCHANGED = 1\n"))
    edit(source / "evaluation/relearning.py", lambda text: f"{text}\nCHANGED = 1\n")
    assert left() == [*(f"evaluate {cell}" for cell in "ors"), "judge", "report"], "validation does not look at this"


@pytest.mark.parametrize(("name", "value"), [("title", "Sruga"), ("role", "control"), ("colour", "#000000")])
def test_another_title_or_role_is_judged_and_shown_anew(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    monkeypatch.setattr(FinetuneOnly, name, value)
    assert left() == [], "no cell is of this method"
    monkeypatch.setattr(SRUGA, name, value)
    assert left() == ["judge", "report"]
    with caplog.at_level("INFO", "srun"):
        assert srun("run", *WORDS).exit_code == 0
    assert "judge: code of the looks of sruga changed" in caplog.messages
    assert left() == []


def test_another_title_of_a_model_is_shown_anew(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SASRec, "title", "Self-attentive")
    assert left() == ["judge", "report"]


def test_a_loss_a_hundred_times_as_large_is_seen(source: Path) -> None:
    edit(source / "training/fit.py", lambda text: text.replace(LOSS, "(100 * loss.mean()).backward()"))
    assert {"train sasrec-0", "unlearn r"} <= set(left())


def test_a_change_that_does_not_matter_is_accepted_once_and_for_all(source: Path) -> None:
    edit(source / "training/fit.py", lambda text: f"{text}\nCHANGED = 1\n")
    stale = left()
    result = srun("accept", "train sasrec-0", *WORDS)
    assert result.output == "accepted train sasrec-0: code of srun.training.fit changed\n"
    assert "train sasrec-0" not in left()
    accepted = json.loads(srun("accept", *WORDS, "--json").stdout)
    assert set(stale) - {"train sasrec-0"} <= set(accepted["accepted"])
    assert accepted["dvc"] == "", "there is no dvc.lock"
    assert left() == []
    assert srun("accept", *WORDS).output == "everything that was made is up to date\n"


def test_what_was_touched_is_not_accepted(source: Path, project: Path) -> None:
    edit(source / "training/fit.py", lambda text: f"{text}\nCHANGED = 1\n")
    weights = project / "models/sasrec-0/original/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    for words in (["train sasrec-0"], []):
        result = srun("accept", *words, *WORDS)
        assert result.exit_code == 1
        assert "weights.safetensors: not what was written" in result.output
    assert 'did you mean "train sasrec-0"?' in srun("accept", "train sasrec", *WORDS).output
    assert "train sasrec-0" in left()
