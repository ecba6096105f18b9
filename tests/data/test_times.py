"""Times: read to the nanosecond from every form, units told, what no unit fits refused."""

import datetime
import logging
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from srun.data.times import END, exact, holds_times, in_seconds, log_times, read_times
from srun.data.values import FaultError


def read(values, kind=None):
    """(unit, [nanoseconds since 1970 of each value])."""
    times = read_times(pa.chunked_array([pa.array(values, kind)]))
    part = np.zeros(len(times.seconds), dtype=np.int64) if times.nanoseconds is None else times.nanoseconds
    return times.unit, [int(second) * 10**9 + int(rest) for second, rest in zip(times.seconds, part, strict=True)]


def fault(values, kind=None):
    with pytest.raises(FaultError) as raised:
        read(values, kind)
    return raised.value.row, str(raised.value)


NANO = 1_700_000_000_123_456_789


@pytest.mark.parametrize(
    ("values", "kind", "unit", "expected"),
    [
        (["1700000000.123456789"], None, "seconds", [NANO]),
        (["1700000000123.456789"], None, "milliseconds", [NANO]),
        (["1700000000123456.789"], None, "microseconds", [NANO]),
        (["1700000000123456789"], None, "nanoseconds", [NANO]),
        (["1700000000.1234567899"], None, "seconds", [NANO]),
        (["1.700000000123456789e9", " +1700000000.5 "], None, "seconds", [NANO, 1_700_000_000_500_000_000]),
        (["1700000000000"], None, "milliseconds", [1_700_000_000 * 10**9]),
        ([1_700_000_000_123_456], None, "microseconds", [NANO - 789]),
        ([NANO], "uint64", "nanoseconds", [NANO]),
        ([1_700_000_000.25, 1_700_000_000.75], None, "seconds", [17 * 10**17 + 25 * 10**7, 17 * 10**17 + 75 * 10**7]),
        ([1_700_000_000_500.0], None, "milliseconds", [17 * 10**17 + 5 * 10**8]),
        (["0", "1", "2"], None, "seconds", [0, 10**9, 2 * 10**9]),
        (["-0", "-0.0", "0e5"], None, "seconds", [0, 0, 0]),
        (["007", "7."], None, "seconds", [7 * 10**9, 7 * 10**9]),
        ([str(END - 1)], None, "seconds", [(END - 1) * 10**9]),
        (["2023-11-14T22:13:20.123456789Z"], None, "dates", [NANO]),
        (["2023-11-14T22:13:20.123Z", "2023-11-14"], None, "dates", [NANO - 456789, 1_699_920_000 * 10**9]),
        ([pd.Timestamp(NANO).to_numpy()], "timestamp[ns]", "dates", [NANO]),
        ([NANO // 1000], "timestamp[us]", "dates", [NANO - 789]),
        ([1_700_000_000_123], "timestamp[ms]", "dates", [1_700_000_000_123 * 10**6]),
        ([1_700_000_000], "timestamp[s]", "dates", [1_700_000_000 * 10**9]),
        ([NANO // 1000], pa.timestamp("us", "Europe/Berlin"), "dates", [NANO - 789]),
        ([Decimal("1700000000.123456789")], None, "seconds", [NANO]),
        ([datetime.date(1970, 1, 2)], "date32", "dates", [86400 * 10**9]),
        ([datetime.date(1970, 1, 2)], "date64", "dates", [86400 * 10**9]),
    ],
)
def test_every_form_is_read_to_the_nanosecond(values, kind, unit, expected):
    assert read(values, kind) == (unit, expected)


@given(st.lists(st.tuples(st.integers(0, END - 1), st.text("0123456789", max_size=12)), min_size=1, max_size=8))
@example([(1_700_000_000, "999999999999")])
def test_decimal_text_is_read_exactly(numbers):
    texts = [f"{whole}.{part}" for whole, part in numbers]
    expected = [int(Fraction(f"{whole}.{part or 0}") * 10**9) for whole, part in numbers]
    assert read(texts) == ("seconds", expected)
    assert read([f"{text}e0" if text[-1] != "." else text for text in texts]) == ("seconds", expected)


@pytest.mark.parametrize(
    "text", ["1e400", "-1e400", "1e999999999", "inf", "nan", "-1", "-1e-9", "9" * 5000, "x", "1_0"]
)
def test_numbers_that_are_no_time(text):
    assert exact(text) is None
    row, said = fault(["1", text])
    assert row == 1
    assert "expected seconds" in said
    assert len(said) < 300


@pytest.mark.parametrize("text", ["1e-999999999", "0.0000000001"])
def test_tiny_numbers_are_zero(text):
    assert exact(text) == (0, 0)


@pytest.mark.parametrize(
    ("values", "kind", "row", "said"),
    [
        (["1700000000000", "1700000000001", "1700000100"], None, 2, '"1700000100": seconds by its size, while'),
        (["1700000000", "1700000000000"], None, 1, '"1700000000000": milliseconds by its size, while'),
        ([5, 1_700_000_000_000_000], None, 1, 'while the first one, "5", is seconds'),
        (["20240501100000", "20240501100001"], None, 0, "not YYYYMMDDhhmmss"),
        (["202405011000", "202405011001"], None, 0, "YYYYMMDDhhmm"),
        (["5000000000"], None, 0, "which no unit makes a date"),
        ([9_999_999_999], None, 0, "which no unit makes a date"),
        (["0x10"], None, 0, "expected seconds"),
        (["1", "0x10"], None, 1, "expected seconds"),
        (["1", "\u0663"], None, 1, "expected seconds"),
        (["1", "2024-05-01"], None, 1, "expected seconds"),
        (["2024-05-01", "1714557600"], None, 1, "expected an ISO 8601 date"),
        (["2024-05-01", "20240502"], None, 1, "expected an ISO 8601 date"),
        (["2024-05-01", "now"], None, 1, "expected an ISO 8601 date"),
        (["now"], None, 0, "or an ISO 8601 date"),
        (["today", "2024-05-01"], None, 0, "or an ISO 8601 date"),
        (["2024-05-01", ""], None, 1, 'the time is ""'),
        (["2024-05-01", "9999-12-31"], None, 1, "from 1970 to 2099"),
        (["2024-05-01T00:00:00.123456789", "9999-12-31"], None, 1, "from 1970 to 2099"),
        (["2024-05-01", "1969-12-31"], None, 1, "from 1970 to 2099"),
        (["2024-02-30"], None, 0, "expected an ISO 8601 date"),
        ([2**63], "uint64", 0, "expected seconds"),
        ([1.0, float("inf")], None, 1, "expected seconds"),
        ([1.0, float("nan")], None, 1, "expected seconds"),
        ([-0.5], None, 0, "expected seconds"),
        ([0, -1], "timestamp[ms]", 1, "from 1970 to 2099"),
        ([END], "timestamp[s]", 0, "from 1970 to 2099"),
    ],
)
def test_the_first_row_at_fault_is_named(values, kind, row, said):
    found, message = fault(values, kind)
    assert found == row
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["bool", "time64[us]", "duration[s]", "binary"])
def test_types_that_hold_no_times(kind):
    assert not holds_times(pa.array([None], kind).type)


@given(st.lists(st.integers(0, END - 1), min_size=1), st.sampled_from([10**8, 10**9]), st.integers(0, 3))
def test_one_unit_for_all_or_none(seconds, least, power):
    seconds = [max(second, least) for second in seconds]
    values = np.array([second * 1000**power for second in seconds])
    assume(power == 0 or least == 10**9)  # some milliseconds of 1976 may be dates written YYYYMMDDhhmm
    times = in_seconds(values, None)
    assert times.seconds.tolist() == seconds
    assert times.nanoseconds is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["1700000000"], ["times from 2023-11-14 22:13:20 to 2023-11-14 22:13:20 (UTC), read as seconds"]),
        (["1700000000123"], ["milliseconds by their size; they are converted", "1 times have a fraction of a second"]),
        (["2024-05-01T10:00:00.5"], ["1 times have a fraction of a second; it decides the order", "read as dates"]),
        (["20240501", "20240502"], ["dates written YYYYMMDD,"]),
        (["2024050110", "2024050223"], ["dates written YYYYMMDDhh,"]),
        (["0", "1"], ["the times end on 1970-01-01 00:00:01; if they count something else"]),
        (["19844"], ["(days, steps)"]),
    ],
)
def test_what_is_odd_is_told(values, said, caplog):
    caplog.set_level(logging.INFO, "srun.data")
    log_times("log", read_times(pa.chunked_array([values])))
    for text in said:
        assert text in caplog.text


def test_large_columns_are_read_at_once():
    texts = pa.chunked_array([[f"17000{i:05}.{i % 1000:03}" for i in range(100_000)]])
    assert read_times(texts).seconds[-1] == 1_700_099_999
    assert Decimal("1700099999.999") == Decimal(texts[-1].as_py())
