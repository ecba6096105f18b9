"""Turns what a person names into requests of the inbox."""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from srun.data.raw import SEPARATOR, read_raw
from srun.errors import ConfigError, DataError
from srun.flow.params import load
from srun.registry import suggest
from srun.service.desk import Service
from srun.service.inbox import add, check_id, make_wishes, new_id, read_rows, rows_of, terms_of


def add_requests(
    service: Service,
    *,
    file: Path | None,
    each: bool,
    users: Sequence[str],
    items: Sequence[str],
    category: str | None,
    name: str | None,
    form: str | None,
    columns: Mapping[str, str] | None,
) -> list[str]:
    """Put one request, or one for ``each`` row, into the inbox and the ledger; returns their ids.

    Raises ConfigError where it is not clear what is meant, DataError for a file that cannot be read; then nothing is
    written.
    """
    if sum(map(bool, (file, users, items, category))) != 1:
        raise ConfigError("name what is to be forgotten in one way: --user ID, --item ID, --category NAME, or a file")
    if each and name is not None:
        raise ConfigError("--id goes with one request, and --each makes one of every row")
    kind, table = _table(service, file, users, items, category, form, columns)
    names = [new_id() for _ in range(len(table))] if each else [check_id(name) if name else new_id()]
    terms = terms_of(service.root, load(service.root.params).service.due_days)
    wishes = make_wishes(service.keys, kind, table, names, terms)
    add(service.root, service.ledger, service.keys, wishes, terms)
    return names


def _table(
    service: Service,
    file: Path | None,
    users: Sequence[str],
    items: Sequence[str],
    category: str | None,
    form: str | None,
    columns: Mapping[str, str] | None,
) -> tuple[str, pd.DataFrame]:
    if category is not None:
        return rows_of((), _items_of(service, category))
    if file is None:
        return rows_of(users, items)
    if str(file) != "-":
        return read_rows(service.root, file, form, columns)
    with tempfile.NamedTemporaryFile(suffix=".csv") as copy:
        copy.write(sys.stdin.buffer.read())
        copy.flush()
        return read_rows(service.root, Path(copy.name), form, columns)


def _items_of(service: Service, category: str) -> list[str]:
    """Ids of the items that have a category now."""
    table = read_raw(service.root.raw).items
    if table is None:
        raise DataError(f'data set "{service.root.settings.data}" has no item table, so no categories')
    names = table["categories"].str.split(SEPARATOR)
    chosen: list[str] = table.loc[names.map(lambda own: category in own), "item_id"].tolist()
    if not chosen:
        known = sorted({name for own in names for name in own if name})
        raise DataError(f'unknown category "{category}"{suggest(category, known)}; known: {", ".join(known[:30])}')
    return chosen
