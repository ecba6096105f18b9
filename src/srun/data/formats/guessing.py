"""Guesses the format of a file from its content."""

import shlex
from pathlib import Path

from srun.data.formats.columns import DELIMITERS, Wanted, delimiter_of, known_columns, listed
from srun.data.formats.lines import is_header
from srun.data.formats.opening import opened, sample_lines, words
from srun.data.formats.records import AMAZON, STEAM, parse_record
from srun.data.values import shown
from srun.errors import DataError

LAYOUTS = {"amazon": AMAZON, "steam": STEAM}
FORMATS = (*DELIMITERS, "parquet", "pairs", "sequences", *LAYOUTS)


def guess_format(path: Path, wanted: Wanted | None = None) -> tuple[str, str]:
    """Return (format, why); raises DataError if the content fits none, or more than one."""
    wanted = wanted or Wanted()
    if is_parquet(path):
        return "parquet", "it begins with PAR1"
    lines = sample_lines(path)
    number, first = lines[0]
    if first.lstrip().startswith("{"):
        return _guess_records(path, number, first)
    guess = delimiter_of(first, wanted, tuple(DELIMITERS))
    if (guess and (wanted.columns or wanted.fits(guess[1]))) or (wanted.request and wanted.fits([first.strip()])):
        return guess[0] if guess else "csv", f"its first line is {shown(first)}"
    refuse_other_delimiters(path, number, first)
    if any(mark in first for mark in ",;"):
        raise DataError(
            f"{path}:{number}: no known column names in {shown(first)}; expected a header such as"
            " user_id,item_id,timestamp, separated by commas, semicolons or tabs. Name the columns with --columns"
            " user=..,item=..,time=.. (numbers from 1 if there is no header)"
        )
    return _guess_lines(path, lines)


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet by its first bytes."""
    with opened(path) as file:
        return file.read(4) == b"PAR1"


def refuse_other_delimiters(path: Path, number: int, line: str) -> None:
    """Raise DataError if a first line has its columns separated by something that is not read, with the way out."""
    for mark in ("::", "|"):
        names = line.split(mark)
        if len(names) > 1 and (len(words(line)) == 1 or is_header(names)):
            raise DataError(f'{path}:{number}: columns separated by "{mark}" ({shown(line)}); {_as_tabs(path, mark)}')
    known = set(known_columns(words(line)))
    if len(known) > 1 and known & {"user", "item"}:
        raise DataError(f"{path}:{number}: columns separated by spaces ({shown(line)}); {_as_tabs(path, ' ')}")


def _as_tabs(path: Path, mark: str) -> str:
    """Return the advice to make a TSV file, as a command that can be pasted."""
    with path.open("rb") as file:
        cat = "gzip -dc" if file.read(2) == b"\x1f\x8b" else "cat"
    translate = {"|": "tr '|'", "::": "tr -s ':'", " ": "tr -s ' '"}[mark]
    target = shlex.quote(f"{path.name}.tsv")
    return (
        f"separate them by tabs: {cat} {shlex.quote(str(path))} | {translate} '\\t' > {target}, and use {target} (with"
        " --format tsv --columns user=1,item=2,time=3 if there is no header)"
    )


def _guess_records(path: Path, number: int, line: str) -> tuple[str, str]:
    fields = parse_record(line.encode(), f"{path}:{number}")
    for form, layout in LAYOUTS.items():
        if layout.user in fields and layout.item in fields:
            return form, f"its records have {layout.user} and {layout.item}"
    wanted = " or ".join(f"{layout.user} and {layout.item}" for layout in LAYOUTS.values())
    raise DataError(f"{path}:{number}: a record with the fields {listed(list(map(str, fields)))}; expected {wanted}")


def _guess_lines(path: Path, lines: list[tuple[int, str]]) -> tuple[str, str]:
    counts = {len(words(line)) for _, line in lines}
    if counts == {2}:
        return "pairs", "its lines hold two words each"
    if min(counts) >= 2 and (len(counts) > 1 or min(counts) > 4):
        return "sequences", f"its lines hold {min(counts)} to {max(counts)} words"
    if counts in ({3}, {4}):
        columns = "--format tsv --columns user=1,item=2,time=.. (numbers of columns)"
        if "\t" not in lines[0][1]:
            columns = _as_tabs(path, " ")
        raise DataError(
            f"{path}:{lines[0][0]}: {counts.pop()} words on every line may be columns or sequences; if these are"
            f" sequences say --format sequences; if columns, {columns}"
        )
    number, line = next((number, line) for number, line in lines if len(words(line)) < 2)
    raise DataError(
        f"{path}:{number}: not a known form ({shown(line)}); expected a CSV or TSV with a header, Parquet, "
        '"user item" lines or "user item item ..." lines; say which with --format'
    )
