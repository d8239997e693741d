"""Our RTDOSE through our reader, exact to the stored step, and through pydicom's rules of values."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.rtdose import check_frame, read_rtdose
from scripts.core.dicom.source import SourceSeries, read_source
from scripts.core.dicom.write_rtdose import write_rtdose

DOSE = np.random.default_rng(0).gamma(1.0, 20.0, (9, 8, 6))


@pytest.fixture
def source(dicom: Any, tmp_path: Path) -> SourceSeries:
    written = dicom.series(tmp_path / "ct", np.zeros((8, 8, 4), np.int16), modality="CT")
    return read_source(written.files, "c")


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("view", ["axial", "sagittal", "oblique"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_read_back_to_the_stored_step(
    dicom: Any, source: SourceSeries, tmp_path: Path, bits: Literal[16, 32], view: str, mirrored: bool
) -> None:
    affine = dicom.affine(view, (1 / 3, 2.0, 10 / 3), (-123.456789, 98.7654321, -1234.56789))
    affine[:3, 2] *= -1 if mirrored else 1
    dose = read_rtdose(write_rtdose(tmp_path / "d.dcm", source, DOSE, affine, "1.2.7", "synthetic", bits), "c")
    check_frame("c", dose, str(source.headers[0].FrameOfReferenceUID))
    assert (dose.summation, dose.plan) == ("PLAN", "1.2.7")
    array = dose.array[:, :, ::-1] if mirrored else dose.array
    assert np.abs(array - DOSE).max() <= 0.5001 * DOSE.max() / (2**bits - 1)
    last = 0 if mirrored else 5
    np.testing.assert_allclose(dose.affine @ [1, 2, last, 1], affine @ [1, 2, 5, 1], atol=1e-6)


def test_the_highest_dose_of_any_array_fits_its_bits(dicom: Any, source: SourceSeries, tmp_path: Path) -> None:
    """In single precision the step came out too small, and the maximum was stored as 0."""
    for seed in range(20):
        array = np.random.default_rng(seed).gamma(1.0, 20.0, (5, 4, 3)).astype(np.float32)
        found = read_rtdose(write_rtdose(tmp_path / "d.dcm", source, array, dicom.affine(), "1.2.7", "synthetic"), "c")
        np.testing.assert_allclose(found.array, array, atol=array.max() * 2**-32)


def test_breaks_no_rule_of_values_and_keeps_the_patient(source: SourceSeries, dicom: Any, tmp_path: Path) -> None:
    with pydicom.config.strict_reading():
        write_rtdose(tmp_path / "d.dcm", source, DOSE, dicom.affine("oblique", (1 / 3,) * 3), "1.2.7", "synthetic")
        dataset = pydicom.dcmread(tmp_path / "d.dcm")
        assert len(list(dataset.iterall())) > 40
    assert dataset.PatientID == source.headers[0].PatientID
    assert dataset.StudyInstanceUID == source.headers[0].StudyInstanceUID
    assert dataset.SeriesInstanceUID != source.headers[0].SeriesInstanceUID


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda dose, affine: (dose - 1e3, affine), "negative"),
        (lambda dose, affine: (dose * 0, affine), "zero everywhere"),
        (lambda dose, affine: (dose / 0 if dose[0, 0, 0] else dose, affine), "not finite"),
        (lambda dose, affine: (dose[:, :, :1], affine), "fewer than two planes"),
        (lambda dose, affine: (dose, affine + np.eye(4)[[3, 0, 1, 2]]), "sheared"),
    ],
)
def test_refused(source: SourceSeries, dicom: Any, tmp_path: Path, change: Any, words: str) -> None:
    with np.errstate(all="ignore"):
        dose, affine = change(DOSE, dicom.affine())
    with pytest.raises(CaseError, match=words):
        write_rtdose(tmp_path / "d.dcm", source, dose, affine, "1.2.7", "synthetic")
    assert not (tmp_path / "d.dcm").exists()
