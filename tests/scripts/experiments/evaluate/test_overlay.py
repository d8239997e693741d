"""Pixels of the overlays: edges on the right voxels, the right way round, in true proportions."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure

from custom_networks import CaseError
from scripts.core.datalist import Case
from scripts.experiments.evaluate.overlay import DisplayedCase, _best_slice, _cut, _extent, _named, _zoom, load, overlay

CLASSES = {"organ": [1, 2], "tumor": [2]}
SCORES = {"organ": "DSC 0.9", "tumor": "DSC 0.8"}
BLUE, YELLOW = (0x3D / 255, 0x8B / 255, 1.0), (1.0, 0xD5 / 255, 0.0)


@pytest.fixture
def lps(tmp_path: Path) -> Case:
    """A volume whose voxels tell where they are, written in LPS."""
    voxels = np.zeros((12, 10, 6), dtype=np.int16)
    voxels[9:, :, :] += 100  # patient's left
    voxels[:, 7:, :] += 200  # posterior
    voxels[:, :, 4:] += 400  # superior
    label = np.zeros_like(voxels)
    label[2:8, 3:6, 1:4] = 1
    label[3:7, 3:5, 2] = 2
    nifti = nib.Nifti1Image(voxels, np.diag([-2.0, -1.5, 6.0, 1.0]))
    assert nib.aff2axcodes(nifti.affine) == ("L", "P", "S")
    (tmp_path / "pred").mkdir()
    nib.save(nifti, tmp_path / "image.nii.gz")
    for name in ("label", "pred/c"):
        nib.save(nib.Nifti1Image(label, nifti.affine), tmp_path / f"{name}.nii.gz")
    return Case("c", {"image": str(tmp_path / "image.nii.gz"), "label": str(tmp_path / "label.nii.gz")}, "p")


def test_any_orientation_is_shown_the_same_way_up(lps: Case, tmp_path: Path) -> None:
    expected = load(lps, tmp_path / "pred")
    assert expected.spacing.tolist() == pytest.approx([2.0, 1.5, 6.0])
    assert expected.plane == 2
    # rows of an axial slice go from anterior to posterior, columns from the patient's right to left
    axial = _cut(expected.image, 2, 0)
    assert (axial[0, 0], axial[0, -1], axial[-1, 0]) == (0, 100, 200)
    sagittal = _cut(expected.image, 0, 0)
    assert (sagittal[0, 0], sagittal[0, -1], sagittal[-1, 0]) == (0, 200, 400)
    files = (tmp_path / "image.nii.gz", tmp_path / "label.nii.gz", tmp_path / "pred/c.nii.gz")
    originals = [nib.load(f) for f in files]
    voxels = [np.asarray(o.dataobj) for o in originals]
    for order, flips in product(permutations(range(3)), product((1, -1), repeat=3)):
        turn = np.array([[axis, flip] for axis, flip in zip(order, flips, strict=True)])
        affine = originals[0].affine @ nib.orientations.inv_ornt_aff(turn, originals[0].shape)
        for file, data in zip(files, voxels, strict=True):
            nib.save(nib.Nifti1Image(nib.orientations.apply_orientation(data, turn), affine), file)
        turned = load(lps, tmp_path / "pred")
        assert np.array_equal(turned.image, expected.image)
        assert np.array_equal(turned.pred, expected.pred)
        assert turned.spacing.tolist() == pytest.approx(expected.spacing.tolist())


def test_an_image_on_another_grid_is_refused(lps: Case, tmp_path: Path) -> None:
    image = nib.load(lps.image)
    moved = image.affine.copy()
    moved[0, 3] += 4
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved), lps.image)
    with pytest.raises(CaseError, match=r"label .* and its image lie on different grids \(apart by 4.00 mm\)"):
        load(lps, tmp_path / "pred")


def test_slices_where_the_target_is_largest_in_true_proportions(lps: Case, tmp_path: Path) -> None:
    volume = load(lps, tmp_path / "pred")
    assert _best_slice(volume.truth == 2, volume.pred == 2, 2) == 2
    assert _best_slice(np.zeros_like(volume.truth), volume.pred == 2, 2) == 2, "a false positive is shown where it is"
    assert _extent(volume, 2) == ([0.0, 24.0, 15.0, 0.0], True)
    assert _extent(volume, 0) == ([0.0, 15.0, 0.0, 36.0], False)
    assert _zoom(volume, 2) == (0.0, 24.0, 0.0, 15.0), "never beyond the image"


def test_of_many_classes_the_largest_in_the_slices_are_named(lps: Case, tmp_path: Path) -> None:
    volume = load(lps, tmp_path / "pred")
    many = CLASSES | {f"class {i}": [i] for i in range(3, 30)}
    named = _named(volume, many, {2: _best_slice(volume.truth > 0, volume.pred > 0, 2)})
    assert named[:2] == ["organ", "tumor"]
    assert len(named) == 10
    assert _named(volume, {"tumor": [2]}, {2: 0}) == ["tumor"]


class Drawn:
    """A picture in pixels, and where its axes put millimetres."""

    def __init__(self, volume: DisplayedCase, file: Path, title: str = "c") -> None:
        figures: list[Figure] = []
        save = Figure.savefig
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Figure, "savefig", lambda f, *a, **k: (figures.append(f), save(f, *a, **k)))
            overlay(volume, CLASSES, "tumor", "mr", title, SCORES, file)
        self.figure = figures[0]
        self.pixels = matplotlib.image.imread(file)[..., :3]

    def like(self, colour: tuple[float, float, float], panel: int) -> np.ndarray:
        """Where a panel has a colour, in mm of its axes: (n, 2), horizontal and vertical."""
        axes = self.figure.axes[panel]
        rows, columns = np.nonzero(np.abs(self.pixels - colour).max(axis=2) < 0.2)
        # pixel centres, the first row at the top of the figure
        shown = np.column_stack([columns + 0.5, self.pixels.shape[0] - rows - 0.5])
        inside = axes.get_window_extent().contains
        shown = np.array([point for point in shown if inside(*point)]).reshape(-1, 2)
        return axes.transData.inverted().transform(shown) if len(shown) else shown

    def brightest(self, panel: int) -> np.ndarray:
        """Where a panel is as bright as it gets, in fractions of its width and height from the upper left."""
        box = self.figure.axes[panel].get_window_extent()
        height = self.pixels.shape[0]
        part = self.pixels[int(height - box.y1) + 1 : int(height - box.y0), int(box.x0) + 1 : int(box.x1)].min(axis=2)
        # away from the letters and the bar at the rim
        rim = np.zeros_like(part)
        rim[part.shape[0] // 8 : -part.shape[0] // 8, part.shape[1] // 8 : -part.shape[1] // 8] = 1
        return np.argwhere(part * rim > 0.85).mean(axis=0) / part.shape


@pytest.fixture
def cube() -> DisplayedCase:
    """Truth and prediction 20 mm apart in a dark image of 2 x 2 x 6 mm, with a marker at the patient's left, in front, above."""
    image = np.zeros((60, 50, 20), np.float32)
    image[:, :, :] = 10
    image[44:50, 10:16, 13:16] = 1000
    truth, pred = (np.zeros(image.shape, np.uint8) for _ in range(2))
    truth[15:25, 20:30, 8:16] = 1
    truth[18:22, 23:27, 14] = 2
    pred[25:35, 20:30, 8:16] = 1
    pred[28:32, 23:27, 14] = 2
    return DisplayedCase(image, truth, pred, np.array([2.0, 2.0, 6.0]), 2)


def test_edges_lie_on_the_borders_of_the_voxels(cube: DisplayedCase, tmp_path: Path) -> None:
    """Panels 0 to 2 are axial: image, truth, prediction; horizontal mm count from the patient's right, vertical from front."""
    drawn = Drawn(cube, tmp_path / "a.png")
    assert len(drawn.like(BLUE, 0)) == len(drawn.like(YELLOW, 0)) == 0, "the image alone"
    for panel, colour, low, high in (
        (1, BLUE, (30, 40), (50, 60)),
        (1, YELLOW, (36, 46), (44, 54)),
        (2, YELLOW, (36, 46), (64, 54)),
    ):
        found = drawn.like(colour, panel)
        assert found.min(axis=0) == pytest.approx(low, abs=0.8)
        assert found.max(axis=0) == pytest.approx(high, abs=0.8)
    # and sagittally, where slices are 6 mm: from the eighth to the sixteenth
    sagittal = drawn.like(BLUE, 4)
    assert sagittal.min(axis=0) == pytest.approx((40, 48), abs=0.8)
    assert sagittal.max(axis=0) == pytest.approx((60, 96), abs=0.8)


def test_the_truth_is_dashed_over_the_prediction(cube: DisplayedCase, tmp_path: Path) -> None:
    """Blue on the left border of the truth: unbroken in the truth's panel, in dashes in the prediction's."""
    drawn = Drawn(cube, tmp_path / "a.png")
    counts = []
    for panel in (1, 2):
        points = drawn.like(BLUE, panel)
        border = points[(np.abs(points[:, 0] - 30) < 0.8) & (points[:, 1] > 42) & (points[:, 1] < 58)]
        counts.append(len(np.unique(border[:, 1].round(2))))
    assert counts[1] > 10, "the truth is there"
    assert counts[1] < 0.8 * counts[0], "and broken"


def test_a_missed_prediction_still_shows_the_truth_dashed(cube: DisplayedCase, tmp_path: Path) -> None:
    cube.pred[:] = 0
    drawn = Drawn(cube, tmp_path / "a.png")
    found = drawn.like(BLUE, 2)
    assert found.min(axis=0) == pytest.approx((30, 40), abs=0.8)
    assert found.max(axis=0) == pytest.approx((50, 60), abs=0.8)


def test_left_is_right_front_is_up_and_head_is_up(cube: DisplayedCase, tmp_path: Path) -> None:
    cube.truth[cube.truth == 2] = 1
    cube.truth[46, 12, 14] = 2  # inside the marker, which both slices then cut
    drawn = Drawn(cube, tmp_path / "a.png")
    row, column = drawn.brightest(0)
    assert column > 0.6, "the patient's left is at the right"
    assert row < 0.45, "anterior is at the top"
    row, column = drawn.brightest(3)
    assert column < 0.5, "anterior is at the left of a sagittal slice"
    assert row < 0.45, "superior is at the top"
    letters = {text.get_text() for text in drawn.figure.axes[0].texts}
    assert {"R", "L", "A", "P", "axial 15/20", "20 mm"} <= letters


def test_pixels_are_square_in_mm_and_the_bar_is_20_mm(cube: DisplayedCase, tmp_path: Path) -> None:
    drawn = Drawn(cube, tmp_path / "a.png")
    for axes in drawn.figure.axes:
        unit = axes.transData.transform([[0, 0], [1, 0], [0, 1]])
        width, height = (np.linalg.norm(unit[i] - unit[0]) for i in (1, 2))
        assert width == pytest.approx(height, rel=0.02)
    bar = drawn.figure.axes[0].lines[-1].get_xdata()
    assert bar[1] - bar[0] == pytest.approx(20)


def test_names_from_outside_cannot_break_the_picture(cube: DisplayedCase, tmp_path: Path) -> None:
    drawn = Drawn(cube, tmp_path / "a.png", title="$x_{\x01 case")
    assert drawn.figure.texts[0].get_text() == "\\$x_{? case"
    assert not list(tmp_path.glob(".partial*"))
