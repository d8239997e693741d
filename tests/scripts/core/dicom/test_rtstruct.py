from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.core.dicom.rasterise import contours_to_mask
from scripts.core.dicom.rtstruct import Structures, read_rtstruct
from scripts.core.dicom.volume import SeriesVolume, read_series
from scripts.data.dicom.scan import Tree, scan_tree

SERIES = [f"{patient}/{kind}" for patient in ("STS_002", "STS_003") for kind in ("CT", "MR_T1")]


def dsc(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def load(tree: Tree) -> tuple[SeriesVolume, list[Path], Structures]:
    image = next(s for s in tree.series.values() if s["Modality"] != "RTSTRUCT")
    contours = next(s for s in tree.series.values() if s["Modality"] == "RTSTRUCT")
    found = read_rtstruct(contours.files[0])
    assert image.uid in found.series
    return read_series("c", image.files)[0], image.files, found


def masks(volume: SeriesVolume, found: Structures) -> list[np.ndarray]:
    return [contours_to_mask("c", roi.contours, volume.affine, volume.array.shape).array for roi in found.rois]


@pytest.mark.parametrize("patient", ["STS_002", "STS_003"])
def test_real_contours_equal_the_independent_voxelisation(samples: Path, patient: str) -> None:
    volume, _, found = load(scan_tree(samples / "rtstruct" / patient / "MR_T1"))
    (mask,) = masks(volume, found)
    name = f"sts_{patient[-3:]}.nii.gz"
    reference: Any = nib.load(samples / "sts_t1" / "labels" / name)
    np.testing.assert_allclose(reference.affine, volume.ras, atol=1e-4)
    expected = np.asanyarray(reference.dataobj) > 0
    assert dsc(mask, expected) >= 0.999
    assert abs(int(mask.sum()) / int(expected.sum()) - 1) <= 0.001


@pytest.mark.skipif(
    shutil.which("plastimatch") is None, reason="plastimatch is not installed (apt-get install plastimatch)"
)
@pytest.mark.parametrize("folder", SERIES)
def test_real_contours_agree_with_plastimatch(samples: Path, folder: str, tmp_path: Path) -> None:
    volume, files, found = load(scan_tree(samples / "rtstruct" / folder))
    (mask,) = masks(volume, found)
    subprocess.run(
        [
            "plastimatch",
            "convert",
            "--input",
            str(found.file),
            "--referenced-ct",
            str(files[0].parent),
            "--output-prefix",
            str(tmp_path / "out"),
            "--prefix-format",
            "nii.gz",
        ],
        check=True,
        capture_output=True,
    )
    (written,) = (tmp_path / "out").iterdir()
    reference: Any = nib.load(written)
    expected = (
        nib.as_closest_canonical(nib.Nifti1Image(np.asanyarray(reference.dataobj), reference.affine)).get_fdata() > 0
    )
    ours = nib.as_closest_canonical(nib.Nifti1Image(mask.astype(np.uint8), volume.ras)).get_fdata() > 0
    assert dsc(ours, expected) >= 0.98


def test_nested_rois_on_a_real_oblique_series(samples: Path, dicom: Any, tmp_path: Path) -> None:
    """The outlines of the expert's nested GTV_Edema and GTV_Mass, drawn on the original DICOM, come back exactly."""
    case = samples / "cases" / "mr_thigh_t2fs_sts001_rtstruct"
    zipfile.ZipFile(case / "dicom_rtstruct.zip").extractall(tmp_path)
    (series,) = (s for s in scan_tree(tmp_path).series.values() if s["Modality"] == "MR")
    volume, sops = read_series("c", series.files)
    image: Any = nib.load(case / "image.nii.gz")
    np.testing.assert_array_equal(volume.array, np.asanyarray(image.dataobj))
    label = np.asanyarray(nib.load(case / "label.nii.gz").dataobj)  # type: ignore[attr-defined]

    class Drawn:
        uid, study, frame, patient = series.uid, series["StudyInstanceUID"], series["FrameOfReferenceUID"], {}

    rois = [
        (1, "GTV_Edema", None, dicom.outlines(label > 0, volume.affine)),
        (2, "GTV_Mass", None, dicom.outlines(label == 2, volume.affine)),
    ]
    found = read_rtstruct(dicom.rtstruct(tmp_path / "drawn.dcm", Drawn, rois))
    outer, inner = masks(volume, found)
    assert dsc(outer, label > 0) >= 0.999
    assert dsc(inner, label == 2) >= 0.999
    assert sops


def test_same_names_ring_sagittal_and_non_square(dicom: Any, tmp_path: Path) -> None:
    x, y, z = np.mgrid[:40, :26, :9]
    ball = np.sqrt(((x - 19.4) / 12) ** 2 + ((y - 12.7) / 9) ** 2 + ((z - 4) / 4.6) ** 2) < 1
    core = np.hypot((x - 19.4) / 6, (y - 12.7) / 6) < 1
    ring = ball & ~core
    series = dicom.series(tmp_path / "image", x.astype(np.int16), dicom.affine("sagittal", (0.6, 0.9, 5)))
    shapes = {1: ball, 2: core & ball, 7: ring}
    rois = [(n, "contour", (n, 0, 255), dicom.outlines(m, series.affine)) for n, m in shapes.items()]
    volume, _, found = load(scan_tree(dicom.rtstruct(tmp_path / "s.dcm", series, rois).parent))
    assert [roi.number for roi in found.rois] == [1, 2, 7]
    assert [roi.colour for roi in found.rois] == [(1, 0, 255), (2, 0, 255), (7, 0, 255)]
    for mask, expected in zip(masks(volume, found), shapes.values(), strict=True):
        assert dsc(mask, expected) >= 0.999


def test_points_open_and_unreadable_contours_are_counted(dicom: Any, tmp_path: Path) -> None:
    square = np.array([[0, 0, 0], [5, 0, 0], [5, 5, 0], [0, 5, 0]], dtype=float)

    def spoil(ds: Any) -> None:
        contours = ds.ROIContourSequence[0].ContourSequence
        contours[0].ContourGeometricType = "POINT"
        contours[1].ContourGeometricType = "OPEN_NONPLANAR"
        contours[2].ContourData = contours[2].ContourData[:-1]
        del contours[3].ContourData

    series = dicom.series(tmp_path / "i", np.zeros((9, 9, 3), np.int16))
    path = dicom.rtstruct(tmp_path / "s.dcm", series, [(1, "a", None, [square] * 5)], edit=spoil)
    (roi,) = read_rtstruct(path).rois
    assert (len(roi.contours), roi.ignored) == (1, 4)
