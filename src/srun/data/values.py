"""What a single value may be: the one rule for missing values, and for ids, in every format and every table.

Spaces around a value do not count. Empty text, ``nan``, ``null``, ``none`` and ``<NA>`` (in any case) are missing.
"""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

MISSING = ("", "nan", "null", "none", "<na>")
_MISSING_PATTERN = rf"(?i)^({'|'.join(filter(None, MISSING))})?$"
BROKEN = "[\\x00-\\x1f\\x7f\ufeff]"
"""Control characters and byte order marks: no id may hold one."""
TEXT_IDS = pa.dictionary(pa.int32(), pa.string())

_SHOWN = 60


class FaultError(Exception):
    """One row of a column is wrong; the caller knows in which place of which file it stands."""

    def __init__(self, row: int, fault: str) -> None:
        super().__init__(fault)
        self.row = row


def is_missing(text: str) -> bool:
    """Whether a text stands for no value."""
    return text.strip().lower() in MISSING


def missing(texts: pa.Array) -> pa.BooleanArray:
    """Return for each text whether it stands for no value."""
    return pc.match_substring_regex(pc.utf8_trim_whitespace(texts), _MISSING_PATTERN)


def shown(text: str) -> str:
    """Return text as a message quotes it: on one line, not too long, with escapes for what cannot be seen."""
    cut = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    visible = (char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)
    return '"' + "".join(visible) + '"'


def id_fault(key: str, text: str) -> str | None:
    """Return what is wrong with a trimmed id, or None; ``key`` is what it identifies, such as user."""
    if is_missing(text):
        return f"the {key} is missing ({shown(text)}); fill it in or remove the line"
    if re.search(BROKEN, text):
        character = "a byte order mark (U+FEFF)" if "\ufeff" in text else "a control character"
        return f"the {key} {shown(text)} holds {character}; remove it"
    return None


def read_ids(column: pa.ChunkedArray, key: str) -> pd.Categorical:
    """Return a column of dictionary-encoded text as trimmed ids; raises FaultError for the first row that is none."""
    encoded = column.unify_dictionaries().combine_chunks()
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    trimmed = pc.utf8_trim_whitespace(encoded.dictionary).dictionary_encode()
    codes, ids = trimmed.indices.to_numpy()[encoded.indices.to_numpy()], trimmed.dictionary
    bad = pc.or_(missing(ids), pc.match_substring_regex(ids, BROKEN)).to_numpy(zero_copy_only=False)
    if bad.any() and len(rows := np.flatnonzero(bad[codes])):
        fault = id_fault(key, ids[int(codes[rows[0]])].as_py())
        raise FaultError(int(rows[0]), str(fault))
    used = np.zeros(len(ids), dtype=bool)
    used[codes] = True
    codes, ids = (np.cumsum(used) - 1)[codes].astype(np.int32), ids.filter(pa.array(used))
    return pd.Categorical.from_codes(codes, categories=pd.Index(ids.to_pandas(), dtype="str"))
