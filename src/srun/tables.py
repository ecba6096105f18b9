"""CSV files of text cells, such as ids and titles: read back as they were, and harmless in a spreadsheet.

A spreadsheet takes a cell that begins with = + - @, a tab or a carriage return for a formula. Such a cell gets an
apostrophe in front, and so does one that begins with an apostrophe, so that ``read_table`` can take it off again.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from srun.errors import RunError, SrunError

MARK = "'"
MARKED = ("=", "+", "-", "@", "\t", "\r", MARK)


def harmless(cell: Any) -> Any:
    """A cell of a CSV file: text that a spreadsheet would take for a formula gets an apostrophe; numbers stay."""
    return MARK + cell if isinstance(cell, str) and cell.startswith(MARKED) else cell


def write_parquet(file: Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all; raises RunError where it cannot be written."""
    new = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(new, index=False)
        new.replace(file)
    except OSError as error:
        raise RunError(f"{file}: cannot be written ({error.strerror or error})") from error


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table whose columns are all text; ``read_table`` gives the same cells."""
    marked = table.apply(lambda column: column.where(~column.str.startswith(MARKED), MARK + column))
    # a bare carriage return would end the line for readers, and is quoted only when all is
    returns = any(column.str.contains("\r", regex=False).any() for _, column in table.items())
    quoting = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    marked.to_csv(path, index=False, lineterminator="\n", quoting=quoting)


def read_table(path: Path, columns: Sequence[str], error: type[SrunError], mend: str) -> pd.DataFrame:
    """Read what ``write_table`` wrote; raises ``error``, with ``mend`` as what to do, if it is no such table."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror or fault}); {mend}") from fault
    except ValueError as fault:  # pandas' own errors and those of decoding are of this kind
        raise error(f"{path}: not a CSV file in UTF-8; {mend}") from fault
    if list(table.columns) != list(columns):
        raise error(f"{path}:1: expected the header {','.join(columns)}; {mend}")
    if table.isna().any(axis=None) or not isinstance(table.index, pd.RangeIndex):
        raise error(f"{path}: a line has more or fewer than {len(columns)} fields; {mend}")
    return table.apply(lambda column: column.where(~column.str.startswith(MARK), column.str[1:]))
