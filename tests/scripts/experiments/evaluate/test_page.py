"""The page of an evaluation: what it says, what it does not say, and what is in red."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scripts.core.page.page import Section
from scripts.experiments.evaluate import aggregate, significance
from scripts.experiments.evaluate.page import Content, lowest, overview, review, write_report

EVIL = "<script>alert('x')</script>&\""


def written(content: Content, folder: Path) -> str:
    return write_report(folder / "report.html", content).read_text(encoding="utf-8")


def plain(text: str) -> str:
    return html.unescape(" ".join(text.split()))


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
        {"data": EVIL},
        table,
        aggregate.summarise(table),
        EVIL,
        EVIL,
        yardstick={(EVIL, "dsc"): EVIL},
        experts=[EVIL],
        strata=aggregate.summarise_by_size(table.assign(label_ml=1.0), EVIL, [2.0]),
        comparison=significance.cells(significance.compare({"a": table, EVIL: table}, draws=9)),
        problems=[EVIL],
        pictures=[(EVIL, tmp_path / "p.png")],
    )


def test_names_from_outside_are_escaped_everywhere(content: Content, tmp_path: Path) -> None:
    text = written(content, tmp_path)
    assert "<script>alert" not in text
    # title, heading, figure, about, problem, cells of six tables, notes, caption
    assert text.count("&lt;script&gt;") > 15


def test_a_miss_is_red_and_a_find_is_not(content: Content, tmp_path: Path) -> None:
    text = written(content, tmp_path)
    assert '<td class="bad">missed</td>' in text
    assert '<td class="bad">no prediction</td>' in text
    assert "<td>found</td>" in text
    # the count of misses too, where there are any: in result, strata and head
    assert text.count('<td class="bad">2</td>') > 2
    assert '<span class="bad">2 missed' in text


def test_what_is_said(content: Content, tmp_path: Path) -> None:
    text = plain(written(content, tmp_path))
    assert "3 cases of 3 patients" in text
    assert "Not in the figures, or incomplete" in text
    assert aggregate.NOTE in text
    assert aggregate.NOTE_FEW in text
    assert significance.NOTE in text
    assert '<p class="note"></p>' not in text
    for heading, ignored in significance.TESTS.values():
        assert f"<dt>{heading}</dt><dd>{ignored}</dd>" in text


def test_what_there_is_not_is_not_said(content: Content, tmp_path: Path) -> None:
    text = written(
        Content("t", {}, content.table.assign(**{"class": "x"}), aggregate.summarise(content.table), "x", "x"), tmp_path
    )
    for absent in ("Not in the figures", "experts differ", "By true volume", "Models compared", "<img", "Overlays"):
        assert absent not in text
    assert "Cases, worst first" in text


def test_a_section_of_another_room_stands_after_the_cases(content: Content, tmp_path: Path) -> None:
    (tmp_path / "own.html").write_text("{{ text }}")
    content.more = [Section("Dose", tmp_path / "own.html", {"text": EVIL})]
    text = written(content, tmp_path)
    order = [text.index(f'id="{anchor}"') for anchor in ("s-cases-worst-first", "s-dose", "s-overlays")]
    assert order == sorted(order)


def test_one_row_per_class_and_the_worst_first_where_there_are_many(case_table: Any) -> None:
    table = case_table(
        [{"name": f"k{c:02}", "case": f"c{i}", "dsc": 0.9 - c / 50 - i / 10} for c in range(15) for i in range(2)]
    )
    few = overview(aggregate.summarise(table[table["class"].isin(["k00", "k01"])]), {})
    assert [row["class"] for row in few] == ["k00", "k01"]
    assert few[0]["DSC"] == "0.850 ± 0.071"
    assert few[0]["cases"] == "2"
    assert few[0]["95 % interval"] == "0.215 to 1.000"
    whole = aggregate.summarise(aggregate.add_class_mean(table))
    many = overview(whole, {("k01", "dsc"): "0.8 [1]"})
    assert [row["class"] for row in many] == [aggregate.CLASS_MEAN, *(f"k{c:02}" for c in range(14, -1, -1))]
    assert many[-2]["experts' DSC"] == "0.8 [1]"


def test_what_was_not_measured_is_a_dash(case_table: Any) -> None:
    missing = {"outcome": "missed", "dsc": 0.0, "hd95_mm": float("nan")}
    (row,) = overview(aggregate.summarise(case_table([missing])), {})
    assert (row["DSC"], row["95 % interval"], row["HD95 (mm)"], row["missed"]) == ("0.000", "-", "-", "1")


def test_cases_in_the_order_in_which_to_look_at_them(case_table: Any) -> None:
    values = {"c0": (0.5, 0.9), "c1": (0.1, 0.95), "c2": (float("nan"), 0.2)}
    rows = [
        {"name": name, "case": case, "dsc": dsc, "outcome": "found" if dsc >= 0 else "absent", "label_ml": 2.0}
        for case, pair in values.items()
        for name, dsc in zip(("tumor", "organ"), pair, strict=True)
    ]
    table = aggregate.add_class_mean(case_table(rows))
    found = review(table, "tumor")
    assert [row["case"] for row in found] == ["c1", "c0", "c2"], "what has no score comes last"
    assert [row["rank"] for row in found] == ["1", "2", "3"]
    assert (found[0]["DSC"], found[0]["label (ml)"], found[0]["lowest class"]) == ("0.100", "2.0", "tumor 0.100")
    assert (found[2]["DSC"], found[2]["lowest class"], found[2]["outcome"]) == ("-", "organ 0.200", "absent")
    by_mean = review(table, aggregate.CLASS_MEAN)
    assert [row["case"] for row in by_mean] == ["c2", "c1", "c0"]
    assert not {"label (ml)", "outcome"} & set(by_mean[0])
    assert "lowest class" not in review(pd.DataFrame(table[table["class"] == "tumor"]), "tumor")[0]


def test_lowest_first(case_table: Any) -> None:
    table = case_table([{"case": f"c{i}", "dsc": d} for i, d in enumerate([0.5, 0.1, 0.9, float("nan")])])
    assert [row["case"] for row in lowest(table)] == ["c1", "c0", "c2"]
    assert [row["case"] for row in lowest(table, 1)] == ["c1"]
    assert lowest(table, 1)[0]["DSC"] == "0.100"
