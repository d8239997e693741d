from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.seg import read_seg, segment_to_mask
from scripts.core.dicom.volume import read_series

ARRAY = np.arange(14 * 11 * 8).reshape(14, 11, 8).astype(np.int16)


@pytest.fixture
def drawn(dicom: Any, tmp_path: Path) -> tuple[Any, np.ndarray, np.ndarray]:
    series = dicom.series(tmp_path / "image", ARRAY, dicom.affine("sagittal"))
    x, y, z = np.mgrid[:14, :11, :8]
    outer = (abs(x - 6) < 5) & (abs(y - 5) < 4) & (abs(z - 4) < 3)
    return series, outer, outer & (x > 5) & (z > 3)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_overlapping_segments_come_back_on_the_image_grid(drawn: Any, dicom: Any, tmp_path: Path, kind: str) -> None:
    series, outer, inner = drawn
    stack = np.stack([outer, inner], -1).transpose(2, 1, 0, 3)
    # frames in reverse, and empty ones left out: the planes are found by position
    path = dicom.seg(
        series.files[::-1], stack[::-1].astype(np.uint8 if kind == "BINARY" else np.float32), tmp_path / "seg.dcm", kind
    )
    found = read_seg(path)
    assert found.seg
    assert [(roi.number, roi.name) for roi in found.rois] == [(1, "uterus"), (2, "tumour")]
    assert found.series == {series.uid}
    assert found.images <= set(series.sops)
    volume, _ = read_series("c", series.files)
    for number, expected in ((1, outer), (2, inner)):
        mask = segment_to_mask("c", path, number, volume.affine, volume.array.shape)
        np.testing.assert_array_equal(mask.array, expected)
        assert mask.notes == []


def test_seg_on_another_grid_is_refused(drawn: Any, dicom: Any, tmp_path: Path) -> None:
    series, outer, _ = drawn
    path = dicom.seg(series.files, outer.transpose(2, 1, 0)[..., None].astype(np.uint8), tmp_path / "seg.dcm")
    coarse = series.affine @ np.diag([2, 1, 1, 1])
    with pytest.raises(CaseError, match="other voxels than the image"):
        segment_to_mask("c", path, 1, coarse, (7, 11, 8))
    between = series.affine.copy()
    between[:3, 3] += 0.4 * between[:3, 0]
    with pytest.raises(CaseError, match="between the voxels"):
        segment_to_mask("c", path, 1, between, (14, 11, 8))
    away = series.affine.copy()
    away[:3, 3] += 400 * away[:3, 0]
    with pytest.raises(CaseError, match="outside the image"):
        segment_to_mask("c", path, 1, away, (14, 11, 8))
    cut = segment_to_mask("c", path, 1, series.affine, (14, 11, 5))
    assert cut.array.sum() == outer[:, :, :5].sum()
    assert "lie outside the image" in cut.notes[0]


def test_damaged_seg_is_refused(drawn: Any, dicom: Any, tmp_path: Path) -> None:
    series, outer, _ = drawn
    path = dicom.seg(series.files, outer.transpose(2, 1, 0)[..., None].astype(np.uint8), tmp_path / "seg.dcm")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(CaseError, match="SEG cannot be read"):
        segment_to_mask("c", path, 1, series.affine, (14, 11, 8))
