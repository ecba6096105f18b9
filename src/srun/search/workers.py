"""Workers of a search on this machine: processes that run one command, and what becomes of them."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from srun.errors import RunError
from srun.files import claimed

LOOK_SECONDS = 0.2
"""Between two looks at what the workers say."""
STOPPED = (130, 143)
"""Exit codes of a worker that Ctrl-C or SIGTERM ended."""
RUNNING = ".new"
"""Ends the name of a log while its worker runs: what a killed search leaves is told from what is kept to be read."""
CODE = "from srun.cli import cli; import sys; cli(sys.argv[1:], prog_name='srun')"


def run_workers(words: Sequence[str], number: int, logs: Path) -> list[str]:
    """Run a command of ours in so many processes, one worker each, until all have ended; Ctrl-C ends them.

    What they say goes to standard error as they say it, and to a file of each, named ``logs`` and its number. Returns a
    text for each worker that died, which names its file; the files of the others are removed, and so are those that a
    killed search left, once its workers have ended too.
    """
    files = [logs.with_name(f"{logs.name}-worker-{index + 1}.log{RUNNING}") for index in range(number)]
    processes: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as opened:
        try:
            logs.parent.mkdir(parents=True, exist_ok=True)
            _remove_left(logs.parent)
            written = [opened.enter_context(open(file, "wb")) for file in files]
            shown = [opened.enter_context(open(file, "rb")) for file in files]
            for log in written:
                fcntl.flock(log, fcntl.LOCK_EX)  # for as long as this process or the worker has it open
        except OSError as error:
            raise RunError(f"{logs.parent}: cannot be written ({error.strerror or error})") from error
        try:
            for index, file in enumerate(written):
                processes.append(_start([*words, "--workers", "1"], index + 1, file))
            while any(process.poll() is None for process in processes):
                time.sleep(LOOK_SECONDS)
                _show(shown)
        except KeyboardInterrupt:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
            raise
        finally:
            _show(shown)
            for file_, process in zip(files, processes, strict=False):
                if process.returncode in (0, *STOPPED):
                    file_.unlink()
                else:
                    file_.rename(_kept(file_))
    ends = zip(processes, map(_kept, files), strict=True)
    return [f"{_end(process.returncode)}, see {file}" for process, file in ends if process.returncode]


def _kept(file: Path) -> Path:
    """What the log of a worker that died is called."""
    return file.with_name(file.name.removesuffix(RUNNING))


def _remove_left(folder: Path) -> None:
    for file in folder.glob(f"*-worker-*.log{RUNNING}"):
        with claimed(file) as handle:
            if handle is not None:
                file.unlink()


def _start(words: Sequence[str], number: int, said: BinaryIO) -> "subprocess.Popen[bytes]":
    """Its words go to a file and not to a pipe, which would break in it should this process be killed."""
    environment = {**os.environ, "SRUN_WORKER": str(number)}
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *words], stdout=subprocess.DEVNULL, stderr=said, env=environment
    )


def _show(files: Sequence[BinaryIO]) -> None:
    for file in files:
        sys.stderr.write(file.read().decode(errors="replace"))
    sys.stderr.flush()


def _end(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
