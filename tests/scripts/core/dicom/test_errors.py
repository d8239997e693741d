"""What the readers of DICOM refuse, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.rasterise import contours_to_mask
from scripts.core.dicom.seg import segment_to_mask
from scripts.core.dicom.volume import read_series

ARRAY = np.random.default_rng(0).integers(-500, 1500, (14, 11, 9)).astype(np.int16)


def shift(axis: int, amount: float, when: Callable[[int], bool]) -> Callable[[Any, int], None]:
    def edit(ds: Any, z: int) -> None:
        if when(z):
            ds.ImagePositionPatient[axis] += amount

    return edit


def tilt(ds: Any, z: int) -> None:
    ds.ImagePositionPatient[1] += z * 4 * np.tan(np.radians(12))


def assign(**values: Any) -> Callable[[Any, int], None]:
    def edit(ds: Any, z: int) -> None:
        if z == 4:
            for name, value in values.items():
                setattr(ds, name, value)

    return edit


def drop(*names: str) -> Callable[[Any, int], None]:
    def edit(ds: Any, z: int) -> None:
        if z == 4:
            for name in names:
                delattr(ds, name)

    return edit


def repeat(ds: Any, z: int) -> None:
    ds.ImagePositionPatient[2] = 30 + 4 * (z // 2)


FAULTS = {
    "missing slices": (lambda ds, z: z not in {3, 4}, "2 slices are missing inside it .usual distance 4.00 mm."),
    "non-uniform spacing": (shift(2, 1.3, lambda z: z > 5), r"slice spacing is not uniform .4.00 to 5.30 mm."),
    "gantry tilt": (tilt, r"sheared by 12.0 degrees .gantry tilt."),
    "shifted slice": (shift(0, 2.0, lambda z: z == 4), "shifted sideways"),
    "mixed orientations": (assign(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "mixes images of 2 orientations"),
    "mixed pixel spacing": (assign(PixelSpacing=[0.7, 0.7]), "different pixel spacing"),
    "mixed sizes": (assign(Rows=10, Columns=14), "different size"),
    "two echoes": (repeat, "4 of its images lie where another one lies"),
    "no position": (drop("ImagePositionPatient"), "lacks a readable position or orientation"),
    "no spacing": (drop("PixelSpacing"), "lacks a positive pixel spacing"),
    "negative spacing": (assign(PixelSpacing=[-1, 1]), "lacks a positive pixel spacing"),
    "skewed orientation": (
        assign(ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0]),
        "not two perpendicular unit vectors",
    ),
    "slope zero": (assign(RescaleSlope=0, RescaleIntercept=0), "unusable rescale slope"),
    "no pixels": (drop("PixelData"), "pixels of an image cannot be read"),
    "truncated pixels": (assign(PixelData=b"\0" * 40), "pixels of an image cannot be read"),
    "colour": (assign(SamplesPerPixel=3), "colour image"),
    "inverted grey": (assign(PhotometricInterpretation="MONOCHROME1"), "not MONOCHROME2"),
    "multi-frame": (assign(NumberOfFrames=3), "it is 9 images, some of many frames"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_in_one_sentence_with_a_remedy(dicom: Any, tmp_path: Path, fault: str) -> None:
    edit, message = FAULTS[fault]
    dicom.series(tmp_path, ARRAY, edit=edit)
    with pytest.raises(CaseError, match=message) as caught:
        read_series("c", sorted(tmp_path.iterdir()))
    assert len(caught.value.remedy) > 10
    assert "\n" not in str(caught.value)


def test_a_single_slice_is_refused(dicom: Any, tmp_path: Path) -> None:
    written = dicom.series(tmp_path, ARRAY)
    with pytest.raises(CaseError, match="single slice"):
        read_series("c", written.files[:1])


SQUARE = np.array([[2.0, 2, 3], [7, 2, 3], [7, 7, 3], [2, 7, 3]])
BEYOND = SQUARE + np.array([0, 0, 30])
CONTOURS = {
    "another plane": ([SQUARE[:, [0, 2, 1]]], "contours are not drawn in the planes of the series"),
    "beyond the image": ([BEYOND], "all contour planes lie outside the image"),
    "partly beyond": ([SQUARE, BEYOND], "1 of 2 contour planes lie outside the image"),
}


@pytest.mark.parametrize("fault", CONTOURS)
def test_contours_that_do_not_fit_are_refused_with_a_remedy(fault: str) -> None:
    contours, message = CONTOURS[fault]
    with pytest.raises(CaseError, match=message) as caught:
        contours_to_mask("c", contours, np.eye(4), (10, 10, 10))
    assert len(caught.value.remedy) > 10


def test_a_file_that_is_no_seg_is_refused_without_repeating_it(tmp_path: Path) -> None:
    path = tmp_path / "seg.dcm"
    path.write_bytes(b"\0" * 128 + b"DICMPLANTED^JANE")
    with pytest.raises(CaseError, match=r"its SEG cannot be read \(\w+\)") as caught:
        segment_to_mask("c", path, 1, np.eye(4), (4, 4, 4))
    assert "PLANTED" not in str(caught.value)


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm.gz"
    path.write_bytes(b"no gzip")
    with pytest.raises(CaseError, match=r"a file cannot be read \(BadGzipFile\)"):
        read_series("c", [path, path])
