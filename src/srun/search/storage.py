"""Where studies live: a database at a URL, or a journal file that stays whole whoever is killed while writing to it.

A journal has a JSON object a line. Optuna's reader keeps the place of each line it has read and stops at one that it
cannot read, so a journal is mended without moving anything: what is broken becomes blanks before the next line.
"""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srun.errors import ConfigError, RunError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy import URL, Connection

RECORD = b'{"op_code":'
"""How a line of a journal begins; within a JSON text quotes are escaped, so it stands nowhere else."""
LOCK_SECONDS = 15
"""A journal's lock of a killed worker is broken after this time."""
TABLES = 7778
"""Number of the lock that PostgreSQL keeps for those who make a study's tables."""
CONNECT_SECONDS = 5
"""A database that has not answered by then is not there."""
EXPECTED = "expected an address such as postgresql+psycopg://user@host/database, or the path of a journal file"
log = logging.getLogger(__name__)


def open_storage(place: str) -> "BaseStorage":
    """The storage at a database URL, or a journal file, which is mended now and whenever that is needed.

    Raises ConfigError for a place that can be no storage and RunError for one that cannot be used, without a password.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return _database(place) if "://" in place else _journal(Path(place))


@contextlib.contextmanager
def reaching(place: str) -> Iterator[None]:
    """Work with the storage at a place; raises RunError when it is lost meanwhile, be it a database or a journal."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise RunError(
            f'storage "{shown_place(place)}": lost ({_reason(error.__cause__ or error)}); it keeps the trials that are '
            "finished: see that it can be reached and written, then go on with the same command"
        ) from error


def shown_place(place: str) -> str:
    """A storage's address as it may be printed: no password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", place)


def retried(make: Callable[[], Any], what: str) -> Any:
    """Several workers may create tables and studies at the same moment; the losers of such a race try again."""
    from sqlalchemy.exc import SQLAlchemyError

    for attempt in range(7):
        try:
            return make()
        except SQLAlchemyError as error:
            last = error
            time.sleep(0.05 * 2**attempt * (1 + os.getpid() % 7 / 7))
    raise RunError(f"{what}: cannot be used ({_reason(last)}); see that the user may make and change tables") from last


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
        for found in re.finditer(re.escape(RECORD), line):
            with contextlib.suppress(ValueError):
                json.loads(line[found.start() :])
                return found.start() if line[: found.start()].strip(b" ") else 0
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


def _journal(path: Path) -> "BaseStorage":
    """Optuna's journal, mended when it is opened, before a line would follow half a line, and when reading fails.

    Once it is open, what the file system refuses is the error that Optuna has for a database.
    """
    from optuna.exceptions import StorageInternalError
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    class Lock(JournalFileSymlinkLock):
        def acquire(self) -> bool:
            super().acquire()
            try:
                _cut_torn_end(path)
            except BaseException:  # whatever it was, a lock that is not kept would stop all others
                self.release()
                raise
            return True

    class Backend(JournalFileBackend):
        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
            number = log_number_from
            with refused():
                try:
                    for entry in super().read_logs(number):
                        number += 1
                        yield entry
                except ValueError:  # a line in the middle: nobody has read any further
                    mend()
                    self._log_number_offset = {0: 0}
                    yield from super().read_logs(number)

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            with refused():
                super().append_logs(logs)

    @contextlib.contextmanager
    def refused() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageInternalError from error

    def mend() -> None:
        lock.acquire()  # a line that another worker is writing is not broken
        try:
            repair_journal(path)
        finally:
            lock.release()

    path = path.resolve()  # a relative one can hang on a stale lock
    try:
        if path.is_dir():
            raise ConfigError(f"storage {path}: is a folder; {EXPECTED}, such as {path / 'study.journal'}")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = Lock(str(path), grace_period=LOCK_SECONDS)
        backend = Backend(str(path), lock_obj=lock)
        mend()
        return JournalStorage(backend)
    except OSError as error:
        raise RunError(
            f"storage {path}: cannot be used as a journal ({error.strerror or error}); {EXPECTED}"
        ) from error


def _database(place: str) -> "BaseStorage":
    """The tables in a database, made if need be: in PostgreSQL by one worker while others wait."""
    from optuna.storages import RDBStorage
    from sqlalchemy import inspect, text

    shown = f'storage "{shown_place(place)}"'
    with _connection(place, shown) as connection:
        url, tables = connection.engine.url, inspect(connection)
        if tables.has_table("alembic_version") and not tables.has_table("studies"):
            raise ConfigError(f"{shown}: is there already and is no storage of a search; name another database")
        if url.get_backend_name() == "postgresql" and not tables.has_table("alembic_version"):  # the last
            connection.execute(text(f"SELECT pg_advisory_xact_lock({TABLES})"))
        asked = {"pool_pre_ping": True, "connect_args": _limit(url)}
        return retried(lambda: RDBStorage(place, engine_kwargs=asked), shown)


def _connection(place: str, shown: str) -> "Connection":
    """A connection to a database, so that a wrong address is known at once."""
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
    from sqlalchemy.pool import NullPool

    limit: dict[str, int] = {}
    try:
        url = make_url(place)
        limit = _limit(url)
        return create_engine(url, connect_args=limit, poolclass=NullPool).connect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:  # ValueError: a port that is no number
        raise ConfigError(f"{shown}: no address of a database; {EXPECTED}") from error
    except ImportError as error:
        raise ConfigError(f"{shown}: its driver is not installed ({error}); {EXPECTED}") from error
    except DBAPIError as error:
        within = f" within {CONNECT_SECONDS} s" if limit else ""
        raise RunError(
            f"{shown}: no connection{within} ({_reason(error)}); see that the server runs and that address, user and "
            "password are right, or name a journal file on a shared folder"
        ) from error


def _limit(url: "URL") -> dict[str, int]:
    """How long a driver may try to connect, where it can be told and the address does not say so itself."""
    own = url.get_backend_name() != "postgresql" or "connect_timeout" in url.query
    return {} if own else {"connect_timeout": CONNECT_SECONDS}


def _reason(error: BaseException) -> str:
    """What a database says, in one line."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
