"""Logs and item tables of every form, damaged: each is imported and reads back as it is, or is refused in one line."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from srun.data.formats.guessing import FORMATS
from srun.data.importing import column_mapping
from srun.data.raw import read_raw
from srun.errors import DataError, SrunError
from srun.flow.fetch import import_file

COUNT = 100
DELIMITERS = {"csv": ",", "tsv": "\t", "semicolons": ";"}
ODD = [
    "",
    " ",
    "nan",
    "0",
    "-1",
    "1e9",
    "1e400",
    "9" * 30,
    "u\u2028x",
    '"',
    "\x00",
    "∞",
    "\x1b[31m",
    "2020-02-30",
    "\ufeff",
]
LETTERS = b',;|"\n\r\t 0a{}[]:\\\x00\xff\xc3'
CATALOGUES = {"amazon": ("asin", "title", "categories"), "steam": ("id", "title", "genres")}
COLUMNS = ["user=user,item=item,time=time", "user=1,item=2,time=3", "user=user,item=item,time=none", "user=item", "=,a"]
ITEM_COLUMNS = ["item=item,title=title,categories=categories", "item=1", "item=title", "price=1"]


def log_rows(rng: random.Random) -> list[list[str]]:
    """(user, item, time) of a few users, with repeats."""
    return [
        [f"u{rng.randrange(5)}", f"i{rng.randrange(6)}", str(1_700_000_000 + n)] for n in range(rng.randrange(4, 30))
    ]


def item_rows(rng: random.Random) -> list[list[str]]:
    names = rng.sample(range(8), rng.randrange(3, 8))
    return [[f"i{name}", f"Item {name}, large", rng.choice(["red", "red|green", ""])] for name in names]


def spoil(rng: random.Random, rows: list[list[str]]) -> list[list[str]]:
    """Up to two cells or rows changed."""
    rows = [list(row) for row in rows]
    for _ in range(rng.choice([0, 1, 1, 2])):
        row = rng.choice(rows)
        change = rng.randrange(5)
        if change == 0:
            rows.remove(row)
        elif change == 1:
            rows.append(list(row))
        elif change == 2 and len(row) > 1:
            row.pop()
        elif change == 3:
            row.append(rng.choice(ODD))
        else:
            row[rng.randrange(len(row))] = rng.choice(ODD)
    return rows


def delimited(header: list[str] | None, rows: list[list[str]], delimiter: str) -> bytes:
    quoted = [[f'"{cell}"' if delimiter in cell else cell for cell in row] for row in rows]
    return "\n".join(delimiter.join(row) for row in ([header] if header else []) + quoted).encode() + b"\n"


def parquet(header: list[str], rows: list[list[str]], path: Path) -> bytes:
    """Written aside, whatever the rows' lengths."""
    columns = {name: [row[n] if n < len(row) else None for row in rows] for n, name in enumerate(header)}
    pyarrow.parquet.write_table(pa.table(columns), path)
    content = path.read_bytes()
    path.unlink()
    return content


def records(form: str, rows: list[list[str]]) -> bytes:
    """One review a line, as its publisher gives it."""
    names = {"amazon": ("reviewerID", "asin", "unixReviewTime"), "steam": ("username", "product_id", "date")}[form]
    lines = []
    for row in rows:
        values = dict(zip(names, row, strict=False))
        if form == "steam":
            values["date"] = "2017-11-01"
        elif values.get(names[2], "").isdigit():
            values[names[2]] = int(values[names[2]])
        lines.append(json.dumps(values) if form == "amazon" else repr(values))
    return "\n".join(lines).encode() + b"\n"


def log_file(rng: random.Random, form: str, folder: Path) -> bytes:
    rows = spoil(rng, log_rows(rng))
    if form in DELIMITERS:
        return delimited(rng.choice([["user", "item", "time"], None]), rows, DELIMITERS[form])
    if form == "parquet":
        return parquet(["user", "item", "time"], rows, folder / "aside")
    if form in CATALOGUES:
        return records(form, rows)
    width = 2 if form == "pairs" else 9
    return "\n".join(" ".join(row[:width]) for row in rows).encode()


def item_file(rng: random.Random, form: str, folder: Path) -> bytes:
    rows = spoil(rng, item_rows(rng))
    if form in CATALOGUES and rng.random() < 0.7:
        names = CATALOGUES[form]
        described = [dict(zip(names, [*row[:2], [row[2:]]], strict=False)) for row in rows]
        return "\n".join(map(json.dumps if form == "amazon" else repr, described)).encode()
    if rng.random() < 0.2:
        return parquet(["item", "title", "categories"], rows, folder / "aside")
    return delimited(["item", "title", "categories"], rows, rng.choice([",", "\t", ";"]))


def damage(rng: random.Random, content: bytes) -> bytes:
    """Mostly as it is; else some bytes changed, lost or doubled, the end cut off, or all of it packed."""
    data = bytearray(content)
    for _ in range(rng.choice([0, 0, 0, 1, 3])):
        if not data:
            break
        place = rng.randrange(len(data))
        change = rng.randrange(4)
        if change == 0:
            data[place] = rng.choice(LETTERS)
        elif change == 1:
            del data[place]
        elif change == 2:
            data[place:place] = data[place : place + rng.randrange(1, 40)]
        else:
            del data[place:]
    if rng.random() < 0.1:
        data = bytearray(gzip.compress(bytes(data)))
        if rng.random() < 0.3:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def outcome(fuzz, folder: Path, items: Path | None, options: dict) -> str:
    """Whether the files are refused, as they must be, or imported; every other exception fails the test."""
    raw = folder / "raw"
    try:
        info = import_file(folder / "log", "own", raw, items=items, **options)
    except SrunError as error:
        assert not raw.exists(), "nothing is half-written"
        return fuzz.refused(error, folder)
    data = read_raw(raw / "own")
    assert data.info == info
    assert len(data.interactions) == info["num_interactions"] >= 2
    return "imported"


@pytest.mark.fuzz("imports")
def test_a_damaged_log_is_imported_whole_or_refused_in_one_line(fuzz):
    def case(number, folder):
        rng = random.Random(number)
        form = rng.choice(list(FORMATS))
        (folder / "log").write_bytes(damage(rng, log_file(rng, form, folder)))
        columns = rng.choice([None, None, *COLUMNS])
        try:
            mapping = column_mapping(columns)
        except DataError:
            mapping = None
        named = rng.choice([None, None, form, rng.choice(list(FORMATS))])
        return outcome(fuzz, folder, None, {"form": named, "columns": mapping})

    outcomes = fuzz.run(COUNT, case)
    assert min(outcomes["refused"], outcomes["imported"]) > outcomes.total() / 10, outcomes


@pytest.mark.fuzz("item-tables")
def test_a_damaged_item_table_is_imported_whole_or_refused_in_one_line(fuzz):
    def case(number, folder):
        rng = random.Random(number)
        form = rng.choice(["csv", "csv", "parquet", "amazon", "steam"])
        rows = [[f"u{n % 5}", f"i{n % 6}", str(1_700_000_000 + n)] for n in range(25)]
        log = {"csv": delimited(["user", "item", "time"], rows, ","), "parquet": b""}.get(form)
        log = records(form, rows) if log is None else log or parquet(["user", "item", "time"], rows, folder / "aside")
        (folder / "log").write_bytes(log)
        (folder / "items").write_bytes(damage(rng, item_file(rng, form, folder)))
        columns = rng.choice([None, None, None, *ITEM_COLUMNS])
        return outcome(fuzz, folder, folder / "items", {"item_columns": column_mapping(columns)})

    outcomes = fuzz.run(COUNT, case)
    assert min(outcomes["refused"], outcomes["imported"]) > outcomes.total() / 10, outcomes
