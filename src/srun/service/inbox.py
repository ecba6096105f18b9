"""The inbox: what requests name, taken from files or from the command line, and the entries that record it.

The rows lie in the inbox by users' keys, readable for the owner only; the ledger has pseudonyms.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from srun.data.raw import read_info
from srun.errors import ConfigError, DataError
from srun.files import read_json
from srun.names import name_fault
from srun.requests.request_file import read_request
from srun.service.book import DAY, Book, Request, now
from srun.service.keys import Keys, write_private
from srun.service.ledger import Entry, Ledger, New, canonical
from srun.service.settings import ServiceRoot

MICROSECONDS = 1_000_000
Row = tuple[str, str, str, str]
"""line, key of the user, item, time in seconds; empty where the row does not name it, UNKNOWN for an unknown user."""
UNKNOWN = "?"
"""Stands for a user that the service does not know: no key, and not everybody either."""


@dataclass(frozen=True)
class Wish:
    """A request before it is in the ledger."""

    id: str
    kind: str
    rows: tuple[Row, ...]
    tombstones: tuple[tuple[str, str, str, str], ...]
    content: str


@dataclass(frozen=True)
class Terms:
    """What holds for every request of one call."""

    received: int
    due: int
    until: int | None
    """None for a log without times."""


def read_rows(
    root: ServiceRoot, file: Path, form: str | None, columns: Mapping[str, str] | None
) -> tuple[str, pd.DataFrame]:
    """The kind of a file of requests, and its rows: text user_id and, if there, item_id; timestamp; line."""
    info = read_info(root.raw)
    table = read_request(file, form=form, columns=columns, recorded=info.get("columns"))
    if root.settings.time == "order" and "timestamp" in table:
        table = table.drop(columns="timestamp")
    return ("events" if "item_id" in table else "users"), table


def rows_of(users: Sequence[str], items: Sequence[str]) -> tuple[str, pd.DataFrame]:
    """The same of ids of the command line: whole users, or items for everybody."""
    if bool(users) == bool(items):
        raise ConfigError("name users, items or a file, and one kind of them: --user 15, --item 42 or --file F")
    column, ids = ("user_id", users) if users else ("item_id", items)
    table = pd.DataFrame({column: [one.strip() for one in ids], "line": range(1, len(ids) + 1)})
    return ("users" if users else "items"), table


def make_wishes(keys: Keys, kind: str, table: pd.DataFrame, names: Sequence[str], terms: Terms) -> list[Wish]:
    """A request for each of ``names``: one for all rows, or one a row."""
    users = keys.read_users()
    rows = _rows(table)
    groups = [rows] if len(names) == 1 else [[row] for row in rows]
    return [_wish(keys, users, name, kind, group, terms) for name, group in zip(names, groups, strict=True)]


def add(root: ServiceRoot, ledger: Ledger, keys: Keys, wishes: Sequence[Wish], terms: Terms) -> list[str]:
    """Put requests into inbox and ledger, all or none; returns the ids of those that are new.

    The same id with the same content is there already. Raises DataError for one with other content.
    """
    name = f"{secrets.token_hex(8)}.json"
    write_inbox(root.inbox / name, {wish.id: wish.rows for wish in wishes})

    def make(entries: list[Entry]) -> list[New]:
        known = Book.of(entries).requests
        changed = [wish.id for wish in wishes if wish.id in known and known[wish.id].content != wish.content]
        if changed:
            raise DataError(f'request "{changed[0]}": is in the ledger with other content; give this one another id')
        return [_received(wish, name, terms) for wish in wishes if wish.id not in known]

    made: list[Entry] = []
    try:
        made = ledger.append(make)
    finally:
        if not made:  # nobody would ever remove the file
            (root.inbox / name).unlink(missing_ok=True)
    return [entry.request for entry in made]


def read_inbox(root: ServiceRoot, requests: Sequence[Request]) -> pd.DataFrame:
    """Rows of requests: request, kind, line, user_id, item_id; time and until in seconds, -1 where there is none."""
    files: dict[str, dict[str, Any]] = {}
    rows: list[tuple[Any, ...]] = []
    for request in requests:
        if request.inbox not in files:
            mend = "restore it from a copy, or cancel its requests"
            files[request.inbox] = read_json(root.inbox / request.inbox, DataError, mend)
        until = request.tombstones[0].until if request.tombstones else None
        last = -1 if until is None else until // MICROSECONDS
        for line, user, item, time in files[request.inbox][request.id]:
            rows.append((request.id, request.kind, int(line), user, item, int(time) if time else -1, last))
    names = ["request", "kind", "line", "user_id", "item_id", "time", "until"]
    return pd.DataFrame(rows, columns=names).astype({"line": "int64", "time": "int64", "until": "int64"})


def write_inbox(path: Path, rows: Mapping[str, Sequence[Row]]) -> None:
    """Write a file of the inbox, which only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(path, json.dumps(rows, ensure_ascii=False) + "\n")


def forget_rows(root: ServiceRoot, request: Request) -> None:
    """Take the rows of a request out of the inbox."""
    path = root.inbox / request.inbox
    if not path.is_file():
        return
    left = read_json(path, DataError, "restore it from a copy")
    left.pop(request.id, None)
    if left:
        write_inbox(path, left)
    else:
        path.unlink()


def terms_of(root: ServiceRoot, due_days: float, received: int | None = None) -> Terms:
    """Terms of a call now: due in so many days, about events until it was received."""
    moment = now() if received is None else received
    until = moment if root.settings.time == "unix" else None
    return Terms(moment, moment + round(due_days * DAY), until)


def new_id() -> str:
    """A random id of a request."""
    return f"r-{secrets.token_hex(6)}"


def check_id(name: str) -> str:
    """The id, where it can be one; raises ConfigError otherwise."""
    if fault := name_fault(name, "request"):
        raise ConfigError(f'--id "{name}": {fault}')
    if name == "service" or name.startswith("batch-"):
        raise ConfigError(f'--id "{name}": the ledger keeps entries of its own under this name; choose another')
    return name


def _rows(table: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """line, raw user id, item, time of every row, as text."""
    empty = [""] * len(table)
    columns = [table[name].astype(str).tolist() if name in table else empty for name in _NAMED]
    return list(zip(table["line"].astype(str).tolist(), *columns, strict=True))


_NAMED = ("user_id", "item_id", "timestamp")


def _wish(
    keys: Keys, users: Mapping[str, str], name: str, kind: str, rows: Sequence[tuple[str, str, str, str]], terms: Terms
) -> Wish:
    until = "" if terms.until is None else str(terms.until)
    tombstones = tuple(_tombstone(keys, row, until) for row in rows)
    own = tuple((line, users.get(user, UNKNOWN) if user else "", item, time) for line, user, item, time in rows)
    content = keys.pseudonym("content", canonical([kind, [list(stone[:3]) for stone in tombstones]]))
    return Wish(name, kind, own, tombstones, content)


def _tombstone(keys: Keys, row: tuple[str, str, str, str], until: str) -> tuple[str, str, str, str]:
    _, user, item, time = row
    if not user:
        return "item", "", keys.pseudonym("item", item), until
    owner = keys.pseudonym("user", user)
    if not item:
        return "user", owner, owner, until
    if not time:
        return "pair", owner, keys.pseudonym("pair", user, item), until
    return "event", owner, keys.pseudonym("event", user, item, str(int(time) * MICROSECONDS)), until


def _received(wish: Wish, inbox: str, terms: Terms) -> New:
    body = {
        "kind": wish.kind,
        "received": str(terms.received),
        "due": str(terms.due),
        "content": wish.content,
        "inbox": inbox,
        "num_rows": str(len(wish.rows)),
        "tombstones": [list(stone) for stone in wish.tombstones],
    }
    return New(wish.id, "received", body)
