"""Raw review and catalogue files with one record a line, as their publishers give them: Amazon 2014 and Steam.

A line is a JSON object or a Python literal (``{u'a': u'b'}``), which is read with ``ast.literal_eval``, never
evaluated. Fields:

- Amazon reviews: reviewerID, asin, unixReviewTime; catalogue: asin, title, categories (a list of paths from the root,
  as [["Beauty", "Hair Care", "Shampoos"]]; the root is left out, since it is the data set's own name); times as
  numbers, read as those of an import are (``times``);
- Steam reviews: username, product_id, date (YYYY-MM-DD, read as midnight UTC); games: id, title or app_name, genres.
"""

import ast
import json
import logging
import re
from array import array
from calendar import timegm
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import IO, Any

import numpy as np
import pandas as pd

from srun.data.times import END, exact, exact_decimal, in_seconds, log_times
from srun.data.values import BROKEN, FaultError, is_missing, shown
from srun.errors import DataError

log = logging.getLogger("srun.data")

_SURROGATE = re.compile("[\ud800-\udfff]")  # alone it is no character, and no UTF-8
_DIGITS = 1000  # of an id; text of integers is not made beyond some thousands


@dataclass(frozen=True)
class Layout:
    """Which fields of a record are the user, the item and the time, and how its catalogue is read."""

    user: str
    item: str
    time: str
    exact: Callable[[Any], tuple[int, int] | None]
    """A time -> (whole part, billionths) in the unit that it is given in; None if it is no time."""
    describe: Callable[[dict[str, Any]], tuple[str, str, list[str]]]
    """A record of the catalogue -> item id, title, categories."""
    skip_nameless: bool
    """Leave out reviews without a user (counted in the log); otherwise they are an error."""


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
        record = _literal(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise DataError(
            f"{where}: neither a JSON object nor a Python literal ({shown(text)}); expected one record a line, such"
            ' as {"reviewerID": ...}'
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a record in braces, found {type(record).__name__}")
    return record


def _literal(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)  # all digits of a time
    except ValueError:
        return ast.literal_eval(text)


def read_reviews(file: IO[bytes], layout: Layout, where: str) -> pd.DataFrame:
    """Read reviews into user_id, item_id (categorical) and timestamp; raises DataError naming the line at fault."""
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user_codes, item_codes, lines = array("i"), array("i"), array("q")
    whole, part = array("q"), array("q")
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
        seconds, billionths = _time(record, layout, f"{where}:{number}")
        whole.append(seconds)
        part.append(billionths)
        lines.append(number)
    if nameless:
        log.warning('%s: %d reviews without "%s" left out', where, nameless, layout.user)
    if broken := sum("\ufffd" in text for text in (*users, *items)):
        log.warning("%s: %d ids hold characters that no text may hold; U+FFFD stands for them", where, broken)
    table = {
        "user_id": pd.Categorical.from_codes(np.array(user_codes), categories=pd.Index(list(users), dtype="str")),
        "item_id": pd.Categorical.from_codes(np.array(item_codes), categories=pd.Index(list(items), dtype="str")),
        **_time_columns(np.array(whole, dtype=np.int64), np.array(part, dtype=np.int64), lines, layout, where),
    }
    return pd.DataFrame({**table, "line": np.array(lines, dtype=np.int64)})


def _time_columns(
    whole: np.ndarray, part: np.ndarray, lines: "array[int]", layout: Layout, where: str
) -> dict[str, np.ndarray]:
    if len(whole) == 0:
        return {"timestamp": whole}
    try:
        times = in_seconds(whole, part)
    except FaultError as fault:
        raise DataError(f'{where}:{lines[fault.row]}, "{layout.time}": {fault}') from fault
    log_times(where, times)
    if times.nanoseconds is None:
        return {"timestamp": times.seconds}
    return {"timestamp": times.seconds, "nanosecond": times.nanoseconds}


def read_catalogue(file: IO[bytes], layout: Layout, where: str) -> pd.DataFrame:
    """Read an item table: item_id, title, categories (``|``-separated); records without an id are left out."""
    rows = []
    for number, record in records(file, where):
        try:
            item, title, categories = layout.describe(record)
        except (TypeError, AttributeError, KeyError, IndexError, ValueError) as error:
            raise DataError(f"{where}:{number}: not the expected fields of a catalogue ({error})") from error
        if not is_missing(item):
            names = dict.fromkeys(name.replace("|", "/") for name in categories)
            rows.append((_clean(item), _whole(title), _whole("|".join(names))))
    return pd.DataFrame(rows, columns=["item_id", "title", "categories"], dtype="str")


def _id(record: dict[str, Any], field: str, where: str, number: int) -> str:
    if field not in record:
        raise DataError(f'{where}:{number}: no "{field}" in the record; found {", ".join(map(str, record))[:80]}')
    value = record[field]
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**_DIGITS:
        return str(value)
    if not isinstance(value, str):
        raise DataError(f'{where}:{number}: "{field}" is {_brief(value)}; expected text or an integer')
    return "" if is_missing(value) else _clean(value)


def _clean(text: str) -> str:
    """Return trimmed text without what would break a table's lines or is no character: U+FFFD instead."""
    return re.sub(BROKEN, "\ufffd", _whole(text.strip()))


def _whole(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def _brief(value: Any) -> str:
    return "a large integer" if isinstance(value, int) and abs(value) >= 10**_DIGITS else shown(repr(value))


def _time(record: dict[str, Any], layout: Layout, where: str) -> tuple[int, int]:
    if layout.time not in record:
        raise DataError(f'{where}: no "{layout.time}" in the record')
    time = layout.exact(record[layout.time])
    if time is None:
        raise DataError(f'{where}: "{layout.time}" is {_brief(record[layout.time])}; expected a time, not negative')
    return time


def _number(value: Any) -> tuple[int, int] | None:
    """Return a time given as a number, or as text of one."""
    if isinstance(value, str):
        return exact(value.strip())
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return exact_decimal(Decimal(value))
    return None


def _day(value: Any) -> tuple[int, int] | None:
    """Return a time given as YYYY-MM-DD."""
    try:
        seconds = _midnight(value)
    except (TypeError, ValueError):
        return None
    return (seconds, 0) if 0 <= seconds < END else None


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


AMAZON = Layout("reviewerID", "asin", "unixReviewTime", _number, _amazon_item, skip_nameless=False)
STEAM = Layout("username", "product_id", "date", _day, _steam_item, skip_nameless=True)
