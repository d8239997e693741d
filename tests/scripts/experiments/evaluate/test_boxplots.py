"""Which cases and slices are shown, which way up, and in true proportions."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from scripts.experiments.evaluate.boxplots import box_plots, choose_cases, target_class
from scripts.experiments.evaluate.measure import COLUMNS
from scripts.experiments.evaluate.overlay import (
    _best_slice,
    _cut,
    _extent,
    _named,
    _zoom,
    colours,
    load,
    overlay,
    window,
)


def table(dsc: list[float]) -> pd.DataFrame:
    rows = [
        dict.fromkeys(COLUMNS, 0.0)
        | {"case": f"c{i}", "patient": f"c{i}", "class": "tumor", "dsc": v, "hd95_mm": 9.0, "outcome": "found"}
        for i, v in enumerate(dsc)
    ]
    return pd.DataFrame(rows)


def test_best_median_and_worst() -> None:
    scores = table([0.5, 0.9, 0.1, 0.7, 0.3])
    assert choose_cases(scores, "tumor", 3) == [("best", "c1"), ("median", "c0"), ("worst", "c2")]
    assert len(choose_cases(scores, "tumor", 4)) == 4
    assert choose_cases(scores, "tumor", 1) == [("median", "c0")]
    assert [r for r, _ in choose_cases(scores, "tumor", 9)] == ["best", "rank 2 of 5", "median", "rank 4 of 5", "worst"]
    assert choose_cases(scores, "tumor", 0) == []
    assert len(choose_cases(scores[:1], "tumor", 3)) == 1


@pytest.fixture
def lps(tmp_path: Path) -> dict[str, str]:
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
    return {"case": "c", "image": str(tmp_path / "image.nii.gz"), "label": str(tmp_path / "label.nii.gz")}


def test_any_orientation_is_shown_the_same_way_up(lps: dict[str, str], tmp_path: Path) -> None:
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


def test_slices_where_the_target_is_largest_in_true_proportions(lps: dict[str, str], tmp_path: Path) -> None:
    volume = load(lps, tmp_path / "pred")
    assert _best_slice(volume.truth == 2, volume.pred == 2, 2) == 2
    assert _best_slice(np.zeros_like(volume.truth), volume.pred == 2, 2) == 2, "a false positive is shown where it is"
    assert _extent(volume, 2) == ([0.0, 24.0, 15.0, 0.0], True)
    assert _extent(volume, 0) == ([0.0, 15.0, 0.0, 36.0], False)
    assert _zoom(volume, 2) == (0.0, 24.0, 0.0, 15.0), "never beyond the image"


def test_of_many_classes_the_largest_in_the_slices_are_named(lps: dict[str, str], tmp_path: Path) -> None:
    volume = load(lps, tmp_path / "pred")
    many = {"organ": [1, 2], "tumor": [2], **{f"class {i}": [i] for i in range(3, 30)}}
    named = _named(volume, many, {2: _best_slice(volume.truth > 0, volume.pred > 0, 2)})
    assert named[:2] == ["organ", "tumor"]
    assert len(named) == 10
    assert _named(volume, {"tumor": [2]}, {2: 0}) == ["tumor"]


def test_overlay_is_written_with_the_papers_colours(lps: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "overlay.png"
    classes = {"organ": [1, 2], "tumor": [2]}
    overlay(
        load(lps, tmp_path / "pred"),
        classes,
        target_class(classes),
        "mr",
        "c",
        {"organ": "DSC 1", "tumor": "DSC 1"},
        file,
    )
    pixels = matplotlib.image.imread(file)[..., :3]
    # left third: the image alone, grey; the middle and right thirds carry blue and yellow lines
    colourful = np.ptp(pixels, axis=2) > 0.4
    height, width = colourful.shape
    body = colourful[int(0.12 * height) : int(0.93 * height)]
    thirds = [body[:, int(a * width / 3) : int((a + 1) * width / 3)].sum() for a in range(3)]
    assert thirds[0] == 0
    assert thirds[1] > 300
    assert thirds[2] > 300


def test_box_plots_are_written(tmp_path: Path) -> None:
    scores = pd.concat([table([0.5, 0.9, 0.1]), table([0.9, 0.95, 0.8]).assign(**{"class": "organ"})])
    for tables in ({"a": scores}, {"a": scores, "b": scores}):
        box_plots(tables, tmp_path / "box.png")
        assert matplotlib.image.imread(tmp_path / "box.png").shape[1] > 800


def test_many_box_plots_lie_below_each_other_without_absent_classes(tmp_path: Path) -> None:
    one = table([0.5, 0.9, 0.1])
    many = [one.assign(**{"class": f"c{i}"}) for i in range(40)]
    box_plots({"a": pd.concat(many)}, tmp_path / "many.png")
    absent = [one.assign(**{"class": f"d{i}", "outcome": "absent"}) for i in range(40)]
    box_plots({"a": pd.concat(many + absent)}, tmp_path / "same.png")
    first, second = (matplotlib.image.imread(tmp_path / f"{name}.png") for name in ("many", "same"))
    assert first.shape[1] < 1500
    assert first.shape == second.shape


def test_targets_colours_and_windows() -> None:
    assert target_class({"organ": [1, 2], "tumor": [2]}) == "tumor"
    assert target_class({"HR-CTV": [1], "bladder": [2]}) == "HR-CTV"
    assert target_class({"liver": [1]}) == "liver"
    many = colours([f"c{i}" for i in range(20)])
    assert len(many) == 20
    assert colours(["organ", "tumor"]) == {"organ": "#3d8bff", "tumor": "#ffd500"}
    assert window(np.zeros((3, 3, 3)), "ct") == (-160.0, 240.0)
    low, high = window(np.zeros((3, 3, 3)), "mr")
    assert high > low
