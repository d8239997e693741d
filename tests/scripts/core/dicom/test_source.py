"""The series that contours are drawn on: slices in order, geometry, and what is no series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_networks import CaseError
from scripts.core.dicom.source import read_source

SHAPE = (6, 5, 4)


@pytest.mark.parametrize("view", ["axial", "sagittal", "oblique"])
def test_slices_are_ordered_along_their_normal_whatever_the_files_order(dicom: Any, tmp_path: Path, view: str) -> None:
    affine = dicom.affine(view)
    written = dicom.series(tmp_path / "s", np.zeros(SHAPE, np.int16), affine)
    for files in (written.files, written.files[::-1]):
        source = read_source(files, "case")
        np.testing.assert_allclose(source.affine, affine, atol=1e-5)
        assert [str(header.SOPInstanceUID) for header in source.headers] == written.sops
        assert source.shape == SHAPE
        np.testing.assert_allclose(source.spacing, (1.5, 1.0, 4.0), atol=1e-6)
        assert not any("PixelData" in header for header in source.headers)


def test_two_series_and_one_without_a_frame_are_refused(dicom: Any, tmp_path: Path) -> None:
    one = dicom.series(tmp_path / "a", np.zeros(SHAPE, np.int16))
    two = dicom.series(tmp_path / "b", np.zeros(SHAPE, np.int16), study=one.study, frame=one.frame)
    with pytest.raises(CaseError, match="case: its images have several SeriesInstanceUID; give the files of one"):
        read_source([*one.files, *two.files], "case")

    def without_frame(header: Any, _: int) -> None:
        del header.FrameOfReferenceUID

    bare = dicom.series(tmp_path / "c", np.zeros(SHAPE, np.int16), edit=without_frame)
    with pytest.raises(CaseError, match="case: its images have no FrameOfReferenceUID"):
        read_source(bare.files, "case")


def test_several_frames_in_a_file_and_a_missing_slice_are_refused(dicom: Any, tmp_path: Path) -> None:
    def enhanced(header: Any, _: int) -> None:
        header.NumberOfFrames = 4

    series = dicom.series(tmp_path / "a", np.zeros(SHAPE, np.int16), edit=enhanced)
    with pytest.raises(CaseError, match="several frames in one file; export it as one file a slice"):
        read_source(series.files, "case")
    gap = dicom.series(tmp_path / "b", np.zeros((6, 5, 8), np.int16), edit=lambda _, z: z != 3)
    with pytest.raises(CaseError, match=r"^case: "):
        read_source(gap.files, "case")
