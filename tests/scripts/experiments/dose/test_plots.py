"""The picture of a case's histograms."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scripts.core.datalist import Case
from scripts.experiments.dose.case import Measured, Structure
from scripts.experiments.dose.dvh import Histogram
from scripts.experiments.dose.plots import plot_dvh

GOOD = Histogram(np.linspace(10, 1, 1000), np.linspace(0.01, 10, 1000), 10.0)
OUTSIDE = Histogram(GOOD.dose, GOOD.reached, 10.0, 0.2)


def case(histograms: dict[str, Histogram | None]) -> Measured:
    return Measured(Case("p$1_$", {}), 1, [Structure("HR-CTV", histograms, {})])


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_both_contours_are_drawn(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"dvh.{suffix}"
    assert plot_dvh(case({"manual": GOOD, "automatic": GOOD}), file, 7.0)
    if suffix == "svg":
        text = file.read_text()
        assert "stroke-dasharray" in text
    else:
        red = np.array(Image.open(file).convert("RGB")).astype(int)
        assert ((red[..., 0] > 200) & (red[..., 1] < 120)).sum() > 500


@pytest.mark.parametrize("histograms", [{"manual": None}, {"manual": OUTSIDE, "automatic": None}])
def test_nothing_is_drawn_of_what_has_no_number(tmp_path: Path, histograms: Any) -> None:
    assert not plot_dvh(case(histograms), tmp_path / "dvh.png")
    assert not list(tmp_path.iterdir())
