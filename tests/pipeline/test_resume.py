"""A stage killed by SIGKILL at any moment goes on with the same command and ends with the same bits."""

import hashlib
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Run

from srun.cli import cli

LONG = {
    "train": ["train", "--set", "train.max_epochs=60", "--set", "train.evaluate_every=1", "--set", "train.patience=60"],
    "unlearn": ["unlearn", "--method", "sruga", "--set", "unlearn.sruga.max_epochs=60"],
    "retrain": ["unlearn", "--method", "retrain"],
}
SHORT = ["--set", "train.max_epochs=60", "--set", "train.evaluate_every=1", "--set", "train.patience=60"]


def start(words: list[str]) -> subprocess.Popen[bytes]:
    code = "from srun.cli import main; main()"
    command = [sys.executable, "-c", code, *words, "--params", "tiny.yaml"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error.decode()


def weights(project: Path, what: str) -> str:
    name = {"train": "original", "unlearn": "interactions/sruga-0", "retrain": "interactions/retrain-0"}[what]
    folder = project / "models/sasrec-0" / name
    return "".join(
        hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in ("weights.safetensors", "history.csv")
    )


def kill_between_states(
    process: subprocess.Popen[bytes], resume: Path, wait_for: int, pause: float, how: int = signal.SIGKILL
) -> bool:
    """Kill once state ``wait_for`` or a later one is there, ``pause`` seconds on; False if the run was faster."""
    while process.poll() is None:
        # os.walk, unlike rglob, does not mind folders that vanish while it looks
        states = [int(name) for _, names, _ in os.walk(resume) for name in names if name.isdigit()]
        if states and max(states) >= wait_for:
            time.sleep(pause)
            if process.poll() is not None:
                return False
            process.send_signal(how)
            if how == signal.SIGKILL:
                process.communicate()
            return True
        time.sleep(0.002)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("what", list(LONG))
def test_killed_runs_end_with_the_same_bits(project: Path, what: str) -> None:
    runner = CliRunner()
    for words in (
        ["data", "import", "log.csv", "--name", "tiny"],
        ["prepare", "--params", "tiny.yaml"],
        ["partition", "--params", "tiny.yaml"],
        ["train", "--params", "tiny.yaml", *SHORT],
    ):
        result = runner.invoke(cli, words)
        assert result.exit_code == 0, result.output
    finish(start(LONG[what]))
    uninterrupted = weights(project, what)

    rng, resume, kills = random.Random(what), project / "runs/resume", 0
    for at_least in (1, 15, 35):
        process = start(LONG[what])
        kills += kill_between_states(process, resume, at_least + rng.randrange(10), rng.random() * 0.03)
    assert kills >= 2, "the runs ended before they could be killed"
    finish(start(LONG[what]))
    assert weights(project, what) == uninterrupted
    assert not [path for path in resume.rglob("*") if path.is_file()], "the resume folder goes when the run ends"


@pytest.mark.slow
def test_a_tracked_run_that_is_killed_and_terminated_stays_one_run_with_its_whole_curve(project: Path) -> None:
    runner = CliRunner()
    for words in (["data", "import", "log.csv", "--name", "tiny"], ["prepare", "--params", "tiny.yaml"]):
        assert runner.invoke(cli, words).exit_code == 0
    words, resume = [*LONG["train"], "--set", "runtime.tracking=true"], project / "runs/resume"
    assert kill_between_states(start(words), resume, 1, 0.1), "the run ended before it could be killed"
    terminated = start(words)
    assert kill_between_states(terminated, resume, 20, 0.0, signal.SIGTERM), "the run ended before that"
    said = terminated.communicate(timeout=60)[1].decode().splitlines()
    assert terminated.returncode == 143
    assert said[-1] == f"stopped; what was saved stays: go on with `{shlex.join(['srun', *words])} --params tiny.yaml`"
    [run] = the_runs(project)
    assert run.info.status == "KILLED"
    finish(start(words))
    assert runner.invoke(cli, ["sync"]).exit_code == 0, "a busy machine may have needed more than its patience"
    [run] = the_runs(project)
    assert run.info.status == "FINISHED"
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    for metric in ("train/loss", "validation/ndcg_10"):
        history = client.get_metric_history(run.info.run_id, metric)
        assert sorted(point.step for point in history) == list(range(1, 61)), metric
    assert not list(resume.rglob("*.run.json"))
    assert not list((project / "runs/spool").iterdir())


def the_runs(project: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    return list(client.search_runs(["1"], "tags.stage = 'train'"))


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_every_command_that_is_told_to_stop_says_how_to_go_on(project: Path, how: int, code: int) -> None:
    script = "from srun.cli import main; import srun.flow.params as p, os; "
    script += f"p.load = lambda *words: os.kill(os.getpid(), {int(how)}); main()"
    words = ["params", "--params", "tiny.yaml"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr == "stopped; what was saved stays: go on with `srun params --params tiny.yaml`\n"
