"""A page: sections of their own templates, escaped, in one file."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from scripts.core.page.page import Figure, Section, asset, embedded, write_page

EVIL = "<script>alert('x')</script>&\""


class Reader(HTMLParser):
    """Tags with their attributes, ids, and the cells of tables with their classes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.cells: list[tuple[str, str]] = []
        self.open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.tags.append((tag, given))
        if tag in {"td", "th"}:
            self.open = True
            self.cells.append(("", given.get("class", "")))

    def handle_endtag(self, tag: str) -> None:
        self.open = self.open and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self.open:
            self.cells[-1] = (self.cells[-1][0] + data, self.cells[-1][1])


def section(folder: Path, template: str, title: str = "Dose", **values: object) -> Section:
    file = folder / "part.html"
    file.write_text(template, encoding="utf-8")
    return Section(title, file, values)


def test_a_section_is_a_template_and_its_values(tmp_path: Path) -> None:
    rows = [{"case": EVIL, "D2cc": "5.10", "missed": "1", "share": "0.50"}]
    template = """{% from "macros.html" import note, table %}{{ table(rows, counts=["missed"], bars=["share"]) }}{{ note(text) }}"""
    part = section(tmp_path, template, EVIL, rows=rows, text=EVIL)
    file = write_page(tmp_path / "page.html", EVIL, EVIL, [part], [Figure(EVIL, "5", EVIL, True)], EVIL)
    text = file.read_text(encoding="utf-8")
    reader = Reader(text)
    assert [tag for tag, _ in reader.tags].count("script") == 1, "the page's own"
    assert "<script>alert" not in text
    assert (EVIL, "text") in reader.cells
    assert ("1", "bad") in reader.cells
    assert ("0.50", "bar") in reader.cells
    assert "--part:50.0%" in text
    anchors = {given["id"] for tag, given in reader.tags if tag == "section"}
    assert {given["href"][1:] for tag, given in reader.tags if tag == "a" and given["href"] != "#main"} == anchors
    assert f'<p class="note">{EVIL}</p>' not in text


def test_a_value_that_a_template_lacks_is_an_error_not_a_gap(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="rows"):
        write_page(tmp_path / "page.html", "t", "l", [section(tmp_path, "{{ rows }}")])
    assert not (tmp_path / "page.html").exists()


def test_nothing_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"picture")
    template = """{% from "macros.html" import picture %}{{ picture(source, "c") }}"""
    part = section(tmp_path, template, source=embedded(tmp_path / "p.png"))
    text = write_page(tmp_path / "page.html", "t", "l", [part]).read_text(encoding="utf-8")
    for _, given in Reader(text).tags:
        for key in ("src", "href"):
            assert given.get(key, "#").startswith(("#", "data:")), given
    assert "data:image/png;base64,cGljdHVyZQ==" in text
    assert not re.search(r"https?://|@import|url\(", text)


def test_tables_have_headings_that_sort_and_long_ones_a_filter(tmp_path: Path) -> None:
    template = """{% from "macros.html" import table %}{{ table(rows, left=1) }}"""
    for count in (11, 12):
        part = section(tmp_path, template, rows=[{"case": f"c{i}", "DSC": "0.5"} for i in range(count)])
        tags = Reader(write_page(tmp_path / "page.html", "t", "l", [part]).read_text("utf-8")).tags
        assert [given for tag, given in tags if tag == "button"] == [{"type": "button"}] * 2
        assert any(tag == "input" for tag, _ in tags) == (count == 12)
        assert {given["scope"] for tag, given in tags if tag == "th"} == {"col", "row"}
    nothing = write_page(tmp_path / "page.html", "t", "l", [section(tmp_path, template, rows=[])])
    assert "<table" not in nothing.read_text("utf-8")


def test_anchors_of_titles() -> None:
    assert Section("By true volume of tumor", Path()).anchor == "s-by-true-volume-of-tumor"
    assert Section("Überblick ≥ 2", Path()).anchor == "s-berblick-2"
    assert Section("“”", Path()).anchor == "s-section"


def test_a_script_cannot_end_its_element(tmp_path: Path) -> None:
    file = tmp_path / "a.js"
    file.write_text("x = '</script><SCRIPT></Style>'")
    assert asset(file) == "x = '<\\/script><SCRIPT><\\/Style>'"
