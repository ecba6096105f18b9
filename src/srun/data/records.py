"""Raw review and catalogue files with one record a line, as their publishers give them: Amazon 2014 and Steam.

A line is a JSON object or a Python literal (``{u'a': u'b'}``), which is read with ``ast.literal_eval``, never
evaluated. Fields:

- Amazon reviews: reviewerID, asin, unixReviewTime; catalogue: asin, title, categories (a list of paths from the root,
  as [["Beauty", "Hair Care", "Shampoos"]]; the root is left out, since it is the data set's own name);
- Steam reviews: username, product_id, date (YYYY-MM-DD, read as midnight UTC); games: id, title or app_name, genres.
"""

import ast
import contextlib
import gzip
import json
import logging
import re
from array import array
from calendar import timegm
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd

from srun.errors import DataError

log = logging.getLogger("srun.data")

_CONTROL = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Layout:
    """Which fields of a record are the user, the item and the time, and how its catalogue is read."""

    user: str
    item: str
    time: str
    seconds: Callable[[Any], int]
    describe: Callable[[dict[str, Any]], tuple[str, str, list[str]]]
    """A record of the catalogue -> item id, title, categories."""
    skip_nameless: bool
    """Leave out reviews without a user (counted in the log); otherwise they are an error."""


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes; gzip, which is seen from its first bytes, is unpacked on the way."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as content:
            yield cast(IO[bytes], content)


def records(file: IO[bytes], where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, record); raises DataError naming the first line that is no record."""
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, parse_record(line, f"{where}:{number}")


def parse_record(line: bytes, where: str) -> dict[str, Any]:
    """Parse one line, JSON or Python literal; raises DataError with ``where``."""
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text; expected one record a line") from error
    try:
        record = json.loads(text)
    except ValueError:
        try:
            record = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise DataError(
                f"{where}: neither a JSON object nor a Python literal ({text[:40]!r}); expected one record a line, such"
                ' as {"reviewerID": ...}'
            ) from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a record in braces, found {type(record).__name__}")
    return record


def read_reviews(file: IO[bytes], layout: Layout, where: str) -> pd.DataFrame:
    """Read reviews into user_id, item_id (categorical) and timestamp; raises DataError naming the line at fault."""
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user_codes, item_codes, times = array("i"), array("i"), array("q")
    nameless = 0
    for number, record in records(file, where):
        user, item = _id(record, layout.user, where, number), _id(record, layout.item, where, number)
        if not user and layout.skip_nameless:
            nameless += 1
            continue
        if not user or not item:
            field = layout.item if user else layout.user
            raise DataError(f'{where}:{number}: "{field}" is empty; every review needs one')
        user_codes.append(users.setdefault(user, len(users)))
        item_codes.append(items.setdefault(item, len(items)))
        times.append(_seconds(record, layout, f"{where}:{number}"))
    if nameless:
        log.warning('%s: %d reviews without "%s" left out', where, nameless, layout.user)
    return pd.DataFrame(
        {
            "user_id": pd.Categorical.from_codes(np.array(user_codes), categories=pd.Index(list(users), dtype="str")),
            "item_id": pd.Categorical.from_codes(np.array(item_codes), categories=pd.Index(list(items), dtype="str")),
            "timestamp": np.array(times, dtype=np.int64),
        }
    )


def read_catalogue(file: IO[bytes], layout: Layout, where: str) -> pd.DataFrame:
    """Read an item table: item_id, title, categories (``|``-separated); records without an id are left out."""
    rows = []
    for number, record in records(file, where):
        try:
            item, title, categories = layout.describe(record)
        except (TypeError, AttributeError, KeyError, IndexError) as error:
            raise DataError(f"{where}:{number}: not the expected fields of a catalogue ({error})") from error
        if item:
            names = dict.fromkeys(name.replace("|", "/") for name in categories)
            rows.append((_CONTROL.sub("\ufffd", item), title, "|".join(names)))
    return pd.DataFrame(rows, columns=["item_id", "title", "categories"], dtype="str")


def _id(record: dict[str, Any], field: str, where: str, number: int) -> str:
    if field not in record:
        raise DataError(f'{where}:{number}: no "{field}" in the record; found {", ".join(map(str, record))[:80]}')
    value = record[field]
    if value is None:
        return ""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(f'{where}:{number}: "{field}" is {value!r}; expected text or an integer')
    return _CONTROL.sub("\ufffd", str(value))  # a line break in a user name would break the table's lines


def _seconds(record: dict[str, Any], layout: Layout, where: str) -> int:
    if layout.time not in record:
        raise DataError(f'{where}: no "{layout.time}" in the record')
    try:
        seconds = layout.seconds(record[layout.time])
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f'{where}: "{layout.time}" is {record[layout.time]!r}; expected a time') from error
    if not 0 <= seconds < 1 << 63:
        raise DataError(f'{where}: "{layout.time}" is {seconds}; expected unix seconds, not negative')
    return seconds


@lru_cache(maxsize=1 << 14)
def _midnight(date: str) -> int:
    return timegm(datetime.strptime(date, "%Y-%m-%d").timetuple())


def _amazon_item(record: dict[str, Any]) -> tuple[str, str, list[str]]:
    paths = record.get("categories") or []
    return str(record["asin"]), str(record.get("title") or ""), [str(name) for path in paths for name in path[1:]]


def _steam_item(record: dict[str, Any]) -> tuple[str, str, list[str]]:
    title = record.get("title") or record.get("app_name") or ""
    genres = record.get("genres") or []
    if isinstance(genres, str):
        genres = [genres]
    return str(record.get("id") or ""), str(title), [str(genre) for genre in genres]


AMAZON = Layout("reviewerID", "asin", "unixReviewTime", int, _amazon_item, skip_nameless=False)
STEAM = Layout("username", "product_id", "date", _midnight, _steam_item, skip_nameless=True)
