"""The same models from one process, from several, and from shards trained together; through the commands."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from srun.cli import cli
from srun.errors import RunError
from srun.system import distributed

TINY = ["--params", "tiny.yaml", "--set", "train.loss=bce", "--set", "train.batch_size=19"]
SISA = ["--original", "sasrec-sisa", "--set", "originals.sasrec-sisa={model: sasrec, seed: 0, shards: 3}"]
CODE = """
import os
from pathlib import Path
from srun.system.distributed import joined
from srun.flow.project import Project
from srun.flow.stages import evaluate_step, train_step
from srun.flow.cells import Cell
from srun.training import fit

plain = fit.Run.begin_epoch
def begin_epoch(self, device):
    if self.epoch == 2 and os.environ["SLURM_PROCID"] == "1":
        raise fit.RunError("injected")  # after the state of the second epoch is saved
    plain(self, device)
fit.Run.begin_epoch = begin_epoch

project = Project.open(["tiny.yaml"], ["train.loss=bce", "train.batch_size=19"])
with joined():
    evaluate_step(project, Cell(request="interactions", original="sasrec-0", method="retrain", seed=0)).run()
    train_step(project, "sasrec-0").run()
"""


def run(*words: str) -> None:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output


@pytest.fixture
def prepared(project: Path) -> Path:
    """A project after partition and a plain training run, whose files are set aside in ``alone``."""
    run("data", "import", "log.csv", "--name", "tiny")
    run("prepare", *TINY)
    run("partition", *TINY)
    run("train", *TINY)
    return project


def set_aside(project: Path, *folders: str) -> None:
    for folder in folders:
        shutil.move(project / folder, project / "alone" / folder)


def pair() -> list[tuple[int, str]]:
    """Run the code in two processes that Slurm's variables make one computation: exit codes and what they told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in ("0", "1"):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        environment |= {"SLURM_PROCID": rank, "SLURM_NTASKS": "2", "SLURM_LOCALID": rank, "SLURM_STEP_ID": "0"}
        command = [sys.executable, "-c", CODE]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    told = [process.communicate(timeout=120)[1] for process in started]
    return [(process.returncode, text) for process, text in zip(started, told, strict=True)]


def check_weights(one: Path, other: Path) -> None:
    """Biases of keys are left out: no softmax sees them, so that Adam blows up the rounding of a gradient of zero."""
    expected, found = (load_file(folder / "weights.safetensors") for folder in (one, other))
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        if not name.endswith("key.bias"):
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=2e-4, msg=name)


def test_two_processes_end_where_one_does_even_if_one_failed_on_the_way(prepared: Path) -> None:
    """The first two are started as by Slurm, those that go on after the failure by torchrun."""
    cell = ["--method", "retrain"]
    run("unlearn", *cell, *TINY)
    run("evaluate", *cell, *TINY)
    events = Path("evaluations/sasrec-0/interactions/retrain-0/events.parquet")
    expected = pd.read_parquet(events)
    events.unlink()
    set_aside(prepared, "models/sasrec-0/original")

    (code, told), (second_code, second_told) = pair()
    assert "injected" in second_told
    assert "another process has ended" in told
    assert code
    assert second_code
    pd.testing.assert_frame_equal(pd.read_parquet(events), expected)
    assert not Path("models/sasrec-0/original").exists()
    assert list(Path("runs/resume").rglob("00000002")), "the run goes on from here"

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "srun"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "train", *TINY], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation/ndcg_10") == 1
    check_weights(prepared / "alone/models/sasrec-0/original", prepared / "models/sasrec-0/original")
    history, known = (
        pd.read_csv(folder / "models/sasrec-0/original/history.csv") for folder in (prepared, prepared / "alone")
    )
    pd.testing.assert_frame_equal(history, known, rtol=1e-4)


def test_shards_trained_together_are_those_trained_one_by_one(prepared: Path) -> None:
    for way in ("off", "on"):
        chosen = [*SISA, *TINY, "--set", f"runtime.together={way}"]
        run("train", *chosen)
        run("unlearn", "--method", "sisa", *chosen)
        if way == "off":
            set_aside(prepared, "models/sasrec-sisa")
    for folder in ("original", "interactions/sisa-0"):
        one, other = (base / "models/sasrec-sisa" / folder for base in (prepared / "alone", prepared))
        check_weights(one, other)
        assert (one / "weights.safetensors").read_bytes() != (other / "weights.safetensors").read_bytes(), "two ways"


def test_who_a_process_is() -> None:
    slurm = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "0"}
    nodes = {"SLURM_STEP_NODELIST": "gpu[03-05,9],login"}
    found = distributed.variables({**slurm, **nodes})
    assert {key: found[key] for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")} == {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "gpu03",
    }
    assert 1024 < int(found["MASTER_PORT"]) < 65536
    torchrun = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "here", "MASTER_PORT": "5"}
    assert distributed.variables({**slurm, **nodes, **torchrun}) == torchrun, "what is set counts"
    for alone in ({}, {**slurm, **nodes, "SLURM_STEP_ID": "4294967291"}, {**slurm, "SLURM_STEP_ID": "4294967290"}):
        assert distributed.variables(alone)["WORLD_SIZE"] == "1"
    with pytest.raises(RunError, match="MASTER_ADDR, MASTER_PORT not set; start with torchrun"):
        distributed.variables({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"})
    assert [distributed.first_node(n) for n in ("a,b", "n[7]", "a-[1-2]-x,b")] == ["a", "n7", "a-1-x"]


def test_shares_are_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 2, 3, 7):
        for number in (0, 1, 5, 20):
            rows: list[int] = []
            for rank in range(size):
                monkeypatch.setattr(distributed, "_place", {"rank": rank, "size": size, "local_rank": 0})
                start, stop = distributed.share(number)
                assert 0 <= stop - start <= -(-number // size)
                rows += range(start, stop)
            assert rows == list(range(number))
