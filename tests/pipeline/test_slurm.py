"""What a cluster's users submit: both batch scripts of a search, and training by several processes, on a real Slurm."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from srun.cli import cli

SCRIPTS = Path(__file__).parents[2] / "scripts/slurm"
PRESET = ["--params", "tiny.yaml"]
pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def ok(*words: str) -> str:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def trained(project: Path) -> Path:
    ok("data", "import", "log.csv", "--name", "tiny")
    for stage in ("prepare", "partition", "train"):
        ok(stage, *PRESET)
    return project


@pytest.fixture
def environment(project: Path) -> Path:
    """The virtual environment that the scripts activate."""
    bin = project / ".venv/bin"
    bin.mkdir(parents=True)
    for name, function in (("srun", "main"), ("optimize", "optimize_main")):
        (bin / name).write_text(f"#!{sys.executable}\nfrom srun.cli import {function}\n{function}()\n")
        (bin / name).chmod(0o755)
    (bin / "activate").write_text(f'export PATH="{bin}:$PATH"\n')
    return bin


def submit(slurm: dict[str, str], *words: str) -> None:
    """Submit a batch script and wait for its end; options for sbatch stand before its name, others behind."""
    done = subprocess.run(
        ["sbatch", "--wait", *words], env={**os.environ, **slurm}, capture_output=True, text=True, timeout=180
    )
    logs = "\n".join(path.read_text() for path in Path().glob("optimize-*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs


def num_joined(journal: Path) -> int:
    """How many processes have joined a study: each one writes what its trials have in common."""
    entries = [json.loads(line) for line in journal.read_bytes().splitlines()]
    return len({entry["worker_id"][:36] for entry in entries if "about" in entry.get("user_attr", {})})


def test_both_batch_scripts_carry_out_a_search(trained: Path, environment: Path, slurm: dict[str, str]) -> None:
    plain, array = str(SCRIPTS / "optimize.sbatch"), str(SCRIPTS / "optimize-array.sbatch")
    journal = trained / "runs/optimize/cluster.journal"
    submit(slurm, "--ntasks=2", "--cpus-per-task=1", plain, "--trials", "3", *PRESET)
    shown = json.loads(ok("optimize", "show", "--storage", str(journal), *PRESET, "--json"))
    assert shown["finished"] == 3
    assert num_joined(journal) == 2, "one a task"
    [log] = trained.glob("optimize-*.log")
    assert log.read_text().count("index.html") == 1, "the first task alone reports"

    submit(slurm, "--array=0-1", "--cpus-per-task=1", array, "--trials", "5", *PRESET)
    shown = json.loads(ok("optimize", "show", "--storage", str(journal), *PRESET, "--json"))
    assert shown["finished"] == 5
    assert num_joined(journal) == 4
    assert len(list(trained.glob("optimize-*-[01].log"))) == 2


def test_two_tasks_of_slurm_train_one_model(trained: Path, slurm: dict[str, str]) -> None:
    """Names of the nodes do not resolve here, so the address of the first is given."""
    original = trained / "models/sasrec-0/original"
    shutil.move(original, trained / "alone")
    theirs = str(Path(str(shutil.which("sinfo"))).with_name("srun"))
    command = [theirs, "-K1", "-n", "2", sys.executable, "-m", "srun", "train", *PRESET]
    started = {**os.environ, **slurm, "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(command, env=started, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation/ndcg_10") == 1, "one model, told of once"
    one, other = (pd.read_csv(folder / "history.csv") for folder in (original, trained / "alone"))
    pd.testing.assert_frame_equal(one, other, rtol=1e-4)
    expected = load_file(trained / "alone/weights.safetensors")
    for name, tensor in load_file(original / "weights.safetensors").items():
        if not name.endswith("key.bias"):  # no softmax sees them, so that they are rounding alone
            torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=2e-4, msg=name)
