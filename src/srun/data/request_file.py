"""Read the rows of a request file by the readers and rules of an import."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from srun.data import importing
from srun.data.importing import DELIMITERS, _check_id, _check_time, _columns, _opened, _rows, _times
from srun.errors import DataError


def read_request(
    path: Path,
    *,
    form: str | None = None,
    columns: Mapping[str, str] | None = None,
    recorded: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Read the rows of a request file: user_id, item_id and timestamp where the file has them, and line.

    ``form`` and ``columns`` are those of ``read_import``. ``recorded`` is the mapping that the data set was imported
    with; a name of it counts where it stands in the header. user_id and item_id are trimmed text, timestamp int64
    seconds, line the line of the file (Parquet: the row, from 1). Rows keep their order; duplicates stay. Raises
    DataError naming file and line for what cannot be read, and for a file without rows.
    """
    if form is None:
        form = _guess(path, columns, recorded)
    if form not in DELIMITERS:
        table = importing._read(path, form, columns)
        texts = table.astype({"user_id": "str", "item_id": "str"})
        return texts.assign(line=np.arange(1, len(table) + 1))
    with _opened(path) as file:
        rows = list(_rows(path, file, DELIMITERS[form]))
    if not rows:
        raise DataError(f"{path}: the file is empty; expected a header and what to forget, one a line")
    header = [name.strip() for name in rows[0][1]]
    by_number = bool(columns) and all(value.isdigit() for value in (columns or {}).values())
    known = {} if by_number else {key: name for key, name in (recorded or {}).items() if name in header}
    found, has_header = _columns(path, header, {**known, **(columns or {})}, importing.COLUMNS)
    if "user" not in found:
        raise DataError(f"{path}:1: no column for the user; the header has {', '.join(header)[:120]}")
    body = list(islice(rows, int(has_header), None))
    if not body:
        raise DataError(f"{path}: a header and no rows; expected what to forget, one a line below it")
    for line, row in body:
        if len(row) != len(header):
            raise DataError(f"{path}:{line}: {len(row)} columns, expected {len(header)} as in line 1")
    table = {f"{key}_id": [row[found[key]].strip() for _, row in body] for key in ("user", "item") if key in found}
    for key, texts in table.items():
        for (line, _), text in zip(body, texts, strict=True):
            _check_id(f"{path}:{line}", key.removesuffix("_id"), text)
    frame = pd.DataFrame(table, dtype="str")
    if "time" in found:
        times = [row[found["time"]].strip() for _, row in body]
        numeric = bool(importing._NUMBER.fullmatch(times[0]))
        for (line, _), text in zip(body, times, strict=True):
            _check_time(f"{path}:{line}", text, numeric)
        frame["timestamp"] = _times(pa.chunked_array([times], pa.string()))
    return frame.assign(line=[line for line, _ in body])


def _guess(path: Path, columns: Mapping[str, str] | None, recorded: Mapping[str, str] | None) -> str:
    with _opened(path) as file:
        lines = importing._sample_lines(path, file.read(importing._SAMPLE))
    first = lines[0][1]
    if len(first.split()) == 1 and not any(mark in first for mark in ",;\t{"):
        return "csv"
    names = set((recorded or {}).values())
    for form, delimiter in DELIMITERS.items():
        if delimiter in first and names & {name.strip() for name in first.split(delimiter)}:
            return form
    return importing.guess_format(path, columns)[0]
