"""Cells as text, aligned tables, CSV that a spreadsheet cannot run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from scripts.core.tables import shown, text_table, write_csv


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("a", "a"),
        (7, "7"),
        (True, "True"),
        (0.0, "0"),
        (0.12345, "0.123"),
        (12.345, "12.3"),
        (99.96, "100"),
        (999.4, "999"),
        (999.6, "1000"),
        (-999.6, "-1000"),
        (123456.7, "123457"),
        (999999999.0, "999999999"),
        (1e12, "1e+12"),
        (1e-5, "1e-05"),
    ],
)
def test_shown(value: object, text: str) -> None:
    assert shown(value) == text


ROWS = [{"case": "a", "volume": 999.6, "note": "x"}, {"case": "long name", "volume": None, "note": "12"}]

TEXT = """\
case       volume  note
---------  ------  ----
a            1000  x
long name          12"""


def test_numbers_to_the_right_and_words_to_the_left() -> None:
    assert text_table(ROWS) == TEXT
    assert text_table(ROWS, ["note", "case"]).splitlines()[2] == "x     a"
    assert text_table([]) == ""


def test_columns_from_the_first_to_the_left() -> None:
    assert text_table(ROWS, left=1).splitlines()[3] == "long name            12"


def test_csv_keeps_digits_and_leaves_empty_what_is_no_number(tmp_path: Path) -> None:
    rows = [{"case": "a", "value": 1234.56789, "n": 3}, {"case": "b", "value": math.nan, "n": None}]
    file = write_csv(tmp_path / "a/b.csv", rows)
    assert file.read_text() == "case,value,n\na,1234.56789,3\nb,,\n"
    assert write_csv(tmp_path / "none.csv", []).read_text() == "\n"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1+1", "@x", "\tx"])
def test_no_cell_can_be_run(tmp_path: Path, cell: str) -> None:
    file = write_csv(tmp_path / "a.csv", [{"case": cell, "value": -1.5, "dash": "-"}])
    with file.open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row == {"case": f"'{cell}", "value": "-1.5", "dash": "-"}


def test_no_name_ends_a_row(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [{"case": "a\rb", "text": 'two\nlines, "quoted"'}])
    with file.open(newline="") as stream:
        assert list(csv.DictReader(stream)) == [{"case": "a b", "text": 'two\nlines, "quoted"'}]
