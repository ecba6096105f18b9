"""Finds the user, item and time columns of a file: by their names in the header, by a mapping, or by number."""

import csv
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from srun.data.times import Times, log_times, read_times
from srun.data.values import FaultError, read_ids, shown
from srun.errors import DataError
from srun.registry import suggest

log = logging.getLogger("srun.data")

COLUMNS = ("user", "item", "time")
ITEM_COLUMNS = ("item", "title", "categories")
NO_TIME = "none"
"""As the column of time: there is none, line order is time."""
DELIMITERS = {"csv": ",", "tsv": "\t", "semicolons": ";"}

KNOWN_NAMES = {
    "user": ("userid", "user", "uid", "reviewerid", "username", "customerid", "customer", "visitorid", "sessionid"),
    "item": ("itemid", "item", "iid", "movieid", "asin", "productid", "product", "sku", "trackid", "songid", "bookid"),
    "time": ("timestamp", "time", "unixtime", "unixreviewtime", "ts", "datetime", "date", "eventtime", "createdat"),
    "title": ("title", "name", "itemtitle", "itemname", "movietitle", "producttitle", "productname", "appname"),
    "categories": ("categories", "category", "genres", "genre", "attributes", "tags", "class"),
}
"""Header names that are understood without a mapping: lower case, letters and digits only, what follows ":" cut off."""


@dataclass(frozen=True)
class Wanted:
    """Which columns are looked for, under which names."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Key -> name in the header, or number from 1 in a file without one."""
    recorded: Mapping[str, str] = field(default_factory=dict)
    """Names that the data set was imported with; they count where the header has them."""
    request: bool = False
    """Whether users alone are enough: a request may name them without items, and items without times."""
    option: str = "--columns"

    @property
    def keys(self) -> tuple[str, ...]:
        return ITEM_COLUMNS if self.option == "--item-columns" else COLUMNS

    @property
    def needed(self) -> tuple[str, ...]:
        if self.option == "--item-columns":
            return ("item",)
        return ("user",) if self.request else ("user", "item")

    @property
    def named(self) -> dict[str, str]:
        return {key: value for key, value in self.columns.items() if not (key == "time" and self.without_time)}

    @property
    def without_time(self) -> bool:
        return self.columns.get("time", "").lower() == NO_TIME

    def by_number(self, header: list[str]) -> bool:
        """Whether the mapping's values are numbers of columns, since none of them is a name."""
        names = set(self.named.values())
        return bool(names) and all(n.isascii() and n.isdigit() for n in names) and not names <= set(header)

    def fits(self, header: list[str]) -> bool:
        """Whether all that must be there is found in a header, or among its columns if they are numbered."""
        if self.by_number(header):
            return all(1 <= int(number) <= len(header) for number in self.named.values())
        known = {*known_columns(header), *self.mapping(header)}
        return set(self.needed) <= known and set(self.named.values()) <= set(header)

    def mapping(self, header: list[str]) -> dict[str, str]:
        """The names to look for: those given, and those recorded that the header has."""
        recorded = {key: name for key, name in self.recorded.items() if name in header and key not in self.columns}
        return {**recorded, **self.named}


@dataclass(frozen=True)
class Content:
    """The columns of a file in file order, before ids and times are judged."""

    columns: dict[str, pa.ChunkedArray]
    """user and item: dictionary-encoded text. time: text, or a type that Parquet has for times. No nulls."""
    place: Callable[[int, str], str]
    """(row from 0, key) -> where that value stands, for messages."""
    lines: Callable[[], np.ndarray]
    """() -> line in the file of each row, from 1; in Parquet the row."""
    names: dict[str, str] | None = None
    """Key -> name in the header, where there is one."""


def check_keys(mapping: Mapping[str, str] | None, known: tuple[str, ...], option: str) -> None:
    """Raise DataError for a key of a mapping that is not known."""
    for key in mapping or {}:
        if key not in known:
            raise DataError(f'{option}: unknown key "{key}"; expected {", ".join(known)}{suggest(key, list(known))}')


def read_columns(path: Path, content: Content) -> pd.DataFrame:
    """Return user_id, item_id (categorical), timestamp and nanosecond (int64), as far as the file has them.

    nanosecond is there only if a time has a fraction of a second. Raises DataError for the first row with a fault.
    """
    table: dict[str, pd.Series] = {}
    faults = []
    for key, column in content.columns.items():
        try:
            if key == "time":
                times = read_times(column)
                table |= time_columns(times)
            else:
                table[f"{key}_id"] = pd.Series(read_ids(column, key))
        except FaultError as fault:
            faults.append((fault.row, key, fault))
    if faults:
        row, key, first = min(faults, key=lambda fault: fault[0])
        raise DataError(f"{content.place(row, key)}: {first}") from first
    if "time" in content.columns:
        log_times(path, times)
    return pd.DataFrame(table, copy=False)


def time_columns(times: Times) -> dict[str, pd.Series]:
    """Return the columns of a table that hold times."""
    columns = {"timestamp": pd.Series(times.seconds)}
    if times.nanoseconds is not None:
        columns["nanosecond"] = pd.Series(times.nanoseconds)
    return columns


def delimiter_of(line: str, wanted: Wanted, forms: tuple[str, ...]) -> tuple[str, list[str]] | None:
    """Return (format, fields) for the delimiter that gives a first line what is wanted, or most columns; else None."""
    split = [(form, next(csv.reader([line], delimiter=DELIMITERS[form]))) for form in forms if DELIMITERS[form] in line]
    split = [(form, [name.strip() for name in fields]) for form, fields in split]
    return max(split, key=lambda candidate: (wanted.fits(candidate[1]), len(candidate[1])), default=None)


def listed(header: list[str]) -> str:
    """Return the names of a header as a message lists them."""
    text = ", ".join(name if name.isprintable() else shown(name) for name in header)
    return text if len(text) <= 120 else text[:120] + "..."


def find_columns(path: Path, header: list[str], wanted: Wanted) -> tuple[dict[str, int], bool]:
    """Return ({key: column index}, whether the first line is a header); raises DataError if a column is missing."""
    if wanted.by_number(header):
        for key, value in wanted.named.items():
            if not 1 <= int(value) <= len(header):
                raise DataError(f"{path}:1: {key}={value}: there are {len(header)} columns, counted from 1")
        return {key: int(value) - 1 for key, value in wanted.named.items()}, False
    mapping = wanted.mapping(header)
    columns = {}
    for key, value in mapping.items():
        if value not in header:
            raise DataError(
                f"{path}:1: no column {shown(value)} for {key}; the header has {listed(header)}{suggest(value, header)}"
            )
        columns[key] = _only(path, header, key, [index for index, name in enumerate(header) if name == value])
    for key, places in known_columns(header).items():
        if key in wanted.keys and key not in wanted.columns and key not in mapping:
            columns[key] = _only(path, header, key, places)
    return columns, True


def refuse_doubtful_numbers(path: Path, header: list[str], wanted: Wanted) -> None:
    """Raise DataError if a mapping's numbers may be names as well, since a text file's first line holds them all."""
    numbers = set(wanted.named.values())
    if numbers and all(number.isdigit() for number in numbers) and numbers <= set(header):
        raise DataError(
            f"{path}:1: {wanted.option} gives {listed(sorted(numbers))}, which may be numbers of columns or names in"
            f" the first line ({listed(header)}); put a header with other names above it, or rename that header"
        )


def _only(path: Path, header: list[str], key: str, places: list[int]) -> int:
    """Return the one place of a name; raises DataError if a header has it twice."""
    if len(places) > 1:
        raise DataError(
            f"{path}:1: columns {' and '.join(str(place + 1) for place in places)} are both named"
            f" {shown(header[places[0]])}, the {key}; rename or remove all but one"
        )
    return places[0]


def known_columns(header: list[str]) -> dict[str, list[int]]:
    """Return {user, item, ...: indices} for the header names that are understood; the first of KNOWN_NAMES wins."""
    plain = [re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower()) for name in header]
    places = {}
    for key, names in KNOWN_NAMES.items():
        name = next((name for name in names if name in plain), None)
        if name is not None:
            places[key] = [index for index, other in enumerate(plain) if other == name]
    return places


def log_columns(path: Path, header: list[str], wanted: Wanted, form: str) -> tuple[dict[str, int], bool]:
    """Find the columns of a log, or of a request; raises DataError if one is missing, logs what is taken for what."""
    columns, has_header = find_columns(path, header, wanted)
    if len(header) == 1 and not (wanted.request and "user" in columns):
        names = {"csv": "commas", "tsv": "tabs", "semicolons": "semicolons"}
        raise DataError(
            f"{path}:1: one column ({shown(header[0])}); expected several, separated by {names.get(form, form)};"
            " check the delimiter, or the --format"
        )
    for key in wanted.needed:
        if key not in columns:
            raise DataError(
                f"{path}:1: no column for the {key}; the header has {listed(header)}; name it with"
                f" --columns {key}=.. (or --columns user=1,item=2,time=3 if there is no header)"
            )
    if not wanted.request and "time" not in columns:
        if not wanted.without_time and len(header) > 2:
            raise DataError(
                f"{path}:1: no column for the time; the header has {listed(header)}; name it with --columns"
                " time=.., or say --columns time=none if the order of the lines is the order in time"
            )
        log.info("%s: no time; the order of the lines is taken as the order in time", path)
    named = {key: header[index] if has_header else str(index + 1) for key, index in columns.items()}
    log.info("%s: %s", path, ", ".join(f"{key} from {listed([name])}" for key, name in named.items()))
    return columns, has_header


def item_columns(path: Path, header: list[str], wanted: Wanted) -> tuple[dict[str, int], bool]:
    """Find the columns of an item table; raises DataError if one is missing."""
    columns, has_header = find_columns(path, header, wanted)
    if "item" not in columns:
        raise DataError(
            f"{path}:1: no column for the item; the header has {listed(header)}; name it with --item-columns item=.."
            " (commas, semicolons or tabs must separate the columns)"
        )
    if len(columns) == 1:
        raise DataError(
            f"{path}:1: neither a title nor categories; the header has {listed(header)}; name them with"
            " --item-columns title=..,categories=.."
        )
    return columns, has_header


def label(header: list[str], index: int, has_header: bool) -> str:
    """Return how a message names a column."""
    return shown(header[index]) if has_header else str(index + 1)
