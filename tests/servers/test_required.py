"""Servers that tests need are not missing in silence where they must be: in .ci/run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("required", "outcome"), [("required", pytest.fail.Exception), (None, pytest.skip.Exception)])
def test_a_missing_server_skips_a_test_unless_servers_are_required(small, monkeypatch, required, outcome):
    monkeypatch.delenv("SRUN_TEST_SERVERS", raising=False)
    if required:
        monkeypatch.setenv("SRUN_TEST_SERVERS", required)
    with pytest.raises(outcome, match="no Slurm"):
        small.no_server("no Slurm")


@pytest.mark.parametrize("there", [True, False])
def test_ci_fails_where_servers_cannot_be_installed(tmp_path, there):
    """With stand-ins for what it calls; `make` says what it was called with."""
    stubs = {"apt-get": "exit 100", "make": 'echo "made $1 $SRUN_TEST_SERVERS"', "git": "exit 0"}
    if there:
        stubs |= {name: "exit 0" for name in ("slurmctld", "slurmd", "munged", "ls")}
    for name, text in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    command = [str(ROOT / ".ci/run")]
    done = subprocess.run(command, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True)
    if there:
        assert done.returncode == 0, done.stderr
        assert "made test required" in done.stdout
    else:
        assert done.returncode == 1
        assert "could not be installed" in done.stderr
        assert "made" not in done.stdout
