"""Times -> whole seconds since 1970 and, apart, the nanoseconds beyond them, which decide the order.

Times are numbers since 1970-01-01 UTC or ISO 8601 dates (UTC where no zone is given), from 1970 to 2099. Numbers are
seconds; those that are only plausible as milli-, micro- or nanoseconds are taken as such (which is told in the log).
Text is read exactly: no digit passes through a float.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Context, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from srun.data.values import FaultError, shown

log = logging.getLogger("srun.data")

UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")
BILLION = 10**9
END = 4_102_444_800
"""2100-01-01, in seconds: no time lies there or later."""
_SURE = 10**8  # 1973-03-03: numbers are in a unit other than seconds only from here on
_BOUNDS = np.array([END, *(bound * 1000**power for power in (1, 2, 3) for bound in (_SURE, END))], dtype=np.int64)
_FACTORS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": BILLION}
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_PLAIN = r"^(?P<whole>[0-9]{1,18})(?:\.(?P<part>[0-9]*))?$"
_DATE = r"^[0-9]{4}([-/][0-9]|[0-9]{4}T)"
_WHOLE = "seconds since 1970 (or milli-, micro- or nanoseconds), not negative"
_ISO = "an ISO 8601 date such as 2014-07-23T10:00:00, from 1970 to 2099"
_MEND = "correct it or remove the line"

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Times:
    """Seconds since 1970, and the nanoseconds beyond them; None if no time has any."""

    seconds: Ints
    nanoseconds: Ints | None
    unit: str
    """In which they were given: one of UNITS, or dates."""


def holds_times(kind: pa.DataType) -> bool:
    """Whether ``read_times`` reads a type."""
    tests = (pa.types.is_string, pa.types.is_timestamp, pa.types.is_date, pa.types.is_integer, pa.types.is_floating)
    return pa.types.is_decimal(kind) or any(test(kind) for test in tests)


def read_times(column: pa.ChunkedArray) -> Times:
    """Return the times of a column of text or of any type that ``holds_times``.

    Raises FaultError for the first row that is no time or of another unit than the rows before.
    """
    kind = column.type
    values = column.combine_chunks()
    if pa.types.is_timestamp(kind):
        return _of_stamps(values)
    if pa.types.is_date(kind):
        return _of_stamps(pc.cast(values, pa.timestamp("ms")))
    if pa.types.is_integer(kind):
        wide = values if not pa.types.is_uint64(kind) else _narrowed(values)
        return in_seconds(pc.cast(wide, pa.int64()).to_numpy(zero_copy_only=False), None)
    if pa.types.is_floating(kind):
        return _of_floats(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False))
    return _of_text(pc.utf8_trim_whitespace(pc.cast(values, pa.string())))


def exact(text: str) -> tuple[int, int] | None:
    """Return (whole part, billionths) of a number in text, fractions beyond those cut off; None if it is no time."""
    if not _NUMBER.fullmatch(text):
        return None
    return exact_decimal(Decimal(text))


def exact_decimal(number: Decimal) -> tuple[int, int] | None:
    """The same for a decimal number of any size."""
    if not number.is_finite() or not 0 <= number < 1 << 63:
        return None
    context = Context(prec=60, rounding=ROUND_FLOOR, Emin=-(10**9), Emax=10**9, traps=[])
    whole, part = divmod(int(context.multiply(number, Decimal(BILLION))), BILLION)
    return whole, part


def in_seconds(whole: Ints, part: Ints | None, text: Callable[[int], str] | None = None) -> Times:
    """Find the unit of numbers (``part``: billionths of it beyond ``whole``) and turn them into seconds.

    Raises FaultError for the first number that is negative, plausible in no unit, or of another unit than the first.
    ``text`` gives a row's number as it stands in the file.
    """
    text = text or (lambda row: str(whole[row]))
    slots = np.searchsorted(_BOUNDS, [whole.min(), whole.max()], side="right")
    if whole.min() < 0 or slots[0] != slots[1] or slots[0] % 2:
        _refuse(whole, text)
    power = int(slots[0]) // 2
    if _looks_like_dates(whole, 12):
        raise FaultError(0, f"the time is {shown(text(0))}, which seems a date written YYYYMMDDhhmm; expected {_ISO}")
    factor = 1000**power
    seconds, rest = (whole, None) if power == 0 else (whole // factor, whole % factor * (BILLION // factor))
    if part is not None:
        rest = part if rest is None else rest + part // factor
    return Times(seconds, rest if rest is not None and rest.any() else None, UNITS[power])


def _refuse(whole: Ints, text: Callable[[int], str]) -> None:
    """Raise FaultError for the first number that is no time, or not of the first one's unit."""
    slots = np.searchsorted(_BOUNDS, whole, side="right")
    row = int(np.flatnonzero((whole < 0) | (slots % 2 == 1) | (slots != slots[0]))[0])
    said = f"the time is {shown(text(row))}"
    if whole[row] < 0:
        raise FaultError(row, f"{said}; expected {_WHOLE}; {_MEND}")
    if slots[row] % 2:
        raise FaultError(
            row,
            f"{said}, which no unit makes a date from 1970 to 2099; expected {_WHOLE}, or {_ISO} (not YYYYMMDDhhmmss)",
        )
    raise FaultError(
        row,
        f"{said}: {UNITS[slots[row] // 2]} by its size, while the first one, {shown(text(0))}, is"
        f" {UNITS[slots[0] // 2]}; write all in one unit",
    )


def log_times(path: Path | str, times: Times) -> None:
    """Log how the times were read: unit, first and last date, fractions, and what looks odd."""
    first, last = int(times.seconds.min()), int(times.seconds.max())
    log.info("%s: times from %s to %s (UTC), read as %s", path, _date(first), _date(last), times.unit)
    if times.unit in UNITS[1:]:
        log.warning("%s: the times are %s by their size; they are converted to seconds", path, times.unit)
    if times.nanoseconds is not None:
        count = int(np.count_nonzero(times.nanoseconds))
        log.warning("%s: %d times have a fraction of a second; it decides the order and is then cut off", path, count)
    if times.unit != UNITS[0]:
        return
    for digits, form in ((8, "YYYYMMDD"), (10, "YYYYMMDDhh")):
        if _looks_like_dates(times.seconds, digits):
            log.warning("%s: the times seem dates written %s, but are read as seconds; write YYYY-MM-DD", path, form)
            return
    if last < _SURE:
        log.warning(
            "%s: read as seconds, the times end on %s; if they count something else (days, steps), the order is right"
            " and the dates are not",
            path,
            _date(last),
        )


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _looks_like_dates(values: Ints, digits: int) -> bool:
    """Whether all numbers are dates written with so many digits: YYYYMMDD, and hours and minutes after it."""
    unit = 10 ** (digits - 8)
    if values.min() < 19700101 * unit or values.max() > 20991231 * unit + unit - 1:
        return False
    month, day = values // (unit * 100) % 100, values // unit % 100
    hour, minute = values // (unit // 100 or 1) % 100, values % 100
    good = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    if digits > 8:
        good &= hour < 24
    if digits > 10:
        good &= minute < 60
    return bool(good.all())


# Text ----------------------------------------------------------------------------------------------------------------


def _of_text(texts: pa.Array) -> Times:
    """Return the times of trimmed text; the first one says whether they are numbers or dates."""
    first = texts[0].as_py()
    if _NUMBER.fullmatch(first):
        return in_seconds(*_numbers(texts), text=lambda row: str(texts[row]))
    if not re.match(_DATE, first):
        raise FaultError(0, f"the time is {shown(first)}; expected {_WHOLE}, or {_ISO}; {_MEND}")
    return _dates(texts)


def _numbers(texts: pa.Array) -> tuple[Ints, Ints | None]:
    try:
        if not pc.any(pc.match_substring(texts, "x", ignore_case=True)).as_py():  # Arrow reads 0x10 as 16
            return pc.cast(texts, pa.int64()).to_numpy(zero_copy_only=False), None
    except pa.ArrowInvalid:
        pass  # not all are integers: the longer way
    match = pc.extract_regex(texts, _PLAIN)
    plain = match.is_valid()
    whole = pc.cast(pc.if_else(plain, pc.struct_field(match, "whole"), "0"), pa.int64()).to_numpy().copy()
    digits = pc.utf8_rpad(pc.utf8_slice_codeunits(pc.struct_field(match, "part"), 0, 9), 9, "0")
    part = pc.cast(pc.if_else(plain, digits, "0"), pa.int64()).to_numpy().copy()
    rows = np.flatnonzero(~plain.to_numpy(zero_copy_only=False))
    known: dict[str, tuple[int, int] | None] = {}
    for row in rows:  # signs and exponents
        text = texts[int(row)].as_py()
        value = known[text] if text in known else known.setdefault(text, exact(text))
        if value is None:
            raise FaultError(int(row), f"the time is {shown(text)}; expected {_WHOLE}; {_MEND}")
        whole[row], part[row] = value
    return whole, part


def _dates(texts: pa.Array) -> Times:
    """Return the times of ISO 8601 dates; distinct ones are parsed once."""
    encoded = texts.dictionary_encode()
    distinct = encoded.dictionary
    dated = pc.match_substring_regex(distinct, _DATE)
    stamps = pd.to_datetime(pc.if_else(dated, distinct, "").to_pandas(), format="ISO8601", utc=True, errors="coerce")
    factor = _FACTORS[stamps.dt.unit]
    count = stamps.dt.tz_localize(None).to_numpy().view(np.int64)
    bad = stamps.isna().to_numpy() | (count < 0) | (count // factor >= END)
    codes = encoded.indices.to_numpy()
    if bad.any():
        row = int(np.flatnonzero(bad[codes])[0])
        raise FaultError(row, f"the time is {shown(texts[row].as_py())}; expected {_ISO}; {_MEND}")
    return _split(count[codes], factor)


# Parquet's own types -------------------------------------------------------------------------------------------------


def _split(count: Ints, factor: int) -> Times:
    """Return dates that are counted in parts of a second."""
    rest = count % factor * (BILLION // factor)
    return Times(count // factor, rest if rest.any() else None, "dates")


def _of_stamps(values: pa.Array) -> Times:
    factor = _FACTORS[values.type.unit]
    count = pc.cast(values, pa.int64()).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero((count < 0) | (count // factor >= END))
    if len(bad):
        row = int(bad[0])
        stamp = np.datetime64(int(count[row]), values.type.unit)
        raise FaultError(row, f"the time is {shown(str(stamp))}; expected a date from 1970 to 2099; {_MEND}")
    return _split(count, factor)


def _narrowed(values: pa.Array) -> pa.Array:
    """Return unsigned integers of 64 bits if int64 holds them."""
    large = np.flatnonzero(values.to_numpy(zero_copy_only=False) > np.iinfo(np.int64).max)
    if len(large):
        row = int(large[0])
        raise FaultError(row, f"the time is {shown(str(values[row]))}; expected {_WHOLE}; {_MEND}")
    return values


def _of_floats(values: NDArray[Any]) -> Times:
    bad = np.flatnonzero(~((values >= 0) & (values < 2.0**63)))  # NaN as well
    if len(bad):
        row = int(bad[0])
        raise FaultError(row, f"the time is {shown(str(values[row]))}; expected {_WHOLE}; {_MEND}")
    floor = np.floor(values)
    part = np.floor((values - floor) * BILLION).astype(np.int64)
    return in_seconds(floor.astype(np.int64), part, text=lambda row: repr(float(values[row])))
