"""Tables of text: what is written is read, and a spreadsheet takes no cell for a formula."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srun.errors import DataError
from srun.judging.results import Row, to_csv
from srun.tables import harmless, read_table, write_table

ODD = [
    "=1+1",
    "+3",
    "-5",
    "@a",
    "\tz",
    "\rq",
    "x\ry",
    "x\ny",
    "x\r\ny",
    'q"u"o',
    "a,b",
    " lead",
    "trail ",
    "'",
    "''",
    "'x",
]
ODD += ["", "NA", "null", "007", "1e5", "x\u2028y", "ü", "=HYPERLINK(1)"]


def there_and_back(folder, cells):
    table = pd.DataFrame({"item_id": [f"i{number}" for number in range(len(cells))], "title": cells}, dtype=str)
    write_table(folder / "t.csv", table)
    return read_table(folder / "t.csv", ["item_id", "title"], DataError, "mend it")["title"].tolist()


def test_odd_cells_come_back_as_they_were(tmp_path):
    assert there_and_back(tmp_path, ODD) == ODD


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4), min_size=1))
def test_any_cells_come_back_as_they_were(tmp_path_factory, cells):
    assert there_and_back(tmp_path_factory.mktemp("t"), cells) == cells


def test_ids_that_are_negative_numbers_survive(tmp_path):
    ids = ["-5", "-4", "7"]
    write_table(tmp_path / "t.csv", pd.DataFrame({"user_id": ids}))
    assert (tmp_path / "t.csv").read_text() == "user_id\n'-5\n'-4\n7\n"
    assert read_table(tmp_path / "t.csv", ["user_id"], DataError, "")["user_id"].tolist() == ids


def test_no_cell_begins_as_a_formula_does(tmp_path):
    there_and_back(tmp_path, ODD)
    with (tmp_path / "t.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert harmless("=1") == "'=1"
    assert [harmless(value) for value in (-0.5, -3, None, "a-b", "")] == [-0.5, -3, None, "a-b", ""]


def test_a_plain_table_is_written_as_ever(tmp_path):
    write_table(tmp_path / "t.csv", pd.DataFrame({"item_id": ["1", "2"], "title": ["A, B", "C"]}))
    assert (tmp_path / "t.csv").read_bytes() == b'item_id,title\n1,"A, B"\n2,C\n'


@pytest.mark.parametrize(
    "data", [b"", b"item_id\n1\n", b"item_id,title\n1,a,b\n", b"item_id,title\n\xff,a\n", b'item_id,title\n"1,a\n']
)
def test_what_is_no_such_table_is_one_line_that_names_it(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=r"^[^\n]*t\.csv[^\n]*; mend it$"):
        read_table(tmp_path / "t.csv", ["item_id", "title"], DataError, "mend it")


def test_names_in_results_are_harmless_and_figures_stay_numbers():
    row = Row("=cmd", "sasrec", "sruga", -1, "test", "-red", "ndcg_10", -0.25, "@all", 0)
    [_, cells] = csv.reader(io.StringIO(to_csv([row])))
    assert cells == ["'=cmd", "sasrec", "sruga", "-1", "test", "'-red", "ndcg_10", "-0.25", "'@all", "0"]
