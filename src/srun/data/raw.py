"""The canonical raw table: one fixed form on disk for every data set, wherever its bytes came from.

A raw data set is a folder:

- ``interactions.csv``: header ``user_id,item_id,timestamp``; rows sorted by user, time to the nanosecond, item; no
  exact duplicates (two rows may be alike where fractions of a second, which are not written, told them apart);
- ``items.csv`` (only where there is an item table): header ``item_id,title,categories``, categories separated by ``|``;
  rows sorted by item; only items that occur in the log;
- ``dataset.json``: name, fingerprint, counts, licence and citation, and, where a file with a header was imported, the
  names that its columns had; no paths and no times.

UTF-8, ``\\n`` line ends, a field is quoted only where it holds a comma or a quote. Ids are text. They sort as numbers
where every id of the column is an integer (of any size), else by their UTF-8 bytes. ``values`` says what counts as
missing: no id, no title, no category. Timestamps are integers (unix
seconds); where the log has none (``time: order``) they are 0, 1, 2, ...: the place in the user's own sequence.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from srun.data.values import BROKEN, is_missing, missing
from srun.errors import DataError, RunError
from srun.files import write_folder
from srun.names import name_fault

INTERACTIONS = "interactions.csv"
ITEMS = "items.csv"
INFO = "dataset.json"
INTERACTION_COLUMNS = ["user_id", "item_id", "timestamp"]
ITEM_COLUMNS = ["item_id", "title", "categories"]
SEPARATOR = "|"
"""Between the categories of one item."""

FEW_ITEMS = 10
"""A catalogue of so many items, or fewer, has every item among the first ten, and every Hit@10 is 1."""

_INTEGER = r"^-?[0-9]{1,1000}$"  # ids longer than this are text
_CHUNK = 1 << 20
_BILLION = 10**9


@dataclass(frozen=True)
class RawData:
    """A raw data set in canonical order.

    ``interactions``: user_id and item_id are categorical, their categories text in canonical order, each of them used
    (so ``.cat.codes`` are dense ids from 0 that keep the order); timestamp is int64. ``items``: text columns item_id,
    title, categories (``|``-separated, empty where there are none), or None. ``info``: the content of dataset.json.
    """

    name: str
    interactions: pd.DataFrame
    items: pd.DataFrame | None
    info: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the bytes of interactions.csv, followed by those of items.csv if there is one."""
        return str(self.info["fingerprint"])


def check_name(name: str) -> str:
    """Return ``name`` if a data set may be called so; raises DataError otherwise."""
    if fault := name_fault(name, "data set"):
        raise DataError(f'data set name "{name}": {fault}')
    return name


def canonical(
    interactions: pd.DataFrame,
    items: pd.DataFrame | None,
    *,
    name: str,
    time: Literal["unix", "order"] = "unix",
    licence: str = "",
    citation: str = "",
) -> RawData:
    """Bring tables into canonical form: sorted, without exact duplicates, items cut down to those in the log.

    ``interactions`` has user_id and item_id (text, integers or categorical of text) and, unless ``time`` is
    ``order``, an integer timestamp; where it has nanosecond too, that decides the order within a second and what is a
    duplicate. With ``order`` a timestamp is made: the place of the row within its user's rows, in
    the order given, so that a repeated line is never a duplicate. Of several rows of ``items`` with one id the first
    counts; spaces in titles and categories are made single. Raises DataError for empty tables, missing values, ids with
    control characters, negative times.
    """
    check_name(name)
    if len(interactions) == 0:
        raise DataError(f'data set "{name}": no interactions; expected at least one row')
    users, user_ids = _encode(interactions["user_id"], "user_id", name)
    item_codes, item_ids = _encode(interactions["item_id"], "item_id", name)
    times = positions(users) if time == "order" else _timestamps(interactions["timestamp"], name)
    precise = time == "unix" and "nanosecond" in interactions
    if precise:
        times = _nanoseconds(times, interactions["nanosecond"], name)
    order = _order(users, times, item_codes)
    users, times, item_codes = users[order], times[order], item_codes[order]
    del order
    keep = np.ones(len(users), dtype=bool)
    keep[1:] = (users[1:] != users[:-1]) | (times[1:] != times[:-1]) | (item_codes[1:] != item_codes[:-1])
    duplicates = int(len(keep) - keep.sum())
    if duplicates:
        users, times, item_codes = users[keep], times[keep], item_codes[keep]
    if precise:
        times //= _BILLION
    table = _frame(users, user_ids, item_codes, item_ids, times)
    item_table = None if items is None else _canonical_items(items, item_ids)
    info = {
        **_counted(name, table, item_table),
        "num_duplicates_dropped": duplicates,
        "num_described_items": 0 if item_table is None else len(item_table),
        "time": time,
        "licence": licence,
        "citation": citation,
    }
    return RawData(name, table, item_table, info)


def without_rows(data: RawData, gone: NDArray[np.bool_]) -> RawData:
    """The same log without the rows ``gone`` (N,); users and items without a row go too.

    Raises DataError where nothing would stay.
    """
    if gone.all():
        raise DataError(f'data set "{data.name}": nothing stays of its log')
    kept = data.interactions[~gone]
    table = pd.DataFrame(
        {
            "user_id": kept["user_id"].cat.remove_unused_categories(),
            "item_id": kept["item_id"].cat.remove_unused_categories(),
            "timestamp": kept["timestamp"].to_numpy(),
        }
    )
    items = data.items
    if items is not None:
        items = items[items["item_id"].isin(table["item_id"].cat.categories)].reset_index(drop=True)
    return RawData(data.name, table, items, {**data.info, **_counted(data.name, table, items)})


def with_users(data: RawData, names: Mapping[str, str]) -> RawData:
    """The same log with other ids of users: ``names`` has one for each. Users are sorted anew."""
    old = data.interactions["user_id"]
    new = pa.array([names[user] for user in old.cat.categories], type=pa.string())
    order = sort_ids(new)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    codes = rank[old.cat.codes.to_numpy()]
    rows = np.argsort(codes, kind="stable")
    items = data.interactions["item_id"]
    table = _frame(
        codes[rows],
        new.take(pa.array(order)),
        items.cat.codes.to_numpy()[rows],
        pa.array(items.cat.categories, type=pa.string()),
        data.interactions["timestamp"].to_numpy()[rows],
    )
    return RawData(data.name, table, data.items, {**data.info, **_counted(data.name, table, data.items)})


def _counted(name: str, table: pd.DataFrame, items: pd.DataFrame | None) -> dict[str, Any]:
    """Name, fingerprint and counts of tables in canonical form."""
    digest = hashlib.sha256()
    for block in _interaction_bytes(table):
        digest.update(block)
    if items is not None:
        digest.update(_item_bytes(items))
    return {
        "name": name,
        "fingerprint": digest.hexdigest(),
        "num_users": len(table["user_id"].cat.categories),
        "num_items": len(table["item_id"].cat.categories),
        "num_interactions": len(table),
    }


def positions(users: np.ndarray) -> np.ndarray:
    """Return, for each row, how many rows of the same user stand before it: 0, 1, 2, ...; ``users`` are codes."""
    order = np.argsort(users, kind="stable")
    ordered = users[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(ordered)])
    places = np.empty(len(users), dtype=np.int64)
    places[order] = np.arange(len(users), dtype=np.int64) - np.repeat(starts, lengths)
    return places


def write_raw(folder: Path, data: RawData) -> None:
    """Write a data set as ``folder``, whole or not at all; a data set that stood there is replaced.

    Raises RunError if it cannot be written (permission, no space), or if something stands there that is no data set;
    then that still does. Where ``folder`` is a link, the folder it leads to is written.
    """
    folder = folder.resolve()
    if folder.exists() and not _replaceable(folder):
        raise RunError(f"{folder}: not a data set, so it is not replaced; remove it or choose another place")
    with write_folder(folder) as new:
        _write_file(new / INTERACTIONS, _interaction_bytes(data.interactions))
        if data.items is not None:
            _write_file(new / ITEMS, iter([_item_bytes(data.items)]))
        text = json.dumps(data.info, indent=2, ensure_ascii=False) + "\n"
        _write_file(new / INFO, iter([text.encode()]))


def read_info(folder: Path) -> dict[str, Any]:
    """Return the content of a raw folder's dataset.json; raises DataError if it is missing or not one.

    It has ``columns`` (user, item and time -> the name in the header) only where a file with a header was imported.
    """
    path = folder / INFO
    try:
        info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{folder}: no raw data set here ({INFO} is missing); {_mend(folder)}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_mend(folder)}") from error
    known = {"name": str, "fingerprint": str, "num_users": int, "num_items": int, "num_interactions": int}
    for key, kind in known.items():
        if not isinstance(info, dict) or not isinstance(info.get(key), kind):
            raise DataError(f'{path}: no valid "{key}"; {_mend(folder)}')
    columns = info.get("columns", {})
    if not isinstance(columns, dict) or not all(isinstance(name, str) for name in columns.values()):
        raise DataError(f'{path}: no valid "columns"; {_mend(folder)}')
    return info


def read_raw(folder: Path) -> RawData:
    """Read a raw data set and verify it against its fingerprint and counts; raises DataError if anything differs."""
    info = read_info(folder)
    digest = hashlib.sha256()
    try:
        for path in (folder / INTERACTIONS, folder / ITEMS):
            if path.name == INTERACTIONS or path.exists():
                _hash_file(path, digest)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); {_mend(folder)}") from error
    if digest.hexdigest() != info["fingerprint"]:
        raise DataError(f"{folder}: the files do not fit the sha256 in {INFO}; {_mend(folder)}")
    interactions = _read_interactions(folder)
    items = _read_items(folder / ITEMS) if (folder / ITEMS).exists() else None
    counts = {
        "num_users": len(interactions["user_id"].cat.categories),
        "num_items": len(interactions["item_id"].cat.categories),
        "num_interactions": len(interactions),
    }
    for key, count in counts.items():
        if info[key] != count:
            raise DataError(f"{folder}: {INFO} says {key} {info[key]}, the table has {count}; {_mend(folder)}")
    return RawData(info["name"], interactions, items, info)


def read_categories(folder: Path) -> set[str]:
    """Every category of a raw data set's item table; empty without one. Cheap: nothing else is read or verified."""
    if not (folder / ITEMS).exists():
        return set()
    return {name for names in _read_items(folder / ITEMS)["categories"] for name in names.split(SEPARATOR) if name}


def sort_ids(ids: pa.Array) -> np.ndarray:
    """Return the indices that bring distinct text ids into canonical order: as numbers if all are integers, else bytes.

    Integers of equal value ("7", "07") follow each other in the order of their bytes.
    """
    by_bytes: np.ndarray = pc.sort_indices(ids).to_numpy()
    if not pc.all(pc.match_substring_regex(ids, _INTEGER)).as_py():
        return by_bytes
    try:
        numbers = pc.cast(ids, pa.int64()).to_numpy()
    except pa.ArrowInvalid:  # some are beyond int64: Python's own integers, a loop over distinct ids only
        numbers = np.array([int(text) for text in ids.to_pylist()], dtype=object)
    return by_bytes[np.argsort(numbers[by_bytes], kind="stable")]


def _replaceable(folder: Path) -> bool:
    """Whether an existing path is a folder that is empty or holds a data set, perhaps a broken one."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    return not names or bool(names & {INTERACTIONS, ITEMS, INFO})


def _mend(folder: Path) -> str:
    return f'fetch or import it again (remove {folder} first if it is not a data set), see "srun data --help"'


def _encode(column: pd.Series, label: str, name: str) -> tuple[np.ndarray, pa.Array]:
    """Return (codes int32, ids): ids are the distinct texts in canonical order, codes the index of each row's id."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = column.cat.codes.to_numpy()
        ids = pa.array(column.cat.categories, type=pa.string(), from_pandas=True)
        used = np.zeros(len(ids) + 1, dtype=bool)
        used[codes] = True
        gaps = bool(used[-1])
        kept = np.flatnonzero(used[:-1])
        ids = ids.take(pa.array(kept))
    else:
        values = pa.array(column, from_pandas=True)
        values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        gaps = values.null_count > 0
        encoded = pc.cast(values, pa.string()).dictionary_encode()
        codes, ids = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), encoded.dictionary
        kept = np.arange(len(ids))
    if gaps or (len(ids) and pc.any(missing(ids)).as_py()):
        raise DataError(f'data set "{name}": a missing {label}; every interaction needs one')
    broken = ids.filter(pc.match_substring_regex(ids, BROKEN))
    if len(broken):
        raise DataError(f'data set "{name}": {label} {broken[0].as_py()!r} holds a control character; remove it')
    order = sort_ids(ids)
    rank = np.full(int(kept.max()) + 1, -1, dtype=np.int32)
    rank[kept[order]] = np.arange(len(order), dtype=np.int32)
    return rank[codes], ids.take(pa.array(order))


def _timestamps(column: pd.Series, name: str) -> np.ndarray:
    if column.isna().any() or not pd.api.types.is_integer_dtype(column.dtype):
        raise DataError(f'data set "{name}": timestamps must be integers (unix seconds) without gaps')
    times: np.ndarray = column.to_numpy(dtype=np.int64)
    if times.min() < 0:
        raise DataError(f'data set "{name}": a negative timestamp ({times.min()}); expected unix seconds')
    return times


def _nanoseconds(times: np.ndarray, part: pd.Series, name: str) -> np.ndarray:
    """Return whole times with the nanoseconds of a second, as one number."""
    if int(times.max()) >= np.iinfo(np.int64).max // _BILLION:
        raise DataError(f'data set "{name}": timestamp {times.max()} is too large to have nanoseconds beside it')
    nanoseconds: np.ndarray = times * _BILLION + part.to_numpy(dtype=np.int64)
    return nanoseconds


def _order(users: np.ndarray, times: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the indices that sort by user, timestamp, item: one key of 64 bits where they fit, else three."""
    first = int(times.min())
    item_bits, time_bits = int(items.max()).bit_length(), (int(times.max()) - first).bit_length()
    if int(users.max()).bit_length() + time_bits + item_bits > 63:
        return np.lexsort((items, times, users))
    key = users.astype(np.int64)
    key <<= time_bits
    key |= times - first
    key <<= item_bits
    key |= items
    return np.argsort(key, kind="stable")


def _frame(
    users: np.ndarray, user_ids: pa.Array, items: np.ndarray, item_ids: pa.Array, times: np.ndarray
) -> pd.DataFrame:
    columns = {
        "user_id": pd.Categorical.from_codes(users, categories=pd.Index(user_ids.to_pandas(), dtype="str")),
        "item_id": pd.Categorical.from_codes(items, categories=pd.Index(item_ids.to_pandas(), dtype="str")),
        "timestamp": times,
    }
    return pd.DataFrame(columns, copy=False)


def _canonical_items(items: pd.DataFrame, item_ids: pa.Array) -> pd.DataFrame:
    """Return the rows of items in the log, in canonical order, with tidy titles and categories."""
    known = pd.Index(item_ids.to_pandas(), dtype="str")
    table = pd.DataFrame({"item_id": items["item_id"].astype("str")})
    table["title"] = _tidy(items["title"]) if "title" in items else ""
    table["categories"] = _tidy_categories(items["categories"]) if "categories" in items else ""
    place = known.get_indexer(table["item_id"])
    table = table.assign(place=place)[place >= 0].drop_duplicates("place").sort_values("place")
    return table[ITEM_COLUMNS].astype("str").reset_index(drop=True)


def _tidy(column: pd.Series) -> pd.Series:
    """Return text with single spaces; empty where it stands for no value."""
    text = column.fillna("").astype("str")
    text = text.str.replace(r"[\s\x00-\x1f\x7f]+", " ", regex=True).str.strip()
    return text.mask(missing(pa.array(text, type=pa.string())).to_numpy(zero_copy_only=False), "")


def _tidy_categories(column: pd.Series) -> pd.Series:
    """Single spaces, no empty and no repeated category, the order kept; distinct values are worked on once."""
    codes, distinct = pd.factorize(_tidy(column))
    tidy = [_tidy_names(text) for text in distinct]
    return pd.Series(np.array(tidy, dtype=object)[codes], index=column.index, dtype="str")


def _tidy_names(text: str) -> str:
    names = (name.strip() for name in text.split(SEPARATOR))
    return SEPARATOR.join(dict.fromkeys(name for name in names if not is_missing(name)))


def _quoted(values: pa.Array) -> pa.Array:
    """Return CSV fields: quoted where they hold a comma or a quote, quotes doubled."""
    doubled = pc.replace_substring(values, '"', '""')
    return pc.if_else(
        pc.match_substring_regex(values, '[,"]'), pc.binary_join_element_wise('"', doubled, '"', ""), values
    )


def _lines(*columns: pa.Array) -> bytes:
    """Return the rows of text columns as CSV lines."""
    rows = pc.binary_join_element_wise(*columns, ",")
    rows = pc.binary_join_element_wise(rows, "\n", "")
    start, end = rows.offset, rows.offset + len(rows)
    offsets = np.frombuffer(rows.buffers()[1], dtype=np.int32 if rows.type == pa.string() else np.int64)
    text = rows.buffers()[2].slice(int(offsets[start]), int(offsets[end] - offsets[start]))
    return bytes(text.to_pybytes())


def _interaction_bytes(table: pd.DataFrame) -> Iterator[bytes]:
    """Yield interactions.csv in blocks; the same bytes with every version of every library."""
    yield (",".join(INTERACTION_COLUMNS) + "\n").encode()
    user_ids = _quoted(pa.array(table["user_id"].cat.categories, type=pa.string()))
    item_ids = _quoted(pa.array(table["item_id"].cat.categories, type=pa.string()))
    users, items = table["user_id"].cat.codes.to_numpy(), table["item_id"].cat.codes.to_numpy()
    times = table["timestamp"].to_numpy()
    for start in range(0, len(table), _CHUNK):
        rows = slice(start, start + _CHUNK)
        yield _lines(
            user_ids.take(pa.array(users[rows])),
            item_ids.take(pa.array(items[rows])),
            pc.cast(pa.array(times[rows]), pa.string()),
        )


def _item_bytes(items: pd.DataFrame) -> bytes:
    """Return items.csv; an item table has at most as many rows as there are items."""
    header = (",".join(ITEM_COLUMNS) + "\n").encode()
    if len(items) == 0:
        return header
    return header + _lines(*(_quoted(pa.array(items[column].to_list(), type=pa.string())) for column in ITEM_COLUMNS))


def _write_file(path: Path, blocks: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _hash_file(path: Path, digest: "hashlib._Hash") -> None:
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)


def _read_csv(path: Path, types: dict[str, pa.DataType]) -> pa.Table:
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=1 << 24),
            convert_options=pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False, null_values=[]),
        )
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_mend(path.parent)}") from error
    if table.column_names != list(types):
        raise DataError(f"{path}: expected columns {','.join(types)}, found {','.join(table.column_names)}")
    return table


def _read_interactions(folder: Path) -> pd.DataFrame:
    text = pa.dictionary(pa.int32(), pa.string())
    table = _read_csv(folder / INTERACTIONS, {"user_id": text, "item_id": text, "timestamp": pa.int64()})
    codes, ids = {}, {}
    for column in ("user_id", "item_id"):
        encoded = table.column(column).unify_dictionaries().combine_chunks()
        column_ids = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
        order = sort_ids(column_ids.dictionary)
        rank = np.empty(len(order), dtype=np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        codes[column], ids[column] = rank[column_ids.indices.to_numpy()], column_ids.dictionary.take(pa.array(order))
    times = table.column("timestamp").to_numpy()
    return _frame(codes["user_id"], ids["user_id"], codes["item_id"], ids["item_id"], times)


def _read_items(path: Path) -> pd.DataFrame:
    table = _read_csv(path, dict.fromkeys(ITEM_COLUMNS, pa.string()))
    return pd.DataFrame({column: table.column(column).to_pandas().astype("str") for column in ITEM_COLUMNS})
