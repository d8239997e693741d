"""A small phantom as files: a sagittal series and the RTSTRUCT drawn on it, so that reading needs no other sample.

They are written by `WRITE_PHANTOM=1 python -m pytest tests/scripts/core/dicom/test_vendored.py`; the first test compares
what that writes with what lies here.
"""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from scripts.core.dicom.rasterise import contours_to_mask
from scripts.core.dicom.rtstruct import read_rtstruct
from scripts.core.dicom.volume import read_series

FOLDER = Path(__file__).parent / "phantom"
SHAPE = (20, 16, 8)
SPACING = (2.5, 3.0, 6.0)
# mm from the centre of the first voxel along columns, rows, slices: centre and half-axes
UTERUS = ((23.1, 22.4, 20.7), (18.3, 14.2, 17.9))
CAVITY = ((22.3, 22.9, 20.7), (9.2, 6.1, 10.4))
TUMOUR = ((27.6, 19.7, 23.2), (6.3, 6.7, 9.1))


def inside(ellipsoid: Any) -> np.ndarray:
    centre, axes = np.array(ellipsoid)
    points = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1) * SPACING
    return np.asarray((((points - centre) / axes) ** 2).sum(-1) < 1)


def rings(ellipsoid: Any, affine: np.ndarray) -> list[np.ndarray]:
    """Outlines in LPS mm from the ellipsoid's formula, not from voxels; a little longer than the polygon's corners cut."""
    (x, y, z), (a, b, c) = np.array(ellipsoid)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    found = []
    for slice_ in range(SHAPE[2]):
        rest = 1 - ((slice_ * SPACING[2] - z) / c) ** 2
        if rest > 0:
            radius = np.sqrt(rest) * 1.004
            ring = np.column_stack([x + a * radius * np.cos(angle), y + b * radius * np.sin(angle)]) / SPACING[:2]
            points = np.column_stack([ring, np.full(24, slice_), np.ones(24)]) @ affine.T
            found.append(np.round(points[:, :3], 2))
    return found


def write(dicom: Any, folder: Path) -> None:
    numbers = itertools.count(1)
    writer = type(dicom)(uid=lambda: f"1.2.826.0.1.3680043.8.498.1.{next(numbers)}")
    affine = writer.affine("sagittal", SPACING, (-20, 15, 60))
    uterus, tumour = inside(UTERUS) & ~inside(CAVITY), inside(TUMOUR)
    image = (100 + 200 * uterus + 150 * tumour + np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]].sum(0)).astype(np.int16)
    series = writer.series(
        folder / "series", image, affine, description="T2 sagittal", patient={"PatientID": "PHANTOM-1"}
    )
    rois = [
        (3, "Uterus", (255, 0, 255), rings(UTERUS, affine) + rings(CAVITY, affine)),
        (7, "GTV", (0, 235, 235), rings(TUMOUR, affine)),
    ]
    writer.rtstruct(folder / "rtstruct.dcm", series, rois)


def test_the_files_are_what_the_command_writes(dicom: Any, tmp_path: Path) -> None:
    write(dicom, tmp_path / "phantom")
    if os.environ.get("WRITE_PHANTOM"):
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree(tmp_path / "phantom", FOLDER)
    names = sorted(p.relative_to(FOLDER) for p in FOLDER.rglob("*.dcm"))
    assert names == sorted(p.relative_to(tmp_path / "phantom") for p in (tmp_path / "phantom").rglob("*.dcm"))
    assert len(names) == 9
    for name in names:
        assert pydicom.dcmread(FOLDER / name) == pydicom.dcmread(tmp_path / "phantom" / name), name
    assert sum(p.stat().st_size for p in FOLDER.rglob("*.dcm")) < 30_000


@pytest.mark.parametrize(("number", "expected"), [(3, inside(UTERUS) & ~inside(CAVITY)), (7, inside(TUMOUR))])
def test_contours_become_the_voxels_whose_centre_the_formula_holds(number: int, expected: np.ndarray) -> None:
    volume, _ = read_series("c", sorted((FOLDER / "series").iterdir()))
    (roi,) = (roi for roi in read_rtstruct(FOLDER / "rtstruct.dcm").rois if roi.number == number)
    mask = contours_to_mask("c", roi.contours, volume.affine, SHAPE)
    # polygons of 24 corners leave the ellipse by up to half a per cent of its radius
    assert np.count_nonzero(mask.array ^ expected) <= 2
    assert mask.array.sum() > 30
    np.testing.assert_array_equal(volume.array >= 300, inside(UTERUS) & ~inside(CAVITY))
