"""On which grid, and the row of a class."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from custom_networks import CaseError
from scripts.core.datalist import Case
from scripts.experiments.evaluate.measure import COLUMNS, measure, measure_case


@pytest.fixture
def sheared(tmp_path: Path) -> Case:
    """A case on an oblique grid of 0.5 x 2 x 3 mm, stored as floats."""
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.5, 2.0, 3.0])
    label = np.zeros((12, 9, 6), np.float32)
    label[2:8, 2:6, 1:4] = 1
    pred = np.roll(label, 1, 2)
    (tmp_path / "pred").mkdir()
    for name, voxels in (("label", label), ("pred/c", pred)):
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / f"{name}.nii.gz")
    return Case("c", {"image": "c.nii.gz", "label": str(tmp_path / "label.nii.gz")}, "p")


def test_millimetres_and_millilitres_of_an_oblique_grid(sheared: Case, tmp_path: Path) -> None:
    (row,) = measure_case(sheared, tmp_path / "pred", {"x": [1]})
    assert tuple(row) == COLUMNS
    assert (row["case"], row["patient"], row["class"], row["outcome"]) == ("c", "p", "x", "found")
    assert row["label_ml"] == pytest.approx(6 * 4 * 3 * 3.0 / 1000)
    assert (row["volume_error_ml"], row["volume_error_percent"]) == (0, 0)
    assert row["dsc"] == pytest.approx(2 / 3)
    assert row["hd95_mm"] == pytest.approx(3.0), "one slice is 3 mm"
    (near,) = measure_case(sheared, tmp_path / "pred", {"x": [1]}, tolerance=3.1)
    assert near["nsd"] == 1 > row["nsd"]


def test_outcomes(sheared: Case, tmp_path: Path) -> None:
    rows = measure_case(sheared, tmp_path / "pred", {"x": [1], "y": [2]})
    assert [row["outcome"] for row in rows] == ["found", "absent"]
    (tmp_path / "none").mkdir()
    rows = measure_case(sheared, tmp_path / "none", {"x": [1], "y": [2]})
    assert [row["outcome"] for row in rows] == ["no prediction", "absent"]
    assert (rows[0]["missed"], rows[0]["dsc"], rows[0]["volume_error_percent"]) == (1, 0, -100)
    assert math.isnan(rows[1]["volume_error_ml"])


def test_labels_that_the_datalist_does_not_know_are_refused(sheared: Case, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"label .* holds unknown label values \[1\]"):
        measure_case(sheared, tmp_path / "pred", {"x": [1]}, known=[0, 2])


def test_what_cannot_be_measured_is_named_and_the_rest_is_in_order(sheared: Case, tmp_path: Path) -> None:
    broken = replace(sheared, name="b", files=sheared.files | {"label": str(tmp_path / "absent.nii.gz")})
    cases = [sheared, broken, replace(sheared, name="a")]
    table, failed = measure(cases, tmp_path / "pred", {"x": [1]}, workers=3)
    assert table["case"].tolist() == ["c", "a"]
    assert [error.case for error in failed] == ["b"]
    assert "does not exist" in str(failed[0])
    with pytest.raises(CaseError, match=r"absent.nii.gz does not exist"):
        measure([broken], tmp_path / "pred", {"x": [1]})


def test_an_unforeseen_failure_is_one_sentence_too(sheared: Case, tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("cannot allocate")

    monkeypatch.setattr("scripts.experiments.evaluate.measure.surface_metrics", fail)
    with pytest.raises(CaseError, match=r"c: label or prediction cannot be read \(MemoryError: cannot allocate\)"):
        measure([sheared], tmp_path / "pred", {"x": [1]})


def test_real_masks_are_measured_as_simpleitk_does(samples: Path, tmp_path: Path) -> None:
    """A bladder on oblique MR against itself dilated and moved."""
    file = next((samples / "cases").glob("mr_pelvis_t2_prostate3t_0001/*label*.nii.gz"))
    # a rim, so that nothing leaves the image and ITK sees a background at its border, as we do
    image = sitk.ConstantPad(sitk.ReadImage(str(file)) > 0, [6] * 3, [6] * 3, 0)
    moved = sitk.BinaryDilate(image, [2, 1, 0])
    moved = sitk.GetImageFromArray(np.roll(sitk.GetArrayFromImage(moved), (1, 3, 0), (0, 1, 2)))
    moved.CopyInformation(image)
    (tmp_path / "pred").mkdir()
    for name, mask in (("label", image), ("pred/c", moved)):
        sitk.WriteImage(mask, str(tmp_path / f"{name}.nii.gz"))
    case = Case("c", {"image": "c.nii.gz", "label": str(tmp_path / "label.nii.gz")}, "p")
    (row,) = measure_case(case, tmp_path / "pred", {"bladder": [1]})
    overlap, shape = sitk.LabelOverlapMeasuresImageFilter(), sitk.LabelShapeStatisticsImageFilter()
    overlap.Execute(image, moved)
    shape.Execute(image)
    assert row["dsc"] == pytest.approx(overlap.GetDiceCoefficient(), abs=1e-9)
    assert row["label_ml"] == pytest.approx(shape.GetPhysicalSize(1) / 1000, rel=1e-6)
    contours = [sitk.LabelContour(mask, fullyConnected=False) for mask in (image, moved)]
    maps = [
        np.abs(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(c, squaredDistance=False, useImageSpacing=True)))
        for c in contours
    ]
    edges = [sitk.GetArrayFromImage(c) > 0 for c in contours]
    there, back = maps[0][edges[1]], maps[1][edges[0]]
    assert row["hd95_mm"] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-6)
    assert row["asd_mm"] == pytest.approx((there.sum() + back.sum()) / (there.size + back.size), rel=1e-6)
    assert 0 < row["nsd"] < 1
