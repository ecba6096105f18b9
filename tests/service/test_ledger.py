"""The ledger: only appended to, chained by hashes, and an altered entry is named."""

import sqlite3
import time
from contextlib import closing

import pytest

from srun.errors import ConfigError, DataError, RunError
from srun.service.ledger import Ledger, New, canonical


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.append(lambda entries: [New(f"r-{number}", "received", {"at": str(number)}) for number in range(5)])
    ledger.append(lambda entries: [New("r-0", "cancelled", {"reason": "ö"})])
    return ledger


def alter(ledger, statement, *values):
    with closing(sqlite3.connect(ledger.url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        for what in ("UPDATE", "DELETE"):
            connection.execute(f"DROP TRIGGER IF EXISTS srun_ledger_no_{what}")
        connection.execute(statement, values)


def test_entries_come_back_in_order(ledger):
    entries = ledger.entries()
    assert [entry.position for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert entries[-1].body == {"reason": "ö"}
    assert ledger.verify() == ledger.head()


@pytest.mark.parametrize("column", ["request", "step", "body", "hash"])
@pytest.mark.parametrize("position", [1, 3, 6])
def test_any_altered_byte_is_named(ledger, column, position):
    [(value,)] = [(getattr(entry, column),) for entry in ledger.entries() if entry.position == position]
    text = canonical(value) if column == "body" else value
    for place in range(0, len(text), 7):
        other = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        alter(ledger, f"UPDATE srun_ledger SET {column} = ? WHERE position = ?", other, position)
        with pytest.raises(DataError, match=f"entry {position} was altered"):
            ledger.verify()
        alter(ledger, f"UPDATE srun_ledger SET {column} = ? WHERE position = ?", text, position)
    ledger.verify()


def test_a_missing_entry_is_named(ledger):
    alter(ledger, "DELETE FROM srun_ledger WHERE position = 2")
    with pytest.raises(DataError, match="entry 2 is missing"):
        ledger.verify()


def test_the_database_refuses_changes(ledger):
    with closing(sqlite3.connect(ledger.url.removeprefix("sqlite:///"))) as connection:
        for statement in ("UPDATE srun_ledger SET body = '{}'", "DELETE FROM srun_ledger"):
            with pytest.raises(sqlite3.IntegrityError, match="only appended"):
                connection.execute(statement)


def test_the_same_step_never_twice(ledger):
    with pytest.raises(RunError, match="another process was faster"):
        ledger.append(lambda entries: [New("r-0", "cancelled", {})])
    assert len(ledger.entries()) == 6


def test_what_fails_in_between_leaves_nothing(ledger):
    def make(entries):
        raise RunError("no")

    with pytest.raises(RunError, match="no"):
        ledger.append(make)
    ledger.append(lambda entries: [New("r-9", "received", {})])  # the lock is free again
    assert ledger.verify().position == 7


def test_an_address_that_is_none_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no SQLite and no PostgreSQL"):
        Ledger("mysql://root@localhost/x")
    with pytest.raises(RunError, match=r"postgresql://u:\*\*\*@127.0.0.1:1/x: cannot be used"):
        Ledger("postgresql://u:secret@127.0.0.1:1/x")


def test_ten_thousand_entries_take_seconds(ledger):
    began = time.process_time()
    ledger.append(lambda entries: [New(f"many-{number}", "received", {"at": "0"}) for number in range(10_000)])
    assert time.process_time() - began < 10
    assert ledger.verify().position == 10_006


@pytest.mark.postgres
def test_postgresql_does_the_same(postgres):
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    ledger = Ledger(postgres)
    ledger.append(lambda entries: [New("r", "received", {"at": "1"})])
    assert Ledger(postgres).verify().position == 1
    with pytest.raises(RunError, match="faster"):
        ledger.append(lambda entries: [New("r", "received", {"at": "1"})])
    engine = create_engine(postgres, poolclass=NullPool)
    for statement in ("UPDATE srun_ledger SET body = '{}'", "DELETE FROM srun_ledger", "TRUNCATE srun_ledger"):
        with engine.connect() as connection, pytest.raises(DBAPIError, match="only appended"):
            connection.execute(text(statement))
