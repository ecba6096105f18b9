"""Parquet: ids may be text, integers, whole decimals or whole floats that hold them exactly; times of any type."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from srun.data.formats.columns import Content, Wanted, item_columns, log_columns
from srun.data.formats.opening import one_line, opened
from srun.data.times import holds_times
from srun.data.values import FaultError, shown
from srun.errors import DataError

_EXACT = {16: 1 << 11, 32: 1 << 24, 64: 1 << 53}
"""Bits of a float -> the first whole number that stands for its neighbours too."""


def read_parquet(path: Path, wanted: Wanted) -> Content:
    """Read the wanted columns; raises DataError naming column and row for what cannot be an id or a time."""
    table, names = _read(path, wanted)
    columns = {}
    for key, name in names.items():
        try:
            column = _plain(table.column(name), key)
            if key == "time" and not holds_times(column.type):
                raise TypeError(column.type)
            columns[key] = column if key == "time" else id_text(column, key).dictionary_encode()
        except FaultError as fault:
            raise DataError(f"{_place(path, name, fault.row)}: {fault}") from fault
        except TypeError as error:
            raise DataError(f"{path}, column {shown(name)}: {error} cannot be the {key}; write it as text") from error
    return Content(
        columns,
        lambda row, key: _place(path, names[key], row),
        lambda: np.arange(1, len(table) + 1),
        names,
    )


def read_items(path: Path, wanted: Wanted) -> list[tuple[str, str, str]]:
    """Return item, title and categories of every row of an item table; lists of categories are joined by ``|``."""
    table, names = _read(path, wanted)
    texts: dict[str, list[str]] = dict.fromkeys(wanted.keys, [""] * len(table))
    for key, name in names.items():
        column = table.column(name)
        try:
            if key == "categories" and (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
                texts[key] = ["|".join(str(name) for name in row or ()) for row in column.to_pylist()]
            elif key == "item":
                texts[key] = id_text(_plain(column, key), key).to_pylist()
            else:
                texts[key] = id_text(_decoded(column), key).fill_null("").to_pylist()
        except FaultError as fault:
            raise DataError(f"{_place(path, name, fault.row)}: {fault}") from fault
        except TypeError as error:
            raise DataError(f"{path}, column {shown(name)}: {error} cannot be the {key}; write it as text") from error
    return list(zip(*texts.values(), strict=True))


def _read(path: Path, wanted: Wanted) -> tuple[pa.Table, dict[str, str]]:
    """Return the wanted columns and {key: name}."""
    try:
        with opened(path) as file:
            source = pyarrow.parquet.ParquetFile(pa.BufferReader(file.read()))
            header = source.schema_arrow.names
            if wanted.option == "--columns":
                places, has_header = log_columns(path, header, wanted, "columns")
            else:
                places, has_header = item_columns(path, header, wanted)
            if not has_header:
                raise DataError(f"{path}: Parquet has column names; name them with {wanted.option}, not numbers")
            names = {key: header[index] for key, index in places.items()}
            # one thread: the process would abort if an error ended it while the reader's threads are still starting
            table = source.read(columns=list(names.values()), use_threads=False)
    except pa.ArrowException as error:
        raise DataError(f"{path}: cannot be read as Parquet ({one_line(error)}); write it again") from error
    if len(table) == 0:
        raise DataError(f"{path}: no rows; expected one for each interaction or item")
    return table, names


def _place(path: Path, name: str, row: int) -> str:
    return f"{path}, column {shown(name)}, row {row + 1}"


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without dictionary, text in its one plain type."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
        kind = pa.string()
    return column if column.type == kind else pc.cast(column, kind)


def _plain(column: pa.ChunkedArray, key: str) -> pa.ChunkedArray:
    """Return a column decoded; raises FaultError for the first row without a value."""
    column = _decoded(column)
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise FaultError(row, f"the {key} is missing; fill it in or remove the row")
    return column


def id_text(column: pa.ChunkedArray, key: str) -> pa.ChunkedArray:
    """Return text or numbers as text; raises FaultError for those that are no exact integers, TypeError for others."""
    kind = column.type
    if pa.types.is_floating(kind):
        column = _whole(column, key)
    elif pa.types.is_decimal(kind):
        column = _whole_decimals(pc.cast(column, pa.string()), key)
    elif not (pa.types.is_string(kind) or pa.types.is_integer(kind)):
        raise TypeError(str(kind))
    return pc.cast(column, pa.string())


def _whole(column: pa.ChunkedArray, key: str) -> pa.ChunkedArray:
    values = pc.cast(column, pa.float64()).to_numpy()
    limit = _EXACT[column.type.bit_width]
    present = column.is_valid().to_numpy()
    bad = np.flatnonzero(present & ~((values == np.floor(values)) & (np.abs(values) < limit)))  # NaN and infinity too
    if len(bad):
        row = int(bad[0])
        why = "expected an id: text or integer"
        if np.isfinite(values[row]) and values[row] == np.floor(values[row]):
            why = f"floats from {limit} on stand for several integers, so ids may be merged; write text or integers"
        raise FaultError(row, f"the {key} is {values[row]}; {why}")
    return pc.cast(pc.cast(column, pa.float64()), pa.int64())


def _whole_decimals(texts: pa.ChunkedArray, key: str) -> pa.ChunkedArray:
    whole = pc.fill_null(pc.match_substring_regex(texts, r"^-?[0-9]+([.]0*)?$"), True).to_numpy()
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        raise FaultError(row, f"the {key} is {texts[row]}; expected an id: text or integer")
    return pc.replace_substring_regex(texts, r"[.]0*$", "")
