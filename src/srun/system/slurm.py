"""The name `srun` is Slurm's too: what is not ours goes to Slurm's srun, as if we were not there.

In an allocation of several tasks `srun optimize ...` is Slurm's to start: one worker a task.
"""

import os
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from srun.errors import RunError

MARK = "SRUN_HANDED_OVER_BY"
INTERACTIVE_STEP = "4294967290"
"""The step in which `salloc` runs a shell: not one that started tasks."""


def hand_over(argv: Sequence[str], own: Collection[str]) -> None:
    """Replace this process by Slurm's srun where it is meant; else return. ``own``: the names of our commands.

    Exit code, standard input and signals are Slurm's from then on, as the process is the same. Only a program called
    `srun` hands over; its twin `srunlearn` is always ours. Raises RunError when a handed-over call comes back.
    """
    if Path(argv[0]).name != "srun":
        return
    to_own_tasks = is_search(argv[1:]) and starts_tasks(os.environ)
    if is_own(argv[1:], own) and not to_own_tasks:
        return
    theirs = find_theirs(argv[0], os.environ)
    if theirs is None:
        return
    if os.environ.get(MARK) == str(os.getpid()):  # exec keeps the pid, and tasks that Slurm starts have others
        raise RunError(f"{theirs} leads back here instead of to Slurm's srun; take it off PATH, or call srunlearn")
    words = argv[1:]
    if to_own_tasks:
        beside = Path(argv[0]).with_name("optimize")
        words = [str(beside) if beside.is_file() else "optimize", *argv[2:]]
    sys.stdout.flush()
    os.execve(theirs, ["srun", *words], {**os.environ, MARK: str(os.getpid())})


def is_own(words: Sequence[str], own: Collection[str]) -> bool:
    """Whether a command line is ours: one of our commands, a call for help or for the version, or nothing."""
    return not words or words[0] in own or words[0] in ("--help", "-h", "--version")


def is_search(words: Sequence[str]) -> bool:
    """Whether a command line searches, and does not look at a search or ask for help."""
    looks = words[1:2] in (["show"], ["apply"]) or {"--help", "-h"} & set(words[1:])
    return words[:1] == ["optimize"] and not looks


def starts_tasks(environ: Mapping[str, str]) -> bool:
    """Whether this is an allocation of more than one task, outside a step."""
    tasks = environ.get("SLURM_NTASKS", "1")
    inside = environ.get("SLURM_STEP_ID", INTERACTIVE_STEP) != INTERACTIVE_STEP
    return "SLURM_JOB_ID" in environ and tasks.isdigit() and int(tasks) > 1 and not inside


def find_theirs(argv0: str, environ: Mapping[str, str]) -> str | None:
    """Slurm's srun: the first on PATH that does not lead back here; None where there is no Slurm.

    Slurm is told by `sbatch` or a job's id, since an `srun` alone may be ours of another environment.
    """
    path = environ.get("PATH", os.defpath)
    if "SLURM_JOB_ID" not in environ and shutil.which("sbatch", path=path) is None:
        return None
    own = os.path.realpath(shutil.which(argv0, path=path) or argv0)
    for folder in path.split(os.pathsep):
        program = os.path.join(folder or os.curdir, "srun")
        if os.access(program, os.X_OK) and os.path.isfile(program) and not _is_ours(program, own):
            return program
    return None


def worker(environ: Mapping[str, str]) -> int:
    """Number of this worker among those that were started together: by us, as tasks or as an array; 0 leads."""
    first = int(environ.get("SLURM_ARRAY_TASK_MIN", "0"))
    array = int(environ.get("SLURM_ARRAY_TASK_ID", first)) - first
    return int(environ.get("SRUN_WORKER", 0)) + int(environ.get("SLURM_PROCID", 0)) + array


def _is_ours(path: str, own: str) -> bool:
    """Whether a program is this one, or a console script of another installation; one that cannot be read is not."""
    if os.path.realpath(path) == own:
        return True
    try:
        with open(path, "rb") as file:
            return b"srun.cli" in file.read(2048)
    except OSError:
        return False
