"""Own data files -> tables: CSV, TSV, Parquet, "user item" lines, "user item item ..." lines, Amazon and Steam files.

Plain or gzip, which is seen from the content, never from the name. Ids are kept as text, so they may be of any size
and "007" is not "7"; spaces around them do not count. Empty ones, ``nan``, ``null``, ``none`` and ``<NA>`` (in any
case) are missing values, and an error. Times are unix seconds or ISO 8601 dates (UTC where no zone is given);
fractions are cut off. Without times the order of the lines is the order in time. Blank lines are passed over.

Whatever is wrong gives one DataError with file, line, column, what was expected and what to do.
"""

import contextlib
import csv
import gzip
import logging
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from srun.data.records import AMAZON, STEAM, parse_record, read_catalogue, read_reviews, unpacked
from srun.errors import DataError
from srun.registry import suggest

log = logging.getLogger("srun.data")

FORMATS = ("csv", "tsv", "parquet", "pairs", "sequences", "amazon", "steam")
DELIMITERS = {"csv": ",", "tsv": "\t"}
LAYOUTS = {"amazon": AMAZON, "steam": STEAM}
COLUMNS = ("user", "item", "time")
ITEM_COLUMNS = ("item", "title", "categories")
NO_TIME = "none"
"""As the column of time: there is none, line order is time."""

KNOWN_NAMES = {
    "user": ("userid", "user", "uid", "reviewerid", "username", "customerid", "customer", "visitorid", "sessionid"),
    "item": ("itemid", "item", "iid", "movieid", "asin", "productid", "product", "sku", "trackid", "songid", "bookid"),
    "time": ("timestamp", "time", "unixtime", "unixreviewtime", "ts", "datetime", "date", "eventtime", "createdat"),
    "title": ("title", "name", "itemtitle", "itemname", "movietitle", "producttitle", "productname", "appname"),
    "categories": ("categories", "category", "genres", "genre", "attributes", "tags", "class"),
}
"""Header names that are understood without a mapping: lower case, letters and digits only, what follows ":" cut off."""

_MISSING = ("", "nan", "null", "none", "<na>")
_MISSING_PATTERN = r"(?i)^(nan|null|none|<na>)?$"
_CONTROL = "[\\x00-\\x1f\\x7f]"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_SAMPLE = 1 << 16
_BLOCK = 1 << 25
_TEXT_IDS = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class Imported:
    """What a file held, in file order, before it is brought into canonical form (``raw.canonical``).

    ``interactions`` has categorical user_id and item_id and, where ``time`` is ``unix``, timestamp in seconds.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame | None
    time: Literal["unix", "order"]


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
    _check_keys(columns, COLUMNS, "--columns")
    _check_keys(item_columns, ITEM_COLUMNS, "--item-columns")
    if form is not None and form not in FORMATS:
        raise DataError(f'--format "{form}": expected one of {", ".join(FORMATS)}{suggest(form, list(FORMATS))}')
    if form is None:
        form, why = guess_format(path, columns)
        log.info("%s: read as %s (%s)", path, form, why)
    if columns and form not in (*DELIMITERS, "parquet"):
        raise DataError(f"--columns: {form} files have no columns to name; leave it out, or give --format csv or tsv")
    table = _read(path, form, columns)
    _check_log(path, table)
    described = None if items is None else _read_items(items, form, item_columns)
    if described is not None and items is not None:
        _check_match(path, items, table, described)
    return Imported(table, described, "unix" if "timestamp" in table else "order")


def column_mapping(text: str | None) -> dict[str, str] | None:
    """Parse ``user=a,item=b`` into a mapping; raises DataError if it is not of that form."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    for key, separator, value in pairs:
        if not (key.strip() and separator and value.strip()):
            raise DataError(f'column mapping "{text}": expected key=column,key=column such as user=userId,item=movieId')
    return {key.strip(): value.strip() for key, _, value in pairs}


def guess_format(path: Path, columns: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Return (format, why); raises DataError if the content fits none, or more than one."""
    with _opened(path) as file:
        sample = file.read(_SAMPLE)
    if sample[:4] == b"PAR1":
        return "parquet", "it begins with PAR1"
    lines = _sample_lines(path, sample)
    number, first = lines[0]
    if first.lstrip().startswith("{"):
        return _guess_records(path, number, first)
    for form, delimiter in DELIMITERS.items():
        if delimiter in first:
            header = next(csv.reader([first], delimiter=delimiter))
            if columns or ("user" in _known_columns(header) and "item" in _known_columns(header)):
                return form, f"its first line is {first[:60]!r}"
    if any(mark in first for mark in ",;"):
        raise DataError(
            f"{path}:{number}: no known column names in {first[:60]!r}; expected a header such as"
            " user_id,item_id,timestamp, separated by commas or tabs. Name the columns with --columns user=..,item=..,"
            "time=.. (numbers from 1 if there is no header)"
        )
    return _guess_lines(path, lines)


def _guess_records(path: Path, number: int, line: str) -> tuple[str, str]:
    fields = parse_record(line.encode(), f"{path}:{number}")
    for form, layout in LAYOUTS.items():
        if layout.user in fields and layout.item in fields:
            return form, f"its records have {layout.user} and {layout.item}"
    wanted = " or ".join(f"{layout.user} and {layout.item}" for layout in LAYOUTS.values())
    raise DataError(f"{path}:{number}: a record with the fields {', '.join(map(str, fields))[:80]}; expected {wanted}")


def _guess_lines(path: Path, lines: list[tuple[int, str]]) -> tuple[str, str]:
    counts = {len(line.split()) for _, line in lines}
    if counts == {2}:
        return "pairs", "its lines hold two words each"
    if min(counts) >= 2 and (len(counts) > 1 or min(counts) > 4):
        return "sequences", f"its lines hold {min(counts)} to {max(counts)} words"
    if counts in ({3}, {4}):
        raise DataError(
            f"{path}:{lines[0][0]}: {counts.pop()} words on every line may be columns or sequences; say --format"
            " sequences, or --format tsv --columns user=1,item=2,time=.. for tab-separated columns without a header"
        )
    number, line = next((number, line) for number, line in lines if len(line.split()) < 2)
    raise DataError(
        f"{path}:{number}: not a known form ({line[:60]!r}); expected a CSV or TSV with a header, Parquet, "
        '"user item" lines or "user item item ..." lines; say which with --format'
    )


def _read(path: Path, form: str, columns: Mapping[str, str] | None) -> pd.DataFrame:
    if form in DELIMITERS:
        return _read_delimited(path, form, columns)
    if form == "parquet":
        return _read_parquet(path, columns)
    if form in LAYOUTS:
        with _opened(path) as file:
            table = read_reviews(file, LAYOUTS[form], str(path))
        if table.empty:
            raise DataError(f"{path}: empty; expected one review a line")
        return table
    return _read_lines(path, pairs=form == "pairs")


# Opening -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a plain or gzip file for reading; what goes wrong while it is read becomes a DataError naming it."""
    try:
        with unpacked(path) as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip data break off or are damaged ({error}); copy the file again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); expected a data file") from error


def _sample_lines(path: Path, sample: bytes) -> list[tuple[int, str]]:
    """Return (number, text) of the first lines that are not blank; raises DataError if the file is empty or no text."""
    if not sample.strip():
        raise DataError(f"{path}: the file is empty; expected interactions, one or more a line")
    if sample[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: UTF-16 text; save it as UTF-8")
    if b"\x00" in sample:
        line = sample[: sample.index(b"\x00")].count(b"\n") + 1
        raise DataError(f"{path}:{line}: binary data, not text; expected CSV, TSV, Parquet or lines of ids, or gzip")
    whole = sample
    if len(sample) == _SAMPLE:  # the last line, perhaps the only one, is cut
        whole = sample[: sample.rfind(b"\n") + 1] or sample.decode(errors="ignore").encode()
    lines = enumerate(whole.splitlines(), start=1)
    return [(number, _decoded(path, number, line)) for number, line in lines if line.strip()]


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: not UTF-8 text (byte 0x{error.object[error.start]:02x} at character {error.start + 1});"
            " save it as UTF-8, for example with iconv -f latin1 -t utf8"
        ) from error


# Columns -------------------------------------------------------------------------------------------------------------


def _check_keys(mapping: Mapping[str, str] | None, known: tuple[str, ...], option: str) -> None:
    for key in mapping or {}:
        if key not in known:
            raise DataError(f'{option}: unknown key "{key}"; expected {", ".join(known)}{suggest(key, list(known))}')


def _known_columns(header: list[str]) -> dict[str, int]:
    """Return {user, item, ...: index} for the header names that are understood; the first of KNOWN_NAMES wins."""
    plain = [re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower()) for name in header]
    found = {}
    for key, names in KNOWN_NAMES.items():
        index = next((plain.index(name) for name in names if name in plain), None)
        if index is not None:
            found[key] = index
    return found


def _columns(
    path: Path, header: list[str], mapping: Mapping[str, str] | None, keys: tuple[str, ...]
) -> tuple[dict[str, int], bool]:
    """Return ({key: column index}, whether the first line is a header); raises DataError if a column is missing."""
    mapping = mapping or {}
    named = {key: value for key, value in mapping.items() if not (key == "time" and value.lower() == NO_TIME)}
    if named and all(value.isdigit() for value in named.values()) and not set(named.values()) <= set(header):
        for key, value in named.items():
            if not 1 <= int(value) <= len(header):
                raise DataError(f"{path}:1: {key}={value}: there are {len(header)} columns, counted from 1")
        return {key: int(value) - 1 for key, value in named.items()}, False
    found = {key: index for key, index in _known_columns(header).items() if key in keys and key not in mapping}
    for key, value in named.items():
        if value not in header:
            raise DataError(
                f'{path}:1: no column "{value}" for {key}; the header has {", ".join(header)[:120]}'
                f"{suggest(value, header)}"
            )
        found[key] = header.index(value)
    return found, True


def _log_columns(path: Path, header: list[str], mapping: Mapping[str, str] | None, form: str) -> tuple[dict, bool]:
    found, has_header = _columns(path, header, mapping, COLUMNS)
    if len(header) == 1:
        raise DataError(
            f"{path}:1: one column ({header[0][:40]!r}); expected several, separated by"
            f" {'tabs' if form == 'tsv' else 'commas'}; check the delimiter, or the --format"
        )
    for key in ("user", "item"):
        if key not in found:
            raise DataError(
                f"{path}:1: no column for the {key}; the header has {', '.join(header)[:120]}; name it with"
                f" --columns {key}=.. (or --columns user=1,item=2,time=3 if there is no header)"
            )
    waived = (mapping or {}).get("time", "").lower() == NO_TIME
    if "time" not in found and not waived and len(header) > 2:
        raise DataError(
            f"{path}:1: no column for the time; the header has {', '.join(header)[:120]}; name it with --columns"
            " time=.., or say --columns time=none if the order of the lines is the order in time"
        )
    if "time" not in found:
        log.info("%s: no time; the order of the lines is taken as the order in time", path)
    shown = ", ".join(f"{key} from {header[index] if has_header else index + 1}" for key, index in found.items())
    log.info("%s: %s", path, shown)
    return found, has_header


# CSV and TSV ---------------------------------------------------------------------------------------------------------


def _read_delimited(path: Path, form: str, mapping: Mapping[str, str] | None) -> pd.DataFrame:
    """Read a CSV or TSV in one pass; only if something is wrong a second, slow pass finds the line."""
    delimiter = DELIMITERS[form]
    with _opened(path) as file:
        first = next(_rows(path, file, delimiter), None)
    if first is None:
        raise DataError(f"{path}: the file is empty; expected a header and interactions, one a line")
    header = [name.strip() for name in first[1]]
    found, has_header = _log_columns(path, header, mapping, form)
    names = [str(index) for index in range(len(header))]
    picked = {key: names[index] for key, index in found.items()}
    types = {name: pa.string() if key == "time" else _TEXT_IDS for key, name in picked.items()}
    try:
        with _opened(path) as file:
            table = pyarrow.csv.read_csv(
                pa.PythonFile(file, mode="r"),
                read_options=pyarrow.csv.ReadOptions(
                    column_names=names, skip_rows=first[0] if has_header else 0, block_size=1 << 23
                ),
                parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=types, include_columns=list(types), strings_can_be_null=False, null_values=[]
                ),
            )
        if len(table) == 0:
            raise DataError(f"{path}: a header and no interactions; expected one a line below it")
        return _checked({key: table.column(name) for key, name in picked.items()})
    except (pa.ArrowInvalid, _FaultError) as error:
        _raise_first_fault(path, delimiter, header, found, has_header)
        raise DataError(f"{path}: cannot be read as {form} ({_one_line(error)}); check its quotes") from error


class _FaultError(Exception):
    """Something in a column is wrong; where exactly is found in a second pass."""


def _checked(columns: dict[str, Any]) -> pd.DataFrame:
    """Turn text columns into interactions; raises _FaultError if an id is missing or a time is none."""
    table = {}
    for key in ("user", "item"):
        encoded = columns[key].unify_dictionaries().combine_chunks()
        encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
        trimmed = pc.utf8_trim_whitespace(encoded.dictionary).dictionary_encode()
        ids, codes = trimmed.dictionary, trimmed.indices.to_numpy()[encoded.indices.to_numpy()]
        if pc.any(pc.match_substring_regex(ids, f"{_MISSING_PATTERN}|{_CONTROL}")).as_py():
            raise _FaultError(f"an empty or broken {key} id")
        table[f"{key}_id"] = pd.Series(
            pd.Categorical.from_codes(codes, categories=pd.Index(ids.to_pandas(), dtype="str"))
        )
    if "time" in columns:
        table["timestamp"] = pd.Series(_times(columns["time"]))
    return pd.DataFrame(table, copy=False)


def _times(texts: pa.ChunkedArray) -> np.ndarray:
    """Return unix seconds; the first value says whether the column holds numbers or dates."""
    texts = pc.utf8_trim_whitespace(texts)
    try:
        if not _NUMBER.fullmatch(texts[0].as_py()):
            return _dates(texts)
        try:
            seconds = pc.cast(texts, pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            seconds = _floored(pc.cast(texts, pa.float64()).to_numpy())
    except (pa.ArrowInvalid, ValueError, OverflowError) as error:
        raise _FaultError("not a time") from error
    if seconds.min() < 0:
        raise _FaultError("a negative time")
    return seconds


def _floored(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all() or values.min() < 0 or values.max() >= 2.0**63:
        raise _FaultError("not a time")
    cut = int((values != np.floor(values)).sum())
    if cut:
        log.warning("%d times have a fraction of a second; it is cut off", cut)
    return np.floor(values).astype(np.int64)


def _dates(texts: pa.ChunkedArray) -> np.ndarray:
    """Return unix seconds of ISO 8601 dates; distinct ones are parsed once."""
    encoded = texts.combine_chunks().dictionary_encode()
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    stamps = pd.to_datetime(encoded.dictionary.to_pandas(), format="ISO8601", utc=True)
    if stamps.isna().any() or stamps.min().timestamp() < 0:
        raise _FaultError("not a date, or one before 1970")
    seconds = (stamps - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)
    return seconds.to_numpy(dtype=np.int64)[encoded.indices.to_numpy()]


def _rows(path: Path, file: IO[bytes], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number of its end, fields) of every row that is not blank; raises DataError for what is no text."""

    def lines() -> Iterator[str]:
        for number, line in enumerate(file, start=1):
            if b"\x00" in line:
                raise DataError(f"{path}:{number}: binary data, not text; expected a CSV or TSV in UTF-8")
            yield _decoded(path, number, line)

    reader = csv.reader(lines(), delimiter=delimiter)
    try:
        for row in reader:
            if any(row) or len(row) > 1:
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not readable ({error}); check its quotes") from error


def _raise_first_fault(path: Path, delimiter: str, header: list[str], found: dict[str, int], has_header: bool) -> None:
    """Read the file row by row and raise DataError for the first fault; return if there is none."""
    with _opened(path) as file:
        numeric: bool | None = None
        for number, row in islice(_rows(path, file, delimiter), int(has_header), None):
            where = f"{path}:{number}"
            if len(row) != len(header):
                raise DataError(
                    f"{where}: {len(row)} columns, expected {len(header)} as in line 1; check delimiters and quotes"
                )
            for key in ("user", "item"):
                _check_id(f"{where}, column {_label(header, found[key], has_header)}", key, row[found[key]])
            if "time" in found:
                text = row[found["time"]].strip()
                numeric = bool(_NUMBER.fullmatch(text)) if numeric is None else numeric
                _check_time(f"{where}, column {_label(header, found['time'], has_header)}", text, numeric)


def _label(header: list[str], index: int, has_header: bool) -> str:
    return f'"{header[index]}"' if has_header else str(index + 1)


def _check_id(where: str, key: str, text: str) -> None:
    text = text.strip()
    if text.lower() in _MISSING:
        raise DataError(f'{where}: the {key} is missing ("{text}"); fill it in or remove the line')
    if re.search(_CONTROL, text):
        raise DataError(f"{where}: the {key} {text!r} holds a control character; remove it")


def _check_time(where: str, text: str, numeric: bool) -> None:
    """Raise DataError unless ``text`` is a time of the kind that the column's first value is."""
    expected = "unix seconds, not negative" if numeric else "an ISO 8601 date such as 2014-07-23T10:00:00"
    try:
        if numeric:
            seconds = int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
        else:
            seconds = pd.to_datetime(pd.Series([text]), format="ISO8601", utc=True)[0].timestamp()
        valid = math.isfinite(seconds) and 0 <= seconds < 1 << 63
    except (ValueError, OverflowError):
        valid = False
    if not valid:
        raise DataError(f'{where}: the time is "{text}"; expected {expected}; correct it or remove the line')


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


# Parquet -------------------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, mapping: Mapping[str, str] | None) -> pd.DataFrame:
    try:
        with _opened(path) as file:
            source = pyarrow.parquet.ParquetFile(pa.BufferReader(file.read()))
            header = source.schema_arrow.names
            found, has_header = _log_columns(path, header, mapping, "parquet")
            if not has_header:
                raise DataError(f"{path}: Parquet has column names; name them with --columns, not numbers")
            table = source.read(columns=[header[index] for index in found.values()])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({_one_line(error)}); write it again") from error
    if len(table) == 0:
        raise DataError(f"{path}: no rows; expected interactions, one a row")
    named = {key: header[index] for key, index in found.items()}
    columns = {key: _parquet_text(path, name, key, table.column(name)) for key, name in named.items()}
    try:
        return _checked(columns)
    except _FaultError as error:
        for key, column in columns.items():
            _raise_first_in_column(path, named[key], key, column)
        raise DataError(f"{path}: {error}") from error


def _parquet_text(path: Path, name: str, key: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as text (ids dictionary-encoded); times as numbers or ISO dates in text."""
    where = f'{path}, column "{name}"'
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py() + 1
        raise DataError(f"{where}, row {row}: the {key} is missing; fill it in or remove the row")
    if pa.types.is_floating(kind) and key != "time":
        values = column.to_numpy()
        bad = np.flatnonzero(values != np.floor(values))  # true for NaN as well
        if len(bad):
            raise DataError(
                f"{where}, row {bad[0] + 1}: the {key} is {values[bad[0]]}; expected an id: text or integer"
            )
        column = pc.cast(column, pa.int64())
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        seconds = pc.cast(pc.cast(column, pa.timestamp("ms")), pa.timestamp("s"), safe=False)
        column = pc.cast(seconds, pa.int64())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind)
    ):
        raise DataError(f"{where}: {kind} cannot be the {key}; expected text or numbers")
    text = pc.cast(column, pa.string())
    return text if key == "time" else text.dictionary_encode()


def _raise_first_in_column(path: Path, name: str, key: str, column: pa.ChunkedArray) -> None:
    texts = pc.cast(column, pa.string()).to_pylist()
    numeric = bool(_NUMBER.fullmatch(texts[0]))
    for row, text in enumerate(texts, start=1):
        where = f'{path}, column "{name}", row {row}'
        if key == "time":
            _check_time(where, text.strip(), numeric)
        else:
            _check_id(where, key, text)


# Lines of ids --------------------------------------------------------------------------------------------------------


def _read_lines(path: Path, pairs: bool) -> pd.DataFrame:
    """Read "user item" lines, or "user item item ..." lines; a user may have several lines."""
    users, items = [], []
    with _opened(path) as file:
        _sample_lines(path, file.read(_SAMPLE))
    with _opened(path) as file:
        for first_line, block in _blocks(file):
            block_users, block_items = _split(path, first_line, block, pairs)
            users.append(block_users)
            items.append(block_items)
    columns = {"user": pa.chunked_array(users, _TEXT_IDS), "item": pa.chunked_array(items, _TEXT_IDS)}
    return _checked(columns)


def _blocks(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (number of its first line, whole lines) in blocks; the byte order mark is left out."""
    rest, line = b"", 1
    while block := file.read(_BLOCK):
        block = rest + block
        if line == 1:
            block = block.removeprefix(b"\xef\xbb\xbf")
        end = block.rfind(b"\n") + 1
        rest = block[end:]
        if end:
            yield line, block[:end]
            line += block.count(b"\n", 0, end)
    if rest:
        yield line, rest + b"\n"


def _split(path: Path, first_line: int, block: bytes, pairs: bool) -> tuple[pa.DictionaryArray, pa.DictionaryArray]:
    """Return the users and the items of a block's interactions."""
    ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + 1
    offsets = np.r_[0, ends].astype(np.int32)
    lines = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(block))
    try:
        lines.validate(full=True)
    except pa.ArrowInvalid as error:
        _raise_first_bad_line(path, first_line, block, pairs)
        raise DataError(f"{path}: not UTF-8 text ({_one_line(error)})") from error
    lines = pc.ascii_trim_whitespace(lines)
    words = pc.ascii_split_whitespace(lines.filter(pc.not_equal(lines, "")))
    counts = pc.list_value_length(words).to_numpy()
    flat = words.flatten()
    starts = np.cumsum(counts) - counts
    is_item = np.ones(len(flat), dtype=bool)
    is_item[starts] = False
    users = flat.take(pa.array(np.repeat(starts, counts - 1))).dictionary_encode()
    items = flat.filter(pa.array(is_item)).dictionary_encode()
    wrong = (counts != 2) if pairs else (counts < 2)
    bad = [pc.any(pc.match_substring_regex(ids.dictionary, f"{_MISSING_PATTERN}|{_CONTROL}")) for ids in (users, items)]
    if wrong.any() or any(found.as_py() for found in bad):
        _raise_first_bad_line(path, first_line, block, pairs)
    return users, items


def _raise_first_bad_line(path: Path, first_line: int, block: bytes, pairs: bool) -> None:
    """Go through a block line by line and raise DataError for the first fault."""
    expected = "two words, a user and an item" if pairs else "a user and one or more items"
    for number, line in enumerate(block.split(b"\n"), start=first_line):
        words = _decoded(path, number, line).split()
        if words and (len(words) != 2 if pairs else len(words) < 2):
            raise DataError(
                f"{path}:{number}: {len(words)} words ({' '.join(words)[:40]!r}); expected {expected}, separated by"
                " spaces or tabs"
            )
        for place, word in enumerate(words):
            _check_id(f"{path}:{number}, word {place + 1}", "item" if place else "user", word)


# Checks --------------------------------------------------------------------------------------------------------------


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


def _read_items(path: Path, form: str, mapping: Mapping[str, str] | None) -> pd.DataFrame:
    """Read an item table: CSV or TSV, or the catalogue of the publisher if the log is Amazon's or Steam's."""
    with _opened(path) as file:
        _, first = _sample_lines(path, file.read(_SAMPLE))[0]
    if first.lstrip().startswith("{") and form in LAYOUTS:
        with _opened(path) as file:
            return read_catalogue(file, LAYOUTS[form], str(path))
    delimiter = "\t" if "\t" in first else ","
    rows: dict[str, tuple[int, str, str]] = {}
    with _opened(path) as file:
        reader = _rows(path, file, delimiter)
        _, header = next(reader)
        header = [name.strip() for name in header]
        found, has_header = _item_columns(path, header, mapping)
        if not has_header:
            reader = _chained(header, reader)
        for number, row in reader:
            if len(row) != len(header):
                raise DataError(
                    f"{path}:{number}: {len(row)} columns, expected {len(header)} as in line 1; check the quotes"
                )
            item, title, categories = (row[found[key]].strip() if key in found else "" for key in ITEM_COLUMNS)
            _check_id(f"{path}:{number}, column {_label(header, found['item'], has_header)}", "item", item)
            known = rows.setdefault(item, (number, title, categories))
            if known[1:] != (title, categories):
                raise DataError(
                    f'{path}:{number}: item "{item}" is described again, otherwise than in line {known[0]}; keep one'
                )
    if not rows:
        raise DataError(f"{path}: a header and no items; expected one a line below it")
    return pd.DataFrame([(item, *row[1:]) for item, row in rows.items()], columns=["item_id", "title", "categories"])


def _chained(first: list[str], rest: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    yield 1, first
    yield from rest


def _item_columns(path: Path, header: list[str], mapping: Mapping[str, str] | None) -> tuple[dict[str, int], bool]:
    found, has_header = _columns(path, header, mapping, ITEM_COLUMNS)
    if "item" not in found:
        raise DataError(
            f"{path}:1: no column for the item; the header has {', '.join(header)[:120]}; name it with"
            " --item-columns item=.. (commas or tabs must separate the columns)"
        )
    if len(found) == 1:
        raise DataError(
            f"{path}:1: neither a title nor categories; the header has {', '.join(header)[:120]}; name them with"
            " --item-columns title=..,categories=.."
        )
    return found, has_header


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
