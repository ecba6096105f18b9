"""Reads CSV, TSV and semicolon files in one fast pass; where that fails, a slow pass finds the faulty line.

Both passes agree on what a line, a row and a field is. The reader puts a last line of its own after the file's: if that
does not come out as a row, a quote was never closed.
"""

import codecs
import csv
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.csv

from srun.data.formats.columns import (
    DELIMITERS,
    Content,
    Wanted,
    delimiter_of,
    label,
    log_columns,
    refuse_doubtful_numbers,
)
from srun.data.formats.opening import decoded, lines_of, one_line, opened, sample_lines
from srun.data.values import TEXT_IDS
from srun.errors import DataError

ROW_BYTES = 1 << 23
"""No row may be longer: the fast pass reads blocks of that size."""
_LAST = "\x02the last line\x03"

csv.field_size_limit(ROW_BYTES)  # the module's default, 128 KiB, is less than the fast pass takes


def read_delimited(path: Path, form: str, wanted: Wanted) -> Content:
    """Read the wanted columns; ``form`` csv takes semicolons too where the first line has them. Raises DataError."""
    forms = ("csv", "semicolons") if form == "csv" else (form,)
    guess = delimiter_of(sample_lines(path)[0][1], wanted, forms)
    form = guess[0] if guess else form
    delimiter = DELIMITERS[form]
    with opened(path) as file:
        end, first = next(rows(path, file, delimiter))
    header = [name.strip() for name in first]
    refuse_doubtful_numbers(path, header, wanted)
    places, has_header = log_columns(path, header, wanted, form)
    skip = end if has_header else 0
    types = {index: pa.string() if key == "time" else TEXT_IDS for key, index in places.items()}
    try:
        table = read_fast(path, delimiter, len(header), skip, types)
    except pa.ArrowInvalid as error:
        for _ in rows(path, None, delimiter, len(header)):
            pass
        raise DataError(f"{path}: cannot be read as {form} ({one_line(error)}); check its quotes") from error
    if len(table) == 0:
        raise DataError(f"{path}: a header and no rows below it; expected one a line")
    lines = _line_finder(path, delimiter, len(header), has_header)

    def place(row: int, key: str) -> str:
        return f"{path}:{next(islice(lines(), row, None))}, column {label(header, places[key], has_header)}"

    return Content(
        {key: table.column(str(index)) for key, index in places.items()},
        place,
        lambda: np.fromiter(lines(), dtype=np.int64),
        {key: header[index] for key, index in places.items()} if has_header else None,
    )


def _line_finder(path: Path, delimiter: str, width: int, has_header: bool) -> Callable[[], Iterator[int]]:
    def lines() -> Iterator[int]:
        return (line for line, _ in islice(rows(path, None, delimiter, width), int(has_header), None))

    return lines


def read_fast(path: Path, delimiter: str, width: int, skip: int, types: dict[int, pa.DataType]) -> pa.Table:
    """Read columns (named by their number from 0) after ``skip`` lines; raises ArrowInvalid if the file has a fault."""
    names = [str(index) for index in range(width)]
    with opened(path) as file:
        content = _Ended(file, delimiter.join([_LAST] * width))
        table = pyarrow.csv.read_csv(
            pa.PythonFile(content, mode="r"),
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=skip, block_size=ROW_BYTES),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={names[index]: kind for index, kind in types.items()},
                include_columns=[names[index] for index in types],
                strings_can_be_null=False,
                null_values=[],
            ),
        )
    if content.fault:
        raise pa.ArrowInvalid(content.fault)
    if any(len(column) == 0 or column[-1].as_py() != _LAST for column in table.columns):
        raise pa.ArrowInvalid("a quote is opened and never closed")
    return table.slice(0, len(table) - 1)


class _Ended:
    """A file that is followed by one line more; notes if it holds NUL bytes or is not UTF-8."""

    closed = False

    def __init__(self, file: IO[bytes], last: str) -> None:
        self._file, self._last = file, f"\n{last}\n".encode()
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._ended = False
        self.fault = ""

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        if self._ended:
            return b""
        self._ended = not block
        try:
            self._decoder.decode(block, final=self._ended)
        except UnicodeDecodeError:
            self.fault = "not UTF-8 text"
        if b"\x00" in block:
            self.fault = "binary data"
        return block or self._last

    def close(self) -> None:
        self.closed = True


def rows(
    path: Path, file: IO[bytes] | None, delimiter: str, width: int | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number of its end, fields) of every row that is not blank; raises DataError for the first fault.

    Without ``file`` the path is opened. With ``width`` every row must have so many columns.
    """
    if file is None:
        with opened(path) as own:
            yield from rows(path, own, delimiter, width)
        return
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for number, line in lines_of(file):
            taken += len(line)
            if b"\x00" in line:
                raise DataError(f"{path}:{number}: binary data, not text; expected a CSV or TSV in UTF-8")
            yield decoded(path, number, line if line[-1:] in b"\r\n" else line + b"\n")
        yield _LAST

    reader = csv.reader(lines(), delimiter=delimiter)
    start = 1
    try:
        for row in reader:
            if row == [_LAST]:
                return
            if row and row[-1].endswith(_LAST):
                raise DataError(f"{path}:{start}: a quote is opened here and never closed; close it or remove it")
            if taken > ROW_BYTES:
                raise csv.Error
            if row and len(row) != (width or len(row)):
                raise DataError(
                    f"{path}:{reader.line_num}: {len(row)} columns, expected {width} as in line 1; check delimiters and"
                    " quotes"
                )
            if row:
                yield reader.line_num, row
            start, taken = reader.line_num + 1, 0
    except csv.Error as error:
        raise DataError(f"{path}:{start}: a row of more than {ROW_BYTES >> 20} MiB; check its quotes") from error
