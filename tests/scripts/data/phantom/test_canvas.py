"""What MR and CT share: pose, image axes, the organ's extent, the grid of the signal, painting."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from scripts.data.phantom.canvas import Canvas, directions, organ_extent, pose, subsampled
from scripts.data.phantom.cervix_uterus import organ_label
from scripts.data.phantom.sampled_anatomy import sample_anatomy
from scripts.data.phantom.shapes import Grid


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "AIL"])
def test_directions_are_nibabels_axis_codes(codes: str) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = directions(codes, np.eye(3))
    assert "".join(nib.aff2axcodes(matrix)) == codes


def test_a_pose_scales_turns_and_shifts() -> None:
    anatomy = sample_anatomy(0, 0)
    matrix = pose(np.random.default_rng(0), anatomy)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3) * anatomy.scale**2, atol=1e-9)
    assert np.linalg.det(matrix[:3, :3]) > 0
    assert 0 < np.abs(matrix[:3, 3]).max() < 60


def test_the_extent_holds_the_organ() -> None:
    for patient in range(4):
        anatomy = sample_anatomy(7, patient)
        low, high = organ_extent(anatomy, np.eye(4), np.eye(3))
        affine = np.diag([3.0, 3, 3, 1])
        affine[:3, 3] = low - 15
        shape = tuple(int(n) for n in np.ceil((high - low + 30) / 3))
        label = organ_label(anatomy, Grid((shape[0], shape[1], shape[2]), affine, anatomy.warp))
        place = np.argwhere(label) * 3 + affine[:3, 3]
        unscaled = 1 if anatomy.scale >= 1 else 1 / anatomy.scale
        assert (place.min(0) >= low * unscaled - 3).all()
        assert (place.max(0) <= high * unscaled + 3).all()
        assert set(np.unique(label)) == {0, 1, 2}


def test_the_grid_of_the_signal_ends_where_the_image_does() -> None:
    affine = np.diag([0.5, 0.5, 4.0, 1.0])
    affine[:3, 3] = [10, 20, 30]
    shape, fine = subsampled(affine, (101, 81, 6), 1.0, 2)
    assert shape == (51, 41, 12)
    first, last = fine @ [0, 0, 0, 1], fine @ [50, 40, 0, 1]
    np.testing.assert_allclose(first[:2], [10, 20])
    np.testing.assert_allclose(last[:2], [10 + 50, 20 + 40])
    # two samples through a slice lie a quarter of it before and behind its centre
    np.testing.assert_allclose([first[2], (fine @ [0, 0, 1, 1])[2]], [29, 31])


def test_paint_covers_by_its_share() -> None:
    flat = {"": np.ones((4, 4, 4), np.float32)}
    canvas = Canvas((4, 4, 4), {"fat": (100.0, 0.0), "grainy": (50.0, 10.0)}, flat, empty=20)
    box = (slice(0, 2), slice(0, 4), slice(0, 4))
    canvas("fat", box, np.full((2, 4, 4), 0.25, np.float32))
    assert canvas.signal[0, 0, 0] == 40
    assert canvas.signal[3, 0, 0] == 20
    canvas("grainy", box, np.ones((2, 4, 4), np.float32))
    assert (canvas.signal[:2] == 60).all()
