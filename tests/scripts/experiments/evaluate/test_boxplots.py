"""What the boxes show: quartiles, means, misses, and which way they lie."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from scripts.experiments.evaluate.boxplots import box_plots


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, which are saved all the same."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (figures.append(figure), save(figure, *a, **k)))
    return figures


SCORES = [0.2, 0.4, 0.5, 0.6, 0.8]


def test_boxes_are_at_the_quartiles_of_the_values(case_table: Any, tmp_path: Path, drawn: list[Figure]) -> None:
    gone = {"outcome": "missed", "hd95_mm": math.nan}
    table = case_table([*({"dsc": s, "case": f"{s}"} for s in SCORES), {"dsc": 0.0, "case": "m", **gone}])
    box_plots({"a": table}, tmp_path / "box.png")
    dsc, hd95 = drawn[0].axes
    values = np.array([*SCORES, 0.0])
    box = dsc.patches[0].get_path().vertices[:, 1]
    assert (box.min(), box.max()) == pytest.approx(np.percentile(values, [25, 75]))
    median = next(line for line in dsc.lines if line.get_color() == "#111111")
    assert median.get_ydata()[0] == pytest.approx(np.median(values))
    mean = next(line for line in dsc.lines if line.get_marker() == "x")
    assert mean.get_ydata()[0] == pytest.approx(values.mean())
    # a miss counts as 0 in DSC and is counted at the axis of HD95, where it has no value
    assert [text.get_text() for text in dsc.get_xticklabels()] == ["organ\nn = 6"]
    assert [text.get_text() for text in hd95.get_xticklabels()] == ["organ\nn = 5\n1 missed"]
    box = hd95.patches[0].get_path().vertices[:, 1]
    assert (box.min(), box.max()) == pytest.approx(np.percentile(10 * (1 - np.array(SCORES)), [25, 75]))
    assert dsc.get_ylim() == (-0.02, 1.02)
    assert hd95.get_ylim()[0] == 0


def test_the_boxes_can_be_seen_where_the_values_are(case_table: Any, tmp_path: Path) -> None:
    """High scores: the colour is in the upper half of the left plot, not at its bottom."""
    box_plots({"a": case_table([{"dsc": s, "case": f"{s}"} for s in (0.7, 0.8, 0.9)])}, tmp_path / "box.png")
    pixels = matplotlib.image.imread(tmp_path / "box.png")[..., :3]
    blue = (pixels[..., 2] - pixels[..., 0]) > 0.3
    rows = np.flatnonzero(blue[:, : pixels.shape[1] // 2].any(axis=1)) / len(pixels)
    assert rows.size
    assert rows.max() < 0.4
    assert rows.min() > 0.05


def test_models_stand_side_by_side(case_table: Any, tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [{"name": name, "dsc": s, "case": f"{s}"} for name in ("organ", "tumor") for s in SCORES]
    box_plots({"ours": case_table(rows), "$theirs$": case_table(rows)}, tmp_path / "box.png")
    texts = [text.get_text() for text in drawn[0].axes[0].get_xticklabels()]
    assert texts == [
        "organ\nours\nn = 5",
        "organ\n\\$theirs\\$\nn = 5",
        "tumor\nours\nn = 5",
        "tumor\n\\$theirs\\$\nn = 5",
    ]
    assert len(drawn[0].axes[0].patches) == 4


def test_many_lie_below_each_other_without_absent_classes(case_table: Any, tmp_path: Path, drawn: list[Figure]) -> None:
    many = [{"name": f"c{i}", "dsc": s, "case": f"{s}"} for i in range(40) for s in (0.5, 0.9, 0.1)]
    absent = [{"name": f"d{i}", "dsc": math.nan, "outcome": "absent"} for i in range(40)]
    for name, rows in (("many", many), ("same", many + absent)):
        box_plots({"a": case_table(rows)}, tmp_path / f"{name}.png")
    first, second = (matplotlib.image.imread(tmp_path / f"{name}.png") for name in ("many", "same"))
    assert first.shape[1] < 1500
    assert first.shape == second.shape
    texts = [text.get_text() for text in drawn[1].axes[0].get_yticklabels()]
    assert texts == [f"c{i}, n = 3" for i in range(40)]
    low, high = drawn[1].axes[0].get_ylim()
    assert low > high, "the first class is at the top"
    # the median of the first class lies along the axis of values
    assert any(line.get_xdata()[0] == pytest.approx(0.5) for line in drawn[1].axes[0].lines)


def test_a_class_without_a_value_is_an_empty_box(case_table: Any, tmp_path: Path, drawn: list[Figure]) -> None:
    table: pd.DataFrame = case_table([{"dsc": 0.0, "hd95_mm": math.nan, "outcome": "no prediction"}])
    box_plots({"a": table}, tmp_path / "box.png")
    assert [t.get_text() for t in drawn[0].axes[1].get_xticklabels()] == ["organ\nn = 0\n1 missed"]
