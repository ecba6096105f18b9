"""The name `srun`: ours for our commands, Slurm's for everything else, with stand-ins for Slurm on PATH."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from srun import __version__
from srun.system.slurm import is_own, is_search, starts_tasks, worker

SOURCE = Path(__file__).parents[2] / "src"
OURS = f"#!{sys.executable}\nfrom srun.cli import main\nmain()\n"
FAKE = """#!/bin/sh
echo "slurm: $*"
[ "$1" = fail ] && exit 7
[ "$1" = cat ] && exec /bin/cat
[ "$1" = sleep ] && exec /bin/sleep 30
exit 0
"""


@pytest.fixture
def place(tmp_path):
    """Our srun before a Slurm of stand-ins on PATH."""
    for folder, names in (("ours", ("srun", "srunlearn", "optimize")), ("slurm", ("srun", "sbatch"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(OURS if folder == "ours" else FAKE)
            (tmp_path / folder / name).chmod(0o755)
    return tmp_path


@pytest.fixture
def call(place):
    def call(*words, program="srun", slurm=True, **environ):
        path = f"{place / 'ours'}:{place / 'slurm' if slurm else ''}"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
        environment = {**kept, "PATH": path, "PYTHONPATH": str(SOURCE), **environ}
        command = [str(place / "ours" / program), *words]
        return subprocess.run(command, env=environment, input="typed", capture_output=True, text=True, check=False)

    return call


def test_ours_stays_ours_and_the_rest_is_slurms(call):
    assert "Sequential Recommender" in call("--help").stdout
    assert "Sequential Recommender" in call().stdout + call().stderr
    assert "srun data list" in call("data", "list", "--help").stdout
    assert call("-n", "4", "hostname").stdout == "slurm: -n 4 hostname\n"
    for slurm in (True, False):
        began = time.monotonic()
        assert call("--version", slurm=slurm).stdout == f"srun-unlearning {__version__}\n"
        assert time.monotonic() - began < 2, "about 0.1 s on a machine at rest: nothing heavy is imported"
    assert call("-V").stdout == "slurm: -V\n"
    assert call("-n", "2", "optimize", "--trials", "3").stdout == "slurm: -n 2 optimize --trials 3\n"


def test_exit_code_and_input_pass_through(call):
    assert call("fail").returncode == 7
    assert call("cat").stdout == "slurm: cat\ntyped"


def test_signals_pass_through(place):
    environment = {**os.environ, "PATH": f"{place / 'ours'}:{place / 'slurm'}", "PYTHONPATH": str(SOURCE)}
    process = subprocess.Popen([str(place / "ours/srun"), "sleep"], env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"slurm: sleep\n"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    assert time.monotonic() - began < 5
    process.stdout.close()


def test_without_slurm_a_wrong_command_is_ours_to_refuse(call, place):
    wrong = call("hostname", slurm=False)
    assert wrong.returncode == 2
    assert "No such command 'hostname'" in wrong.stderr
    (place / "slurm/sbatch").unlink()
    assert call("hostname").returncode == 2, "an srun alone is no sign of Slurm"
    assert call("hostname", SLURM_JOB_ID="1").stdout == "slurm: hostname\n"


def test_the_twin_is_always_ours(call):
    assert call("hostname", program="srunlearn").returncode == 2


def test_in_an_allocation_a_search_is_slurms_to_start(call, place):
    inside = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "6"}
    handed = f"slurm: {place / 'ours/optimize'} --trials 3\n"
    assert call("optimize", "--trials", "3", **inside).stdout == handed
    assert call("optimize", "--trials", "3", **inside, SLURM_STEP_ID="4294967290").stdout == handed
    for elsewhere in ({"SLURM_NTASKS": "1"}, {"SLURM_STEP_ID": "0"}):
        assert call("optimize", "--sampler", "x", **{**inside, **elsewhere}).stdout == ""
    assert "Print the front" in call("optimize", "show", "--help", **inside).stdout


def test_copies_of_ours_are_passed_over_and_a_circle_is_refused(call, place):
    (place / "slurm/srun").write_text(OURS)
    assert call("hostname").returncode == 2, "only other copies of ours are there"
    (place / "slurm/srun").write_text(f'#!/bin/sh\nexec "{place / "ours/srun"}" "$@"\n')
    circle = call("hostname")
    assert circle.returncode == 1
    assert "leads back here" in circle.stderr
    (place / "slurm/srun").unlink()
    (place / "slurm/srun").symlink_to(place / "ours/srun")
    assert call("hostname").returncode == 2


def test_small_rules():
    assert is_own([], ["data"])
    assert is_own(["data", "list"], ["data"])
    assert is_own(["--version"], ["data"])
    assert not is_own(["--debug"], ["data"])
    assert is_search(["optimize", "--trials", "3"])
    assert is_search(["optimize", "--study", "show"])
    assert not is_search(["optimize", "apply"])
    assert not is_search(["optimize", "--trials", "3", "--help"])
    assert not is_search([])
    assert not is_search(["unlearn"])
    assert not starts_tasks({"SLURM_NTASKS": "4"})
    assert worker({}) == 0
    assert worker({"SLURM_PROCID": "3"}) == 3
    assert worker({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "4"}) == 1
    assert worker({"SRUN_WORKER": "2"}) == 2
