"""Opens a data file, plain or gzip by its first bytes, and reads its first lines as text.

A line ends with LF, CR LF or CR, in every format and on every way of reading; no other character ends one.
"""

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from srun.errors import DataError

SAMPLE = 1 << 16
"""Bytes that are looked at to tell what a file is."""


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes; gzip, which is seen from its first bytes, is unpacked on the way."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as content:
            yield cast(IO[bytes], content)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a plain or gzip file for reading; what goes wrong while it is read becomes a DataError naming it."""
    try:
        with unpacked(path) as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip data break off or are damaged ({error}); copy the file again") from error
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise DataError(f"{path}: cannot be read ({reason}); expected a data file") from error


def lines_of(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line with its end) of a file."""
    number = 0
    for chunk in file:
        for line in chunk.splitlines(keepends=True) if b"\r" in chunk else (chunk,):
            number += 1
            yield number, line


def sample_lines(path: Path) -> list[tuple[int, str]]:
    """Return (number, text) of a text file's first lines that are not blank; raises DataError if there are none."""
    with opened(path) as file:
        sample = file.read(SAMPLE)
    if not sample.removeprefix(b"\xef\xbb\xbf").strip():
        raise DataError(f"{path}: the file is empty; expected a header and rows, or ids, one or more a line")
    if sample[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: UTF-16 text; save it as UTF-8")
    if b"\x00" in sample:
        line = len(sample[: sample.index(b"\x00") + 1].splitlines())
        raise DataError(f"{path}:{line}: binary data, not text; expected CSV, TSV, Parquet or lines of ids, or gzip")
    whole = sample
    if len(sample) == SAMPLE:  # the last line, perhaps the only one, is cut
        whole = sample[: sample.rfind(b"\n") + 1] or sample.decode(errors="ignore").encode()
    lines = enumerate(whole.splitlines(), start=1)
    return [(number, decoded(path, number, line)) for number, line in lines if line.strip()]


def decoded(path: Path, number: int, line: bytes) -> str:
    """Return a line as text; raises DataError if it is not UTF-8."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: not UTF-8 text (byte 0x{error.object[error.start]:02x} at character {error.start + 1});"
            " save it as UTF-8, for example with iconv -f latin1 -t utf8"
        ) from error


def words(line: str) -> list[str]:
    """Return the words of a line: what stands between ASCII white space, so that an id may hold any other."""
    return [word.decode() for word in line.encode().split()]


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, cut to a readable length."""
    return " ".join(str(error).split())[:160]
