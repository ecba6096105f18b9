"""The ledger: entries that are only appended, each with the hash of the one before. It is the truth; all else follows.

An entry is canonical JSON (RFC 8785 of texts, lists and mappings: numbers are written as texts). Its hash is over its
place, what it is about, and the hash before it, so that a changed byte shows at the entry that has it. A tail that was
cut off shows only beside an older head, such as a receipt's.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srun.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

FIRST = "0" * 64
"""What stands for the hash before the first entry."""
TABLE = "srun_ledger"
LOCK = 7779
"""Number of the lock that PostgreSQL keeps for whoever appends."""
COLUMNS = (
    "position INTEGER PRIMARY KEY, request TEXT NOT NULL, step TEXT NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL"
)
SQLITE = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} ({COLUMNS}, UNIQUE (request, step))",
    *(
        f"CREATE TRIGGER IF NOT EXISTS {TABLE}_no_{what} BEFORE {what} ON {TABLE}"
        " BEGIN SELECT RAISE(ABORT, 'the ledger is only appended to'); END"
        for what in ("UPDATE", "DELETE")
    ),
)
POSTGRESQL = (
    f"SELECT pg_advisory_xact_lock({LOCK})",
    f"CREATE TABLE IF NOT EXISTS {TABLE} ({COLUMNS}, UNIQUE (request, step))",
    f"CREATE OR REPLACE FUNCTION {TABLE}_refuse() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE EXCEPTION 'the ledger is only appended to'; END $$",
    f"CREATE OR REPLACE TRIGGER {TABLE}_only_append BEFORE UPDATE OR DELETE OR TRUNCATE ON {TABLE}"
    f" FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_refuse()",
)


@dataclass(frozen=True)
class Entry:
    """A line of the ledger."""

    position: int
    request: str
    """What it is about: a request, a batch of them, or the service itself."""
    step: str
    """What happened to it; the same never twice."""
    body: dict[str, Any]
    hash: str


@dataclass(frozen=True)
class New:
    """An entry to append."""

    request: str
    step: str
    body: dict[str, Any]


def canonical(value: Any) -> str:
    """JSON as RFC 8785 has it, of mappings, lists, texts, booleans and null; numbers are to be texts."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def entry_hash(previous: str, position: int, request: str, step: str, body: str) -> str:
    """The hash of an entry: over the one before it, its place, what it is about, and its content."""
    return hashlib.sha256("\n".join([previous, str(position), request, step, body]).encode()).hexdigest()


class Ledger:
    """Entries in a database."""

    def __init__(self, url: str) -> None:
        """Open the ledger at an address, or make it. Raises ConfigError for a wrong one, RunError if it is away."""
        self.url, self.shown = url, _shown(url)
        self._engine = _engine(url)
        with self._reaching(), self._engine.begin() as connection:
            from sqlalchemy import text

            for statement in SQLITE if self._is_sqlite else POSTGRESQL:
                connection.execute(text(statement))
        if self._is_sqlite and self._engine.url.database:
            Path(self._engine.url.database).chmod(0o600)

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.url.get_backend_name() == "sqlite"

    def entries(self, start: int = 1) -> list[Entry]:
        """Every entry from a position on, in order. Raises DataError for one whose content is no JSON."""
        return [_entry(*row) for row in self._rows(start)]

    def append(self, make: Callable[[list[Entry]], Sequence[New]], known: int = 0) -> list[Entry]:
        """Append what ``make`` gives for the entries after position ``known``, while nobody else appends.

        So a decision is taken on what the ledger says at that moment, and stands in it or nothing does.
        """
        from sqlalchemy import text

        with self._reaching(), self._engine.connect() as connection:
            self._begin(connection)
            rows = connection.execute(text(_SELECT), {"start": known + 1}).all()
            new = make([_entry(*row) for row in rows])
            made = self._insert(connection, new)
            connection.commit()
        return made

    def verify(self) -> "Head":
        """Check every entry; returns the head. Raises DataError that names the first altered one."""
        previous, place = FIRST, 0
        for position, request, step, body, own in self._rows(1):
            place += 1
            if position != place:
                raise DataError(f"ledger {self.shown}: entry {place} is missing; nothing after it can be trusted")
            if not all(isinstance(value, str) for value in (request, step, body, own)) or own != entry_hash(
                previous, position, request, step, body
            ):
                raise DataError(
                    f"ledger {self.shown}: entry {position} was altered (its hash is not that of its content and of the"
                    " entry before it); restore a copy, and find out who wrote to it"
                )
            previous = own
        return Head(place, previous)

    def head(self) -> "Head":
        """The last position and its hash, unverified."""
        from sqlalchemy import text

        with self._reaching(), self._engine.connect() as connection:
            return _head(connection.execute(text(_LAST)).first())

    def _rows(self, start: int) -> Iterator[tuple[Any, ...]]:
        from sqlalchemy import text

        with self._reaching(), self._engine.connect() as connection:
            for row in connection.execute(text(_SELECT), {"start": start}):
                yield tuple(row)

    def _begin(self, connection: "Connection") -> None:
        from sqlalchemy import text

        connection.execute(text("BEGIN IMMEDIATE" if self._is_sqlite else f"SELECT pg_advisory_xact_lock({LOCK})"))

    def _insert(self, connection: "Connection", new: Sequence[New]) -> list[Entry]:
        from sqlalchemy import text

        head = _head(connection.execute(text(_LAST)).first())
        rows, made, previous = [], [], head.hash
        for position, one in enumerate(new, start=head.position + 1):
            body = canonical(one.body)
            previous = entry_hash(previous, position, one.request, one.step, body)
            rows.append(
                {"position": position, "request": one.request, "step": one.step, "body": body, "hash": previous}
            )
            made.append(Entry(position, one.request, one.step, one.body, previous))
        if rows:
            connection.execute(text(_INSERT), rows)
        return made

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        from sqlalchemy.exc import IntegrityError, SQLAlchemyError

        try:
            yield
        except IntegrityError as error:
            raise RunError(f"ledger {self.shown}: another process was faster; give the same command again") from error
        except SQLAlchemyError as error:
            raise RunError(
                f"ledger {self.shown}: cannot be used ({_reason(error)}); see that it can be reached and written, then"
                " give the same command again"
            ) from error


@dataclass(frozen=True)
class Head:
    """The end of a ledger."""

    position: int
    hash: str


_SELECT = f"SELECT position, request, step, body, hash FROM {TABLE} WHERE position >= :start ORDER BY position"
_LAST = f"SELECT position, hash FROM {TABLE} ORDER BY position DESC LIMIT 1"
_INSERT = f"INSERT INTO {TABLE} (position, request, step, body, hash) VALUES (:position, :request, :step, :body, :hash)"


def _head(row: Any) -> Head:
    return Head(0, FIRST) if row is None else Head(int(row[0]), str(row[1]))


def _entry(position: int, request: str, step: str, body: str, own: str) -> Entry:
    try:
        return Entry(position, request, step, json.loads(body), own)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"ledger: entry {position} was altered (no JSON any more); `srun requests verify` says more"
        ) from error


def _engine(url: str) -> "Engine":
    """The database at an address; transactions begin where the code says so."""
    from sqlalchemy import create_engine, event, make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    from sqlalchemy.pool import NullPool

    expected = "expected an address such as postgresql+psycopg://user@host/database"
    try:
        address = make_url(url)
        if address.get_backend_name() not in ("sqlite", "postgresql"):
            raise ConfigError(f'ledger "{_shown(url)}": no SQLite and no PostgreSQL; {expected}')
        if address.drivername == "postgresql":
            address = address.set(drivername="postgresql+psycopg")
        limit = {"timeout": 30} if address.get_backend_name() == "sqlite" else {"connect_timeout": 5}
        engine = create_engine(address, connect_args=limit, poolclass=NullPool)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ConfigError(f'ledger "{_shown(url)}": no address of a database; {expected}') from error
    except ImportError as error:
        raise ConfigError(
            f'ledger "{_shown(url)}": its driver is not installed; run `pip install "psycopg[binary]"`'
        ) from error
    if address.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _begin_ourselves)
    return engine


def _begin_ourselves(connection: Any, record: object) -> None:
    """Keep Python's sqlite3 from opening transactions, so that BEGIN IMMEDIATE is the one there is."""
    connection.isolation_level = None


def _shown(url: str) -> str:
    """An address as it may be printed: no password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def _reason(error: BaseException) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
