from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np

from scripts.core.look import label_colors
from scripts.sharing.segment.preview import preview

LABELS = {0: "background", 1: "organ", 2: "tumor"}


def draw(path: Path, label: np.ndarray, affine: np.ndarray) -> np.ndarray:
    image = np.random.default_rng(0).normal(100, 5, label.shape)
    pixels = matplotlib.image.imread(preview(path, image, label, affine, LABELS, "MR", "automatic"))
    return np.round(pixels[..., :3] * 255).astype(int)


def places(pixels: np.ndarray, value: int) -> np.ndarray:
    """Mean column of a label's outline within the picture, and number of pixels; the legend is on the right."""
    near = np.abs(pixels[:, :480] - np.array(label_colors(LABELS)[value])).max(-1) < 40
    return np.array([np.nonzero(near)[1].mean() if near.any() else np.nan, near.sum()])


def test_the_patients_right_is_on_the_left_whatever_the_storage(tmp_path: Path) -> None:
    label = np.zeros((30, 30, 6), np.uint8)
    label[2:10, 10:20, 3] = 1  # low x: the patient's right in LAS, left in RAS
    stored_ras, stored_las = np.diag([2.0, 2.0, 5.0, 1.0]), np.diag([-2.0, 2.0, 5.0, 1.0])
    left, right = (places(draw(tmp_path / "p.png", label, affine), 1) for affine in (stored_ras, stored_las))
    assert right[1] > 50
    assert right[0] < 240 < left[0]


def test_legend_has_what_is_there(tmp_path: Path) -> None:
    label = np.zeros((30, 30, 6), np.uint8)
    empty = draw(tmp_path / "empty.png", label, np.eye(4))
    assert places(empty, 1)[1] == places(empty, 2)[1] == 0
    label[5:20, 5:20, 3], label[10:14, 10:14, 3] = 1, 2
    legend = draw(tmp_path / "both.png", label, np.eye(4))[:, 500:]
    for value in (1, 2):
        assert (np.abs(legend - np.array(label_colors(LABELS)[value])).max(-1) < 10).sum() > 50
