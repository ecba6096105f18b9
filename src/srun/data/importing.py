"""Own data files -> tables: CSV, TSV, semicolons, Parquet, lines of ids, Amazon and Steam files.

A file may be plain or gzip: its content tells, never its name. Ids stay text, so they may be of any size, and "007" is
not "7". Spaces around them do not count, and a missing id is an error (``values`` says what is missing). Times keep
their full precision, which decides the order (``times`` reads them). Without times the order of the lines is the order
in time. Blank lines are passed over.

Whatever is wrong gives one DataError with file, line, column, what was expected and what to do.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from srun.data.formats import parquet
from srun.data.formats.columns import (
    COLUMNS,
    DELIMITERS,
    ITEM_COLUMNS,
    Content,
    Wanted,
    check_keys,
    delimiter_of,
    item_columns,
    label,
    read_columns,
    refuse_doubtful_numbers,
)
from srun.data.formats.delimited import read_delimited, rows
from srun.data.formats.guessing import FORMATS, LAYOUTS, guess_format, is_parquet, refuse_other_delimiters
from srun.data.formats.lines import read_lines
from srun.data.formats.opening import opened, sample_lines
from srun.data.formats.records import read_catalogue, read_reviews
from srun.data.values import id_fault, shown
from srun.errors import DataError
from srun.registry import suggest

log = logging.getLogger("srun.data")


@dataclass(frozen=True)
class Imported:
    """What a file held, in file order, before it is brought into canonical form (``raw.canonical``).

    ``interactions`` has categorical user_id and item_id and, where ``time`` is ``unix``, timestamp in seconds and, if
    any time has a fraction of a second, nanosecond.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame | None
    time: Literal["unix", "order"]
    columns: dict[str, str] | None = None
    """user, item and time -> the names they had in the header; None if there was none."""


def read_import(
    path: Path,
    *,
    form: str | None = None,
    columns: Mapping[str, str] | None = None,
    items: Path | None = None,
    item_columns: Mapping[str, str] | None = None,
) -> Imported:
    """Read a log and, if given, its item table.

    ``form`` is one of FORMATS, guessed from the content if None. ``columns`` maps user, item and time to header names,
    or to column numbers from 1 for a file without header; time may be ``none``. ``item_columns`` does so for item,
    title and categories. Raises DataError for anything that does not fit.
    """
    check_keys(item_columns, ITEM_COLUMNS, "--item-columns")
    wanted = Wanted(columns or {})
    form = format_of(path, form, wanted)
    table, content = read_table(path, form, wanted)
    _check_log(path, table)
    described = None if items is None else _read_items(items, form, Wanted(item_columns or {}, option="--item-columns"))
    if described is not None and items is not None:
        _check_match(path, items, table, described)
    names = None if content is None else content.names
    return Imported(table, described, "unix" if "timestamp" in table else "order", names)


def column_mapping(text: str | None) -> dict[str, str] | None:
    """Parse ``user=a,item=b`` into a mapping; raises DataError if it is not of that form."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    for key, separator, value in pairs:
        if not (key.strip() and separator and value.strip()):
            raise DataError(f'column mapping "{text}": expected key=column,key=column such as user=userId,item=movieId')
    return {key.strip(): value.strip() for key, _, value in pairs}


def format_of(path: Path, form: str | None, wanted: Wanted) -> str:
    """Return the format that is given or else guessed; raises DataError if it is none, or has no columns to name."""
    check_keys(wanted.columns, COLUMNS, "--columns")
    if form is None:
        form, why = guess_format(path, wanted)
        log.info("%s: read as %s (%s)", path, form, why)
    elif form not in FORMATS:
        raise DataError(f'--format "{form}": expected one of {", ".join(FORMATS)}{suggest(form, list(FORMATS))}')
    if wanted.columns and form not in (*DELIMITERS, "parquet"):
        raise DataError(f"--columns: {form} files have no columns to name; leave it out, or give --format csv or tsv")
    return form


def read_table(path: Path, form: str, wanted: Wanted) -> tuple[pd.DataFrame, Content | None]:
    """Return the rows of a file in file order, as far as they have users, items and times; raises DataError.

    The content that they were read from is None for records, which have a column ``line`` instead.
    """
    if form in LAYOUTS:
        with opened(path) as file:
            table = read_reviews(file, LAYOUTS[form], str(path))
        if table.empty:
            raise DataError(f"{path}: empty; expected one review a line")
        return table, None
    if form in DELIMITERS:
        content = read_delimited(path, form, wanted)
    elif form == "parquet":
        content = parquet.read_parquet(path, wanted)
    else:
        content = read_lines(path, pairs=form == "pairs")
    return read_columns(path, content), content


def _check_log(path: Path, table: pd.DataFrame) -> None:
    """Raise DataError for a log that nothing can be learned from; warn of users with a single item."""
    for column, kind in (("user_id", "user"), ("item_id", "item")):
        if len(table[column].cat.categories) < 2:
            only = table[column].cat.categories[0]
            raise DataError(
                f'{path}: only one {kind} ("{only}"); expected two or more, else there is nothing to split or rank;'
                f" check which column is the {kind}"
            )
    counts = np.bincount(table["user_id"].cat.codes)
    single = int((counts == 1).sum())
    if single == len(counts):
        raise DataError(
            f"{path}: every user has a single interaction; expected sequences of two or more; check which column is the"
            " user"
        )
    if single:
        log.warning("%s: %d of %d users have a single interaction", path, single, len(counts))


# Item tables ---------------------------------------------------------------------------------------------------------


def _read_items(path: Path, form: str, wanted: Wanted) -> pd.DataFrame:
    """Read an item table: a table with columns, or the catalogue of the publisher if the log is Amazon's or Steam's."""
    if is_parquet(path):
        described = parquet.read_items(path, wanted)
        places = (f"{path}, row {row}" for row in range(1, len(described) + 1))
        return _described(path, zip(places, described, strict=True))
    _, first = sample_lines(path)[0]
    if first.lstrip().startswith("{") and form in LAYOUTS:
        with opened(path) as file:
            return read_catalogue(file, LAYOUTS[form], str(path))
    return _described(path, _item_rows(path, wanted))


def _item_rows(path: Path, wanted: Wanted) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Yield (place, (item, title, categories)) of an item table in text."""
    number, first = sample_lines(path)[0]
    form = delimiter_of(first, wanted, tuple(DELIMITERS))
    if form is None:
        refuse_other_delimiters(path, number, first)
    delimiter = DELIMITERS[form[0] if form else "csv"]
    header: list[str] = []
    for number, row in rows(path, None, delimiter):
        if not header:
            header = [name.strip() for name in row]
            refuse_doubtful_numbers(path, header, wanted)
            places, has_header = item_columns(path, header, wanted)
            if has_header:
                continue
        if len(row) != len(header):
            raise DataError(f"{path}:{number}: {len(row)} columns, expected {len(header)} as in line 1; check quotes")
        item, title, categories = (row[places[key]].strip() if key in places else "" for key in ITEM_COLUMNS)
        yield f"{path}:{number}, column {label(header, places['item'], has_header)}", (item, title, categories)


def _described(path: Path, rows: Iterator[tuple[str, tuple[str, str, str]]]) -> pd.DataFrame:
    """Return an item table, each item once; raises DataError for one without id, or described in two ways."""
    known: dict[str, tuple[str, str, str]] = {}
    places: dict[str, str] = {}
    for place, (text, title, categories) in rows:
        item = text.strip()
        if fault := id_fault("item", item):
            raise DataError(f"{place}: {fault}")
        described = (item, title, categories)
        if known.setdefault(item, described) != described:
            raise DataError(
                f"{place}: item {shown(item)} is described again, otherwise than in {places[item]}; keep one"
            )
        places.setdefault(item, place)
    if not known:
        raise DataError(f"{path}: a header and no items; expected one a line below it")
    return pd.DataFrame(list(known.values()), columns=["item_id", "title", "categories"])


def _check_match(path: Path, items_path: Path, table: pd.DataFrame, items: pd.DataFrame) -> None:
    """Raise DataError if log and item table have no item in common; warn if they do so in part."""
    logged = pd.Index(table["item_id"].cat.categories)
    described = pd.Index(items["item_id"])
    both = int(described.isin(logged).sum())
    if not both:
        raise DataError(
            f'{items_path}: describes none of the items of {path} (there "{logged[0]}", here "{described[0]}");'
            " name the right column with --item-columns item=.."
        )
    if both < len(logged):
        log.warning("%s: %d of %d items of the log are not described", items_path, len(logged) - both, len(logged))
    if both < len(described):
        log.warning("%s: %d described items are not in the log; left out", items_path, len(described) - both)
