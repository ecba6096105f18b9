"""Lines of ids: "user item", or "user item item ..."; words are separated by ASCII white space."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from srun.data.formats.columns import Content, known_columns
from srun.data.formats.opening import decoded, opened, sample_lines, words
from srun.data.values import TEXT_IDS, shown
from srun.errors import DataError

BLOCK = 1 << 25


def read_lines(path: Path, pairs: bool) -> Content:
    """Read "user item" lines, or "user item item ..." lines; a user may have several lines. Raises DataError."""
    number, first = sample_lines(path)[0]
    if is_header(words(first)):
        raise DataError(
            f"{path}:{number}: a header ({shown(first)}), which lines of ids do not have; remove it, or separate the"
            " columns by tabs"
        )
    users, items = [], []
    with opened(path) as file:
        for first_line, block in blocks(file):
            counts, flat = split(path, first_line, block, pairs)
            starts = np.cumsum(counts) - counts
            is_item = np.ones(len(flat), dtype=bool)
            is_item[starts] = False
            users.append(flat.take(pa.array(np.repeat(starts, counts - 1))).dictionary_encode())
            items.append(flat.filter(pa.array(is_item)).dictionary_encode())

    def lines() -> np.ndarray:
        return _lines(path, pairs)

    def place(row: int, key: str) -> str:
        line = int(lines()[row])
        word = 1 if key == "user" else row - int(np.searchsorted(lines(), line)) + 2
        return f"{path}:{line}, word {word}"

    columns = {"user": pa.chunked_array(users, TEXT_IDS), "item": pa.chunked_array(items, TEXT_IDS)}
    return Content(columns, place, lines)


def is_header(names: list[str]) -> bool:
    """Whether the words of a line are the header of a log."""
    return {"user", "item"} <= set(known_columns(names))


def blocks(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (number of its first line, whole lines that end with LF) in blocks; the byte order mark is left out."""
    rest, line = b"", 1
    while block := file.read(BLOCK):
        block = rest + block
        end = block.rfind(b"\n") + 1
        rest = block[end:]
        if end:
            whole = _unix(block[:end], line)
            yield line, whole
            line += whole.count(b"\n")
    if rest:
        yield line, _unix(rest + b"\n", line)


def _unix(block: bytes, line: int) -> bytes:
    if line == 1:
        block = block.removeprefix(b"\xef\xbb\xbf")
    return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block


def split(path: Path, first_line: int, block: bytes, pairs: bool) -> tuple[np.ndarray, pa.Array]:
    """Return the number of words of each line that is not blank, and all words; raises DataError if one is wrong."""
    words_by_line = _words(block)
    counts = np.zeros(0, dtype=np.int64) if words_by_line is None else pc.list_value_length(words_by_line).to_numpy()
    if words_by_line is None or ((counts != 2) if pairs else (counts < 2)).any():
        raise_first_fault(path, first_line, block, pairs)
        raise DataError(f"{path}: cannot be read as lines of ids; save it as UTF-8")
    return counts, words_by_line.flatten()


def _words(block: bytes) -> pa.ListArray | None:
    """Return the words of each line that is not blank; None if the block is not UTF-8."""
    ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + 1
    offsets = np.r_[0, ends].astype(np.int32)
    lines = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(block))
    try:
        lines.validate(full=True)
    except pa.ArrowInvalid:
        return None
    lines = pc.ascii_trim_whitespace(lines)
    return pc.ascii_split_whitespace(lines.filter(pc.not_equal(lines, "")))


def _lines(path: Path, pairs: bool) -> np.ndarray:
    """Return the line of each interaction."""
    numbers = []
    with opened(path) as file:
        for first_line, block in blocks(file):
            counts, _ = split(path, first_line, block, pairs)
            filled = [bool(line.split()) for line in block.split(b"\n")]
            numbers.append(np.repeat(first_line + np.flatnonzero(filled), counts - 1))
    return np.concatenate(numbers)


def raise_first_fault(path: Path, first_line: int, block: bytes, pairs: bool) -> None:
    """Go through a block line by line and raise DataError for the first fault."""
    expected = "two words, a user and an item" if pairs else "a user and one or more items"
    for number, line in enumerate(block.split(b"\n"), start=first_line):
        text, count = decoded(path, number, line), len(line.split())
        if count and (count != 2 if pairs else count < 2):
            raise DataError(
                f"{path}:{number}: {count} words ({shown(text.strip())}); expected {expected}, separated by"
                " spaces or tabs"
            )
