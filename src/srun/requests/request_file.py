"""Reads request files: rows that name what must go, in the same forms and by the same rules as an import."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from srun.data.formats.columns import Wanted
from srun.data.importing import format_of, read_table


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
    wanted = Wanted(columns or {}, recorded or {}, request=True)
    table, content = read_table(path, format_of(path, form, wanted), wanted)
    frame = pd.DataFrame({name: table[name].astype("str") for name in ("user_id", "item_id") if name in table})
    if "timestamp" in table:
        frame["timestamp"] = table["timestamp"]
    lines = table["line"] if content is None else content.lines()
    return frame.assign(line=np.asarray(lines, dtype=np.int64))
