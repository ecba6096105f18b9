"""Two ways of reading, one fast and one careful, agree on every file: rows, lines, and what is refused."""

import gzip
import io
import json
import re
import subprocess

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from srun.data.formats import delimited, lines
from srun.data.formats.delimited import read_fast, rows
from srun.data.formats.opening import lines_of
from srun.data.importing import read_import
from srun.errors import DataError

ODD = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\xa0", "\u3000", "\ufeff", "\x1c", "\u200b", "é"]
BYTES = st.lists(
    st.sampled_from(
        [b",", b'"', b"\n", b"\r\n", b"\r", b"a", b"1", b" ", b"\t", b"\x00", b"\xff", b"nan", b"\xed\xa0\x80"]
    )
    | st.sampled_from(ODD).map(str.encode),
    max_size=25,
).map(b"".join)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("formats") / "log"


def fast_rows(path, width):
    """The rows by the fast way; None if it refuses them."""
    try:
        table = read_fast(path, ",", width, 0, dict.fromkeys(range(width), pa.string()))
    except pa.ArrowInvalid:
        return None
    return [list(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


def careful_rows(path, width):
    """The rows by the careful way, or the message it refuses them with."""
    try:
        return [row for _, row in rows(path, None, ",", width)]
    except DataError as error:
        return str(error)


@given(BYTES, st.integers(1, 3))
@example(b'a,1,"x\na,1,y\n', 3)
@example(b'a,"', 2)
@example(b'""\na,1\n', 2)
@example(b'a,"b"c"d"\r"e\rf",g', 2)
@example(b"\xef\xbb\xbfa,1\n\xef\xbb\xbfa,1\n", 2)
@example(b"\n\r\n\ra,1\n", 2)
@example(b'"a\n\n,1\n', 1)
def test_fast_and_careful_agree_on_columns(file, content, width):
    assume(content != b"\xef\xbb\xbf")  # as good as empty, and refused before
    file.write_bytes(content)
    quick, careful = fast_rows(file, width), careful_rows(file, width)
    if quick is None:
        assert isinstance(careful, str), careful
        assert re.match(rf"{re.escape(str(file))}:\d+: ", careful)
    else:
        assert quick == careful


@given(BYTES, st.booleans(), st.sampled_from([3, 7, 1 << 20]))
@example(b"a\xa0b c\n", True, 1 << 20)
@example(b"a\r\nb c\rd", False, 3)
def test_fast_and_careful_agree_on_lines_of_ids(file, content, pairs, size):
    file.write_bytes(content)
    refused = ""
    with pytest.MonkeyPatch.context() as patch, file.open("rb") as opened:
        patch.setattr(lines, "BLOCK", size)
        try:
            blocks = [(first, block, *lines.split(file, first, block, pairs)) for first, block in lines.blocks(opened)]
        except DataError as error:
            refused = str(error)
    if refused:
        assert re.match(rf"{re.escape(str(file))}:\d+: ", refused)
        return
    for first, block, _, _ in blocks:
        lines.raise_first_fault(file, first, block, pairs)
    text = io.BytesIO(content.removeprefix(b"\xef\xbb\xbf"))
    expected = [line.split() for _, line in lines_of(text)]
    assert [word.as_py().encode() for _, _, _, flat in blocks for word in flat] == [
        w for line in expected for w in line
    ]
    assert [int(n) for _, _, counts, _ in blocks for n in counts] == [len(line) for line in expected if line]


# Many faults in every format -----------------------------------------------------------------------------------------

GOOD = [["u1", "a", "10"], ["u2", "b", "20"], ["u1", "b", "30"], ["u2", "a", "40"]]
CELLS = {  # fault -> column, what stands in the third row, what is said
    "missing user": (0, "", "the user is missing"),
    "user nan": (0, "NaN", "the user is missing"),
    "user null with spaces": (0, " null ", "the user is missing"),
    "item <NA>": (1, "<NA>", "the item is missing"),
    "item of no-break spaces": (1, "\xa0\u2028", "the item is missing"),
    "control character": (1, "a\x01b", "holds a control character"),
    "tab stop within": (1, "a\x0bb", "holds a control character"),
    "mark within": (0, "\ufeffu1", "holds a byte order mark"),
    "time nan": (2, "nan", 'the time is "nan"'),
    "time empty": (2, "", 'the time is ""'),
    "time 1e400": (2, "1e400", 'the time is "1e400"'),
    "time inf": (2, "inf", 'the time is "inf"'),
    "time huge": (2, "9" * 400, "the time is"),
    "time negative": (2, "-1", 'the time is "-1"'),
    "time in milliseconds": (2, "1700000000000", "milliseconds by its size"),
    "brackets as time": (2, "[" * 200_000, "the time is"),
}


def written(path, form, table, header=("user_id", "item_id", "timestamp")):
    """Write a table in a format and return the place of its third row, as messages name it."""
    if form == "parquet":
        columns = [pa.array(column) for column in zip(*table, strict=True)]
        pyarrow.parquet.write_table(pa.table(columns, names=list(header)), path)
        return "row 3"
    if form == "amazon":
        keys = ("reviewerID", "asin", "unixReviewTime")
        path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in table))
        return ":3"
    delimiter = {"csv": ",", "tsv": "\t", "semicolons": ";"}[form.removeprefix("gzip ")]
    text = "".join(delimiter.join(row) + "\r\n" for row in (header, *table)).encode()
    path.write_bytes(gzip.compress(text) if form.startswith("gzip") else text)
    return ":4, column"


@pytest.mark.parametrize("form", ["csv", "tsv", "semicolons", "gzip csv", "parquet"])
@pytest.mark.parametrize("case", CELLS)
def test_a_fault_in_a_cell_is_named_by_line_in_every_format(tmp_path, form, case):
    column, text, said = CELLS[case]
    table = [list(row) for row in GOOD]
    table[2][column] = text
    place = written(tmp_path / "log", form, table)
    message = refusal(tmp_path / "log")
    assert said in message
    assert place in message


@pytest.mark.parametrize(
    "case", [case for case in CELLS if case not in ("control character", "tab stop within", "mark within")]
)
def test_a_fault_in_a_record_is_named_by_line(tmp_path, case):
    column, text, _ = CELLS[case]
    table = [list(row) for row in GOOD]
    table[2][column] = text
    place = written(tmp_path / "log", "amazon", table)
    assert place in refusal(tmp_path / "log")


def refusal(path, **options):
    with pytest.raises(DataError) as raised:
        read_import(path, **options)
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 700
    return message


CSV = b"user_id,item_id,timestamp,text\nu1,a,10,x\nu2,b,20,x\nu1,b,30,x\nu2,a,40,x\n"
STRUCTURE = {  # what is put in place of the third row's last cell -> what is said
    b'"open': ":4: a quote is opened here and never closed",
    b"\x00": ":4: binary data",
    b"\xff": ":4: not UTF-8 text",
    b"\xed\xa0\x80": ":4: not UTF-8 text",
    b"x,y": ":4: 5 columns, expected 4",
    b'"' + b"z" * 40_000_000 + b'"': ":4: a row of more than 8 MiB",
    b'"open' + b"\nu1,a,10,x" * 2_000_000: ":4: a row of more than 8 MiB",
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("cell", STRUCTURE, ids=[said for said in STRUCTURE.values()])
def test_a_fault_in_a_column_that_is_not_read_is_named_by_line(tmp_path, cell, pack):
    (tmp_path / "log").write_bytes(pack(CSV.replace(b"30,x", b"30," + cell)))
    assert STRUCTURE[cell] in refusal(tmp_path / "log")


@pytest.mark.parametrize("cell", ["[" * 200_000, *(f"x{odd}y" for odd in ODD), '"a\r\nb"', "x" * 5_000_000])
def test_odd_text_in_a_column_that_is_not_read_does_no_harm(tmp_path, cell):
    (tmp_path / "log").write_bytes(CSV.replace(b"30,x", b"30," + cell.encode()))
    assert len(read_import(tmp_path / "log").interactions) == 4


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd not in ("\x0b", "\x0c", "\x1c", "\ufeff")])
@pytest.mark.parametrize("form", ["csv", "pairs"])
def test_odd_characters_within_an_id_stay(tmp_path, odd, form):
    text = f"user,item\nu{odd}1,a\nu2,b\nu{odd}1,b\nu2,a\n"
    text = text if form == "csv" else text.partition("\n")[2].replace(",", " ")
    (tmp_path / "log").write_text(text)
    users = read_import(tmp_path / "log", form=form).interactions["user_id"]
    assert users.tolist() == [f"u{odd}1", "u2", f"u{odd}1", "u2"]


def test_ids_of_pairs_that_are_only_white_space_are_missing(tmp_path):
    (tmp_path / "log").write_text("a b\nb \xa0\n")
    assert 'log:2, word 2: the item is missing ("")' in refusal(tmp_path / "log")
    (tmp_path / "log").write_text("a b c\n\nb a b none\n")
    assert 'log:3, word 4: the item is missing ("none")' in refusal(tmp_path / "log")


def test_old_line_ends_count_as_line_ends_everywhere(tmp_path):
    for text in ("user,item\r1,a\r2,b\r1,b\r", "1 a\r2 b\r1 b\r"):
        (tmp_path / "log").write_text(text, newline="")
        table = read_import(tmp_path / "log").interactions
        assert table.to_numpy().tolist() == [["1", "a"], ["2", "b"], ["1", "b"]]
    (tmp_path / "log").write_text("user,item\r1,a\r2,\r", newline="")
    assert 'log:3, column "item": the item is missing' in refusal(tmp_path / "log")


def test_a_row_as_long_as_a_block_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "ROW_BYTES", 1 << 16)
    (tmp_path / "log").write_bytes(CSV.replace(b"30,x", b"30," + b"x" * ((1 << 16) - 20)))
    assert len(read_import(tmp_path / "log").interactions) == 4


# Records -------------------------------------------------------------------------------------------------------------

RECORD = '{"reviewerID": %s, "asin": %s, "unixReviewTime": %s}\n'


@pytest.mark.parametrize(
    "line",
    [
        "[" * 200_000,
        '{"reviewerID": ' + "[" * 200_000,
        "{u'a': " + "(" * 200_000,
        "{[1]: 2}",
        '{"reviewerID": "a\x00", "asin": "b", "unixReviewTime": 1}',
        RECORD % ('"a"', '"b"', "9" * 5000),
        RECORD % ('"a"', '"b"', "1e400"),
        RECORD % ('"a"', '"b"', "Infinity"),
        RECORD % ('"a"', '"b"', "NaN"),
        RECORD % ('"a"', '"b"', "true"),
        RECORD % ('"a"', '"b"', '"1_0"'),
        RECORD % ('"a"', "0x" + "f" * 5000, "1"),
        RECORD % ('"None"', '"b"', "1"),
        RECORD % ("null", '"b"', "1"),
        RECORD % ('"a"', '" nan "', "1"),
        RECORD % ('"a"', '"b"', "1700000000000"),
    ],
    ids=range(16),
)
def test_odd_records_are_refused_in_one_line(tmp_path, line):
    (tmp_path / "log").write_text(RECORD % ('"a"', '"b"', "1") + line.rstrip("\n") + "\n")
    assert "log:2" in refusal(tmp_path / "log")


def test_records_keep_all_digits_of_a_time_and_no_lone_surrogates(tmp_path, caplog):
    late, early = "1700000000.123456789", "1700000000.123456788"
    (tmp_path / "log").write_text(
        RECORD % ('" a "', '"x"', late)
        + RECORD % ('"a"', '"y"', early)
        + RECORD % (r'"\ud800b"', '"x"', '"1700000001"')
    )
    table = read_import(tmp_path / "log").interactions
    assert table["nanosecond"].tolist() == [123456789, 123456788, 0]
    assert table["user_id"].tolist() == ["a", "a", "\ufffdb"]
    assert "1 ids hold characters that no text may hold" in caplog.text


# Headers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "tsv", "semicolons", "parquet"])
@pytest.mark.parametrize(
    ("header", "columns", "said"),
    [
        (("user_id", "item_id", "item_id"), {"time": "none"}, 'columns 2 and 3 are both named "item_id", the item'),
        (("user_id", "item_id", "User ID"), {"time": "none"}, 'columns 1 and 3 are both named "user_id", the user'),
        (("who", "what", "what"), {"user": "who", "item": "what"}, 'columns 2 and 3 are both named "what", the item'),
    ],
)
def test_a_name_twice_in_a_header_is_refused(tmp_path, form, header, columns, said):
    written(tmp_path / "log", form, GOOD, header)
    message = refusal(tmp_path / "log", columns=columns)
    assert said in message
    assert "rename or remove all but one" in message


def test_other_names_may_stand_twice(tmp_path):
    written(tmp_path / "log", "parquet", [[*row, "x", "x"] for row in GOOD], ("user", "item", "time", "x", "x"))
    assert len(read_import(tmp_path / "log").interactions) == 4


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("user_id|item_id|timestamp\n1|2|3\n2|3|4\n1|3|5\n", None),
        ("user_id item_id timestamp\n1 2 3\n2 3 4\n1 3 5\n", None),
        ("user_id item_id\n1 2\n2 3\n1 3\n", None),
        ("7::8::3\n8::9::4\n7::9::5\n", {"user": "1", "item": "2", "time": "3"}),
        ("7|8|3\n8|9|4\n7|9|5\n", {"user": "1", "item": "2", "time": "3"}),
        ("7 8 3\n8 9 4\n7 9 5\n", {"user": "1", "item": "2", "time": "3"}),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_advice_for_other_delimiters_works(tmp_path, text, columns, pack):
    path = tmp_path / "my log"
    path.write_bytes(pack(text.encode()))
    message = refusal(path)
    command = re.search(r"separate them by tabs: (.*), and use", message)[1]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    form = "tsv" if columns else None
    table = read_import(tmp_path / "my log.tsv", form=form, columns=columns).interactions
    assert table["user_id"].tolist() == (["7", "8", "7"] if columns else ["1", "2", "1"])
    assert table["item_id"].tolist() == (["8", "9", "9"] if columns else ["2", "3", "3"])


def test_numbers_that_may_be_names_are_refused_lest_a_row_is_taken_for_a_header(tmp_path):
    (tmp_path / "log").write_text("1,2,5\n1,3,6\n2,3,7\n")
    numbers = {"user": "1", "item": "2", "time": "none"}
    assert "log:1: --columns gives 1, 2, which may be numbers of columns or names" in refusal(
        tmp_path / "log", columns=numbers
    )
    written(tmp_path / "log", "parquet", GOOD, ("1", "2", "3"))
    assert read_import(tmp_path / "log", columns=numbers).interactions["item_id"].tolist() == ["a", "b", "b", "a"]


@pytest.mark.parametrize("form", ["pairs", "sequences"])
def test_a_header_is_no_line_of_ids(tmp_path, form):
    (tmp_path / "log").write_text("user_id item_id\n1 2\n2 3\n1 3\n")
    assert 'log:1: a header ("user_id item_id")' in refusal(tmp_path / "log", form=form)


@pytest.mark.parametrize("form", [None, "csv", "semicolons"])
def test_semicolons(tmp_path, form):
    written(tmp_path / "log", "semicolons", GOOD)
    assert read_import(tmp_path / "log", form=form).interactions["timestamp"].tolist() == [10, 20, 30, 40]
    (tmp_path / "log").write_text("u1;a;10,5\nu2;b;20,5\nu1;b;30,5\n")
    numbers = {"user": "1", "item": "2", "time": "none"}
    assert read_import(tmp_path / "log", form=form, columns=numbers).interactions["item_id"].tolist() == ["a", "b", "b"]
    assert 'the time is "10,5"' in refusal(tmp_path / "log", form=form, columns={**numbers, "time": "3"})
    (tmp_path / "log").write_text("who;what, exactly;x\nu1;a;\nu2;b;\nu1;b;\n")
    named = {"user": "who", "item": "what, exactly", "time": "none"}
    assert read_import(tmp_path / "log", form=form, columns=named).interactions["item_id"].tolist() == ["a", "b", "b"]
