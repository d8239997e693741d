"""Charts: every value where its axis says, in the SVG that the page holds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from scripts.core.page.charts import Axis, Chart, Curve, Dot, Rule, Spread, Spreads
from scripts.core.page.page import Section, write_page


def drawn(chart: object, folder: Path) -> str:
    (folder / "c.html").write_text("""{% from "charts.html" import charts %}{{ charts(list) }}""")
    return write_page(folder / "p.html", "t", "l", [Section("C", folder / "c.html", {"list": [chart]})]).read_text(
        "utf-8"
    )


def test_positions_and_ticks() -> None:
    axis = Axis("DSC", 0, 1)
    assert [axis.part(v) for v in (0, 0.25, 1)] == [0, 0.25, 1]
    assert [text for _, text in axis.ticks()] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    decades = Axis("ml", 1, 1000, log=True)
    assert decades.part(10) == pytest.approx(1 / 3)
    assert [text for _, text in decades.ticks()] == ["1", "10", "100", "1000"]
    assert len(Axis("ml", 80, 130, log=True).ticks()) >= 3, "less than a decade"
    assert Axis.around("x", [float("nan")]).ticks()
    assert Axis.around("ml", [0.0, 5.0], log=True).low > 0


def test_a_dot_a_curve_and_a_rule_are_where_their_values_are(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    curve = Curve([(0, 0), (10, 1)], evil, "#112233")
    chart = Chart(evil, Axis("x", 0, 10), Axis("y", 0, 1), [Dot(5, 0.5, evil, "#445566")], [curve], [Rule(0.25, evil)])
    text = drawn(chart, tmp_path)
    assert "<script>alert" not in text
    middle = (chart.left + chart.right) / 2, (chart.top + chart.bottom) / 2
    assert f'<circle class="dot" cx="{middle[0]}" cy="{middle[1]}" r="4" fill="#445566">' in text
    assert f'points="{chart.left}.0,{chart.bottom}.0 {chart.right}.0,{chart.top}.0"' in text
    assert f'y1="{chart.bottom - (chart.bottom - chart.top) / 4}"' in text


def test_a_box_is_quartiles_and_whiskers_and_every_value_is_there(tmp_path: Path) -> None:
    values = [*np.linspace(0.5, 0.9, 9), 0.05]
    row = Spread("organ", values, [f"c{i}" for i in range(10)], "#112233", "1 missed")
    q1, q3 = np.percentile(values, [25, 75])
    assert row.box == pytest.approx(
        {"q1": q1, "q3": q3, "median": np.median(values), "mean": np.mean(values), "low": 0.5, "high": 0.9}
    )
    chart = Spreads("t", Axis("DSC", 0, 1), [row, Spread("none", [], [], "#112233")])
    text = drawn(chart, tmp_path)
    found = [float(x) for x in re.findall(r'class="dot" cx="([0-9.]+)"', text)]
    assert found == [chart.at_x(v) for v in values]
    assert "1 missed" in text
    assert "<title>c9</title>" in text
