"""A synthetic series as the project's own reader, and others, find it."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.volume import read_series
from scripts.core.dicom.write_series import Study, write_series

ARRAY = np.random.default_rng(0).integers(0, 3071, (14, 11, 9)).astype(np.int16)
STUDY = Study("P1", "p001_t1", "T2w", "20000101")


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("view", ["axial", "sagittal", "oblique"])
def test_read_back_exactly(dicom: Any, tmp_path: Path, view: str, modality: str) -> None:
    array = ARRAY - 1024 if modality == "CT" else ARRAY
    affine = dicom.affine(view, (1 / 3, 0.7, 10 / 3), (-123.456789, 98.7654321, -1234.56789))
    files = write_series(tmp_path, array, affine, modality, STUDY)
    volume, sops = read_series("c", files[::-1])
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert len(set(sops)) == array.shape[2]
    assert volume.notes == []


def test_a_left_handed_stack_comes_back_with_its_slices_in_the_other_order(dicom: Any, tmp_path: Path) -> None:
    affine = dicom.affine()
    affine[:3, 2] *= -1
    volume, _ = read_series("c", write_series(tmp_path, ARRAY, affine, "MR", STUDY))
    np.testing.assert_array_equal(volume.array, ARRAY[:, :, ::-1])
    np.testing.assert_allclose(volume.affine @ [0, 0, 8, 1], affine @ [0, 0, 0, 1])


def test_the_same_series_is_written_twice_alike_and_another_one_is_not(dicom: Any, tmp_path: Path) -> None:
    first, again, other = (
        write_series(tmp_path / name, ARRAY, dicom.affine(), "MR", study)
        for name, study in (("a", STUDY), ("b", STUDY), ("c", Study("P1", "p001_t2", "T2w", "20000108")))
    )
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in again]
    one, two = pydicom.dcmread(first[0]), pydicom.dcmread(other[0])
    assert one.PatientID == two.PatientID
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert one[name].value != two[name].value


def test_says_that_it_is_synthetic_and_breaks_no_rule_of_values(dicom: Any, tmp_path: Path) -> None:
    with pydicom.config.strict_reading():
        for modality in ("CT", "MR"):
            (file, *_) = write_series(
                tmp_path / modality, ARRAY, dicom.affine("oblique", (1 / 3,) * 3), modality, STUDY
            )
            dataset = pydicom.dcmread(file)
            assert "synthetic" in dataset.ImageComments
            assert dataset.QualityControlImage == "YES"
            assert len(list(dataset.iterall())) > 40


def test_values_beyond_sixteen_bits_are_refused(dicom: Any, tmp_path: Path) -> None:
    for modality, value in (("CT", -1025), ("MR", -1)):
        with pytest.raises(CaseError, match="cannot be stored"):
            write_series(tmp_path, np.full((4, 4, 2), value), dicom.affine(), modality, STUDY)
    assert not list(tmp_path.iterdir())
