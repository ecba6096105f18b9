"""Where studies live: a database at a URL, or a journal file."""

import contextlib
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

TABLES = 7778
"""Number of the lock that PostgreSQL keeps for those who make a study's tables."""
CONNECT_SECONDS = 5
"""A database that has not answered by then is not there."""
EXPECTED = "expected an address such as postgresql+psycopg://user@host/database, or the path of a journal file"


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


def retried(make: Callable[[], Any], place: str) -> Any:
    """Several workers may create tables and studies at the same moment; the losers of such a race try again."""
    from sqlalchemy.exc import SQLAlchemyError

    for attempt in range(7):
        try:
            return make()
        except SQLAlchemyError as error:
            last = error
            time.sleep(0.05 * 2**attempt * (1 + os.getpid() % 7 / 7))
    raise RunError(f"{place}: cannot be used ({_reason(last)}); see that the user may make and change tables") from last


def _journal(path: Path) -> "BaseStorage":
    """The journal in a file, made if need be; what cannot be used is told."""
    from srun.search.journal import open_journal

    path = path.resolve()  # a relative one can hang on a stale lock
    try:
        if path.is_dir():
            raise ConfigError(f"storage {path}: is a folder; {EXPECTED}, such as {path / 'study.journal'}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return open_journal(path)
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
        engine = {"pool_pre_ping": True, "connect_args": _limit(url)}
        return retried(lambda: RDBStorage(place, engine_kwargs=engine), shown)


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
