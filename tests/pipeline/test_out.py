"""`--out` for single commands: each reads and writes what `srun run --out` makes, and nothing beside it."""

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from srun.cli import cli

OUT = ["--params", "tiny.yaml", "--out", "out/a"]


def ok(*words: str) -> Result:
    result = CliRunner().invoke(cli, list(words))
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def imported(project: Path) -> Path:
    ok("data", "import", "log.csv", "--name", "tiny")
    return project


def test_every_stage_works_in_the_folder_of_out(imported: Path) -> None:
    before = {path.name for path in imported.iterdir()}
    ok("prepare", *OUT)
    ok("partition", *OUT)
    ok("train", *OUT)
    for method, seed in (("original", "0"), ("retrain", "0"), ("sruga", "0")):
        ok("unlearn", "--method", method, "--seed", seed, *OUT)
        ok("evaluate", "--method", method, "--seed", seed, *OUT)
    result = json.loads(ok("run", *OUT, "--json").output)
    assert not result["left"]
    ok("report", *OUT)
    user = json.loads(ok("evaluate", "--method", "sruga", *OUT, "--json").output)
    assert user["test"]["num_events"]
    assert {path.name for path in imported.iterdir()} - before == {"out"}
    assert {path.name for path in (imported / "data").iterdir()} == {"raw"}
    for folder in ("data/prepared", "data/partition/interactions", "models/sasrec-0/original", "reports", "runs"):
        assert (imported / "out/a" / folder).is_dir()


def test_what_a_search_prints_works_as_pasted(imported: Path) -> None:
    for stage in ("prepare", "partition", "train"):
        ok(stage, *OUT)
    space = "optimize.space.sruga={ascent_weight: {low: 0.1, high: 1.0, scale: log, zero: false, when: {}}}"
    words = ("--trials", "1", "--study", "s", "--set", space, "--set", "optimize.evaluate_every=1")
    ok("optimize", *words, *OUT)
    ok("optimize", "show", "--study", "s", *OUT)
    page = (imported / "out/a/reports/pareto/s/index.html").read_text()
    assert "--out out/a" in page
    ok(*shlex.split("optimize apply --study s --trial 0 --params tiny.yaml --out out/a"))
    preset = imported / "out/a/reports/pareto/s/settings/trial-0.yaml"
    assert preset.is_file()
    ok("unlearn", "--method", "sruga", *OUT, "--params", str(preset.relative_to(imported)))
    assert not (imported / "reports").exists()
    assert not (imported / "runs").exists()


def test_a_mistake_in_the_last_row_is_told_before_the_first_stage(imported: Path) -> None:
    row = "request: interactions, original: sasrec-0, seed: 0"
    rows = f"{{a: {{{row}, method: retrain}}, b: {{{row}, method: sisa}}}}"
    result = CliRunner().invoke(cli, ["run", *OUT, "--set", f"cells={rows}", "--set", "runtime.device=abacus"])
    assert result.exit_code == 1
    assert "SISA needs an Original trained in shards" in result.output
    assert "abacus" in result.output
    assert not (imported / "out").exists()
    result = CliRunner().invoke(cli, ["train", *OUT, "--set", f"cells={rows}"])
    assert "cells.b: SISA needs" in result.output
    result = CliRunner().invoke(cli, ["run", *OUT, "--set", "data.name=nothing"])
    assert "srun data import FILE --name nothing" in result.output
    assert not (imported / "out").exists()
