"""Colours, grey range and the picture of one slice."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.core.look import colours, grey_range, label_colors, plain_text, slice_picture

LABELS = {0: "background", 1: "organ", 2: "tumour"}


def test_the_papers_colours_and_a_palette_without_them() -> None:
    assert colours(["organ", "Tumor", "tumour"]) == {"organ": "#3d8bff", "Tumor": "#ffd500", "tumour": "#ffd500"}
    many = colours(["organ", *(f"c{i}" for i in range(20))])
    assert len(many) == 21
    assert "#3d8bff" not in [colour for name, colour in many.items() if name != "organ"]
    assert len(set(colours([f"c{i}" for i in range(10)]).values())) == 10
    assert label_colors(LABELS) == {1: (0x3D, 0x8B, 0xFF), 2: (0xFF, 0xD5, 0x00)}


def test_grey_range() -> None:
    ct = np.array([-1000.0] * 50 + [40.0] * 50)
    assert grey_range(ct, "ct") == (-160.0, 240.0)
    assert grey_range(ct / 1000, "CT") != (-160.0, 240.0), "not in HU"
    mr = np.concatenate([np.zeros(500), np.linspace(100, 200, 501)])
    low, high = grey_range(mr, "MR")
    assert (low, high) == pytest.approx((101, 199.8))
    assert grey_range(np.append(mr, [np.nan, np.inf]), "MR") == pytest.approx((101, 199.8), abs=0.1)
    for image in (np.zeros((3, 3)), np.full((3, 3), np.nan)):
        low, high = grey_range(image, "mr")
        assert high > low


def test_plain_text() -> None:
    assert plain_text("$x_{\x01\n") == "\\$x_{?\n"


@pytest.fixture
def image() -> np.ndarray:
    voxels = np.full((30, 24, 8), 50, np.float32)
    voxels[25:, :, :] = 200  # the patient's left
    return voxels


def test_left_is_right_and_edges_lie_on_the_right_voxels(image: np.ndarray) -> None:
    label = np.zeros(image.shape, np.uint8)
    label[10:16, 8:14, 2:6] = 1
    label[12:14, 10:12, 5] = 2
    picture, aspect = slice_picture(image, label, (1.0, 1.0, 5.0), LABELS, "MR")
    assert aspect == 1
    # cut to 0.3 of the side around a label of 6: 10 to each side of its middle
    assert picture.shape == (21, 21, 3)
    tumour = np.argwhere((picture == (0xFF, 0xD5, 0x00)).all(axis=2))
    organ = np.argwhere((picture == (0x3D, 0x8B, 0xFF)).all(axis=2))
    # rows begin at the most anterior voxel, columns at the third from the patient's right
    assert tumour.tolist() == [[10, 10], [10, 11], [11, 10], [11, 11]]
    assert organ.min(axis=0).tolist() == [8, 8]
    assert organ.max(axis=0).tolist() == [13, 13]
    assert len(organ) == 20 + 8, "the outline of 6 x 6, and that around the tumour"


def test_the_patients_left_is_at_the_right(image: np.ndarray) -> None:
    picture, _ = slice_picture(image, None, (1.0, 1.0, 5.0), LABELS, "MR")
    assert picture.shape == (24, 30, 3)
    assert picture[:, 26:].mean() > picture[:, :24].mean() + 100


def test_the_head_is_up_in_sagittal_series() -> None:
    image = np.zeros((6, 30, 40), np.float32)
    image[:, :, 30:] = 50
    picture, aspect = slice_picture(image, None, (5.0, 1.0, 0.5), LABELS)
    assert picture.shape == (40, 30, 3)
    assert aspect == 0.5
    assert picture[0, 15, 0] > picture[-1, 15, 0]


@pytest.mark.parametrize("name", ["tumor", "Tumour"])
def test_the_slice_with_most_tumour_is_shown_however_it_is_spelt(image: np.ndarray, name: str) -> None:
    label = np.zeros(image.shape, np.uint8)
    label[5:25, 5:20, 1] = 1
    label[12:14, 10:12, 6] = 2
    picture, _ = slice_picture(image, label, (1.0, 1.0, 5.0), {1: "organ", 2: name})
    assert (picture == (0xFF, 0xD5, 0x00)).all(axis=2).any()
