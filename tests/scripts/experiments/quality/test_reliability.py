"""The curve is drawn where the numbers are."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np

from scripts.experiments.quality.model import Model, Reliability
from scripts.experiments.quality.reliability import draw


def test_a_panel_per_structure_with_its_points(tmp_path: Path) -> None:
    bins = ((0.1, 0.05, 20), (0.5, 0.6, 8), (0.9, 0.8, 4))
    right = Reliability(0.8, 0.7, 0.9, 0.1, 0.2, 0.07, bins, -0.5)
    model = Model(0.7, False, ("entropy",), (0.0,), (1.0,), (1.0,), 0.0, 32, 32, 8, right)
    for count in (1, 4):
        draw(tmp_path / "r.png", {f"organ{i}": model for i in range(count)})
        picture = matplotlib.image.imread(tmp_path / "r.png")[..., :3]
        assert picture.shape[:2] == ((418, 396) if count == 1 else (836, 1188))
        assert np.ptp(picture, axis=-1).max() > 0.3, "the curve has a colour"
