"""Logs of a search's workers: kept of those that died, removed of others, a killed search's by the next one."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from srun.search import workers
from srun.search.workers import run_workers

SEARCH = """
import sys
from pathlib import Path
from srun.search import workers
workers.CODE = "import sys, time; sys.stderr.write('working\\\\n'); sys.stderr.flush(); time.sleep(3)"
workers.run_workers([], 2, Path(sys.argv[1]))
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_logs_of_a_killed_search_go_with_the_next_once_its_workers_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = subprocess.Popen([sys.executable, "-c", SEARCH, str(tmp_path / "old")], stderr=subprocess.PIPE)
    assert search.stderr is not None
    search.stderr.readline()  # a worker works
    search.send_signal(signal.SIGKILL)
    search.wait()
    search.stderr.close()
    left = ["old-worker-1.log.new", "old-worker-2.log.new"]
    assert names(tmp_path) == left
    monkeypatch.setattr(workers, "CODE", "pass")
    assert run_workers([], 2, tmp_path / "new") == []
    assert names(tmp_path) == left, "workers that live still write them"
    time.sleep(4)
    assert run_workers([], 2, tmp_path / "new") == []
    assert names(tmp_path) == []


def test_the_log_of_a_worker_that_died_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "CODE", "import os; os.environ['SRUN_WORKER'] == '1' and os._exit(3)")
    assert run_workers([], 2, tmp_path / "a") == [f"ended with exit code 3, see {tmp_path / 'a-worker-1.log'}"]
    monkeypatch.setattr(workers, "CODE", "pass")
    run_workers([], 1, tmp_path / "b")
    assert names(tmp_path) == ["a-worker-1.log"]
