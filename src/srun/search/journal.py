"""Optuna's journal of a study, which stays whole whoever is killed while writing to it.

A journal has a JSON object a line. Optuna's reader keeps the place of each line it has read and stops at one that it
cannot read, so a journal is mended without moving anything: what is broken becomes blanks before the next line.
"""

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from srun.errors import ConfigError, one_line

RECORD = b'{"op_code":'
"""How a line of a journal begins; within a JSON text quotes are escaped, so it stands nowhere else."""
LOCK_SECONDS = 15
"""A journal's lock of a killed worker is broken after this time."""
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What is raised where a record lacks something or holds something else."""
log = logging.getLogger(__name__)


def said(error: BaseException) -> str:
    """An error of a record that is damaged, in a few words."""
    return one_line(f"{type(error).__name__}: {error}", 100)


def open_journal(path: Path) -> JournalStorage:
    """The journal in a file, mended when it is opened, before a line would follow half a line, and when reading fails.

    Raises OSError where the file cannot be used now; later, the error that Optuna has for a database.
    """
    lock = _Lock(path)
    backend = _Backend(path, lock)
    backend.mend()
    return _Storage(backend, path)


class _Storage(JournalStorage):  # type: ignore[misc]  # optuna is not type-checked here
    """Optuna's storage; a whole line that no search wrote is told of as damage."""

    def __init__(self, backend: "_Backend", path: Path) -> None:
        self._path = path
        super().__init__(backend)

    def _sync_with_backend(self) -> None:
        try:
            super()._sync_with_backend()
        except (*DAMAGE, AssertionError) as error:
            raise ConfigError(
                f"storage {self._path}: damaged, it holds what no search wrote ({said(error)}); restore a copy of it,"
                " or name another file"
            ) from error


class _Lock(JournalFileSymlinkLock):  # type: ignore[misc]  # optuna is not type-checked here
    """Optuna's lock; whoever gets it finds a journal whose last line has an end."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), grace_period=LOCK_SECONDS)
        self._path = path

    def acquire(self) -> bool:
        super().acquire()
        try:
            _cut_torn_end(self._path)
        except BaseException:  # whatever it was, a lock that is not kept would stop all others
            self.release()
            raise
        return True


class _Backend(JournalFileBackend):  # type: ignore[misc]  # optuna is not type-checked here
    """Optuna's reader and writer; a line that it cannot read is mended, and it goes on from there."""

    def __init__(self, path: Path, lock: _Lock) -> None:
        super().__init__(str(path), lock_obj=lock)
        self._path, self._own_lock = path, lock

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        number = log_number_from
        with _refused():
            try:
                for entry in super().read_logs(number):
                    number += 1
                    yield entry
            except ValueError:  # a line in the middle: nobody has read any further
                self.mend()
                self._log_number_offset = {0: 0}
                yield from super().read_logs(number)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with _refused():
            super().append_logs(logs)

    def mend(self) -> None:
        self._own_lock.acquire()  # a line that another worker is writing is not broken
        try:
            repair_journal(self._path)
        finally:
            self._own_lock.release()


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """What the file system refuses is the error that Optuna has for a database."""
    try:
        yield
    except OSError as error:
        raise StorageInternalError from error


def repair_journal(path: Path) -> int:
    """Take out of a journal what a crash or a full disk left of a line; returns how many bytes of it went.

    Within the journal they become blanks; at its end they are cut off. What another worker wrote behind half a line is
    kept. The caller holds the journal's lock. Raises ConfigError, and touches nothing, for a file that is no journal.
    """
    data = path.read_bytes()
    _check_begin(path, data)
    end, blanks = 0, []
    for line in re.finditer(rb"[^\n]*\n|[^\n]+", data):
        broken = _broken(line.group())
        if broken:
            blanks.append((line.start(), broken))
        if broken < len(line.group()):
            end = line.end()
    if not blanks:
        return 0
    with open(path, "r+b") as file:
        for start, length in blanks:
            file.seek(start)
            file.write(b" " * length)
        file.truncate(end)
        file.flush()
        os.fsync(file.fileno())
    lost = sum(len(data[start : start + length].strip()) for start, length in blanks)
    log.warning("%s: mended; %d bytes of incomplete lines are gone", path, lost)
    return lost


def _broken(line: bytes) -> int:
    """How many bytes at a line's begin are no part of a whole record; all, its end included, where there is none."""
    if line.endswith(b"\n"):
        for begin in re.finditer(re.escape(RECORD), line):
            with contextlib.suppress(ValueError):
                json.loads(line[begin.start() :])
                return begin.start() if line[: begin.start()].strip(b" ") else 0
    return len(line)


def _check_begin(path: Path, data: bytes) -> None:
    begin = data.lstrip(b" ")[: len(RECORD)]
    if begin != RECORD[: len(begin)]:
        raise ConfigError(f"storage {path}: is there already and is no journal of a search; name another file")


def _cut_torn_end(path: Path) -> None:
    """Cut off a last line without an end: before the next line is written behind it."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.seek(0)
                data = file.read()
                _check_begin(path, data)
                file.truncate(data.rfind(b"\n") + 1)
                log.warning("%s: cut off an incomplete last line of a worker that was killed", path)
