"""The same guarantees on a real PostgreSQL and a real Slurm on loopback; see tests/servers."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from srun.search.study import load_study, num_finished


def run(*words, **environ):
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_own_settings(toy, place, name):
    trials = load_study(toy.opened(place), name).get_trials(deepcopy=False)
    return [trial for trial in trials if trial.user_attrs.get("own_settings") and trial.state.name == "COMPLETE"]


def joined(toy, place, name):
    """Process ids of those that have joined a study, by the number of their task."""
    attrs = load_study(toy.opened(place), name).user_attrs
    return {rank: int(key.removeprefix("worker-")) for key, rank in attrs.items() if key.startswith("worker-")}


@pytest.mark.postgres
def test_exact_number_on_postgresql_with_six_workers_one_killed(toy, postgres):
    # they also make the tables at the same moment; the one to be killed cannot end before
    workers = [toy.start(postgres, "s", 30, 300 if index == 2 else 0.5) for index in range(6)]
    toy.wait_for(lambda: num_finished(toy.count(postgres, "s")) >= 6)
    os.kill(workers[2].pid, signal.SIGKILL)
    assert toy.ends_of(workers) == [0, 0, -signal.SIGKILL, 0, 0, 0]
    states = toy.count(postgres, "s")
    assert states["COMPLETE"] == 30
    assert not states["RUNNING"]
    assert not states["WAITING"]
    assert len(with_own_settings(toy, postgres, "s")) == 1


def theirs():
    """Slurm's own srun, which may stand behind ours on PATH."""
    return str(Path(shutil.which("sinfo") or "").with_name("srun"))


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.parametrize("storage", ["journal", "postgres"])
def test_exact_number_on_slurm_with_sigkill_and_scancel(toy, slurm, storage, servers_folder, request):
    place = (
        request.getfixturevalue("postgres") if storage == "postgres" else str(servers_folder / "shared" / "s.journal")
    )
    name = f"slurm-{storage}"
    command = [theirs(), "-n", "6", sys.executable, str(toy.script), place, name, "30", "0.3"]
    environ = {**os.environ, **slurm}
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as step:
        toy.wait_for(lambda: num_finished(toy.count(place, name)) >= 4)
        toy.wait_for(lambda: "1" in joined(toy, place, name))
        os.kill(joined(toy, place, name)["1"], signal.SIGKILL)
        step.wait(120)  # 137, as one task was killed; the study says what counts
    assert toy.count(place, name)["COMPLETE"] == 30
    with subprocess.Popen([*command[:-2], "1000", "0.3"], env=environ, stderr=subprocess.DEVNULL) as step:
        toy.wait_for(lambda: num_finished(toy.count(place, name)) >= 36)
        run(str(Path(theirs()).with_name("scancel")), "-u", "root", **slurm)
        step.wait(60)
    wanted = num_finished(toy.count(place, name)) + 5
    run(*command[:-2], str(wanted), "0.1", **slurm)
    states = toy.count(place, name)
    assert states["COMPLETE"] == wanted
    assert not states["RUNNING"]
    assert len(with_own_settings(toy, place, name)) == 1


@pytest.mark.slurm
@pytest.mark.slow
def test_both_readings_of_srun_optimize(slurm, tmp_path):
    """`srun` of ours in an allocation, and Slurm's `srun` with our `optimize`: the same tasks get the same words."""
    bin = tmp_path / "bin"
    bin.mkdir()
    ours = f"#!{sys.executable}\nimport sys\nfrom srun.cli import main\nmain()\n"
    said = textwrap.dedent(
        f"""\
        #!{sys.executable}
        import os, sys
        print(os.environ["SLURM_PROCID"], *sys.argv[1:])
        """
    )
    for name, text in (("srun", ours), ("optimize", said)):
        (bin / name).write_text(text)
        (bin / name).chmod(0o755)
    path = f"{bin}:{os.environ['PATH']}"
    words = ["optimize", "--objective", "pareto", "--trials", "9"]
    expected = sorted(f"{rank} --objective pareto --trials 9" for rank in range(3))
    within = run("salloc", "-Q", "-n", "3", str(bin / "srun"), *words, PATH=path, **slurm)
    assert sorted(within.split("\n")[:-1]) == expected
    outside = run(theirs(), "-n", "3", str(bin / "optimize"), *words[1:], PATH=path, **slurm)
    assert sorted(outside.split("\n")[:-1]) == expected
    passed = run(str(bin / "srun"), "-n", "2", "sh", "-c", "echo $SLURM_PROCID", PATH=path, **slurm)
    assert sorted(passed.split()) == ["0", "1"]
    assert run(str(bin / "srun"), "-V", PATH=path, **slurm).startswith("slurm")
    assert run(str(bin / "srun"), "--version", PATH=path, **slurm).startswith("srun-unlearning")
