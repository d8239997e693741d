"""The page: one file, escaped, with what is bad in red."""

from __future__ import annotations

import base64
import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from scripts.experiments.evaluate import aggregate, significance
from scripts.experiments.evaluate.page import Content, lowest, write_page

EVIL = "<script>alert('x')</script>&\""


class Reader(HTMLParser):
    """Tags, and the cells of tables with their classes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[tuple[str, str]] = []
        self.kind: str | None = None
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.links += [str(given[key]) for key in ("src", "href") if given.get(key)]
        if tag == "td":
            self.kind = given.get("class") or ""
            self.cells.append(("", self.kind))

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self.kind = None

    def handle_data(self, data: str) -> None:
        if self.kind is not None:
            self.cells[-1] = (self.cells[-1][0] + data, self.kind)


@pytest.fixture
def content(case_table: Any, tmp_path: Path) -> Content:
    table = case_table(
        [
            {"name": EVIL, "case": EVIL, "dsc": 0.0, "outcome": "missed"},
            {"name": EVIL, "case": "b", "dsc": 0.0, "outcome": "no prediction"},
            {"name": EVIL, "case": "c", "dsc": 0.5, "outcome": "found"},
        ]
    )
    (tmp_path / "p.png").write_bytes(b"picture")
    return Content(
        EVIL,
        {"model": EVIL},
        table,
        aggregate.cells(aggregate.summarise(table), {(EVIL, "dsc"): EVIL}),
        [aggregate.NOTE, "", aggregate.NOTE_FEW, EVIL],
        target=EVIL,
        strata=aggregate.cells(aggregate.summarise_by_size(table.assign(label_ml=1.0), EVIL, [2.0])),
        experts=[EVIL],
        comparison=significance.cells(significance.compare({"a": table, EVIL: table}, draws=9)),
        problems=[EVIL],
        images=[("boxes", tmp_path / "p.png"), (EVIL, tmp_path / "p.png")],
    )


def test_names_from_outside_are_escaped_everywhere(content: Content, tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", content)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    reader = Reader(text)
    assert "script" not in reader.tags
    assert "<script" not in text
    # title, heading, about, problem, cells of four tables, headings, notes, captions
    assert text.count("&lt;script&gt;") > 12
    assert (EVIL, "text") in reader.cells


def test_the_page_is_one_file_that_fetches_nothing(content: Content, tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", content)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    picture = base64.b64encode(b"picture").decode()
    assert Reader(text).links == [f"data:image/png;base64,{picture}"] * 2
    assert "http" not in text
    assert "@import" not in text


def test_a_miss_is_red_and_a_find_is_not(content: Content, tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", content)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    cells = Reader(text).cells
    for word in ("missed", "no prediction"):
        assert {kind for cell, kind in cells if cell == word} == {"bad"}
    assert {kind for cell, kind in cells if cell == "found"} == {""}
    # the count of misses too, where there are any: twice per metric, in summary and strata
    assert ("2", "bad") in cells
    assert re.search(r"\.bad \{ color: var\(--bad\)", text)
    assert "--bad: #b3261e" in text


def test_what_is_said(content: Content, tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", content)
    text = html.unescape(" ".join((tmp_path / "report.html").read_text(encoding="utf-8").split()))
    assert "3 cases of 3 patients" in text
    assert "Not in the figures, or incomplete" in text
    assert aggregate.NOTE in text
    assert aggregate.NOTE_FEW in text
    assert significance.NOTE in text
    assert '<p class="note"></p>' not in text
    for heading, ignored in significance.TESTS.values():
        assert f"<dt>{heading}</dt><dd>{ignored}</dd>" in text


def test_what_there_is_not_is_not_said(content: Content, tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", Content("t", {}, content.table, content.lines))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for absent in (
        "Not in the figures",
        "Fewer than 20",
        "experts differ",
        "By true volume",
        "Models compared",
        "<img",
    ):
        assert absent not in text
    assert "Lowest DSC" in text


def test_lowest_first(case_table: Any) -> None:
    table = case_table([{"case": f"c{i}", "dsc": d} for i, d in enumerate([0.5, 0.1, 0.9, float("nan")])])
    assert [row["case"] for row in lowest(table)] == ["c1", "c0", "c2"]
    assert [row["case"] for row in lowest(table, 1)] == ["c1"]
    assert lowest(table, 1)[0]["DSC"] == "0.100"
