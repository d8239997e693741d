from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from custom_networks import Datalist
from custom_networks.errors import CaseError
from scripts.core.dicom.volume import read_series
from scripts.data.dicom.import_dicom import import_dicom
from tests.scripts.conftest import WrittenSeries

ARRAY = np.random.default_rng(0).integers(-500, 1500, (14, 11, 9)).astype(np.int16)


def enhanced(dicom: Any, folder: Path, modality: str, array: np.ndarray = ARRAY, **more: Any) -> Path:
    """A legacy converted enhanced image of one file, frames in an order that says nothing."""
    import highdicom as hd

    series = dicom.series(folder / "classic", array, dicom.affine("oblique"), modality=modality, **more)
    sources = [pydicom.dcmread(file) for file in np.random.default_rng(0).permutation(series.files)]
    for ds in sources:
        ds.PatientBirthDate, ds.PatientSex, ds.AccessionNumber, ds.StudyTime, ds.StudyID = "", "", "", "", ""
        ds.ReferringPhysicianName, ds.Manufacturer = "", "m"
        ds.AcquisitionDateTime = ds.ContentDate = ds.SeriesDate = "20200101"
        ds.ContentTime = ds.AcquisitionTime = ds.SeriesTime = "101010"
        ds.AcquisitionDate = "20200101"
        if modality == "CT":
            ds.AcquisitionNumber = 1
    kind = {"MR": hd.legacy.LegacyConvertedEnhancedMRImage, "CT": hd.legacy.LegacyConvertedEnhancedCTImage}[modality]
    image = kind(sources, hd.UID(), 7, hd.UID(), 1)
    (folder / "enhanced").mkdir()
    image.save_as(folder / "enhanced" / "image.dcm")
    return folder / "enhanced" / "image.dcm"


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_enhanced_multi_frame_equals_the_classic_series(dicom: Any, tmp_path: Path, modality: str) -> None:
    def rescale(ds: Any, z: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 2, -1024, "HU"

    file = enhanced(dicom, tmp_path, modality, edit=rescale)
    classic, _ = read_series("c", sorted((tmp_path / "classic").iterdir()))
    volume, sops = read_series("c", [file])
    np.testing.assert_array_equal(volume.array, classic.array)
    np.testing.assert_allclose(volume.affine, classic.affine, atol=1e-4)
    assert (volume.array.dtype, len(sops)) == (np.int16, 1)


def test_enhanced_frames_that_are_no_stack_are_refused(dicom: Any, tmp_path: Path) -> None:
    file = enhanced(dicom, tmp_path, "MR", edit=lambda ds, z: z != 4)
    with pytest.raises(CaseError, match="not one regular stack"):
        read_series("c", [file])


def test_padding_of_frames_is_replaced_as_in_classic_images(dicom: Any, tmp_path: Path) -> None:
    array = np.where(np.hypot(*(np.mgrid[:14, :11, :9] - np.array([6, 5, 4])[:, None, None, None])[:2]) > 5, -2000, 40)
    array = array.astype(np.int16) + (array > 0) * np.arange(9).astype(np.int16)
    file = enhanced(dicom, tmp_path, "CT", array)
    ds = pydicom.dcmread(file)
    ds.add_new("PixelPaddingValue", "SS", -2000)
    ds.save_as(file)
    volume, _ = read_series("c", [file])
    np.testing.assert_array_equal(volume.array, np.where(array == -2000, -1000, array))
    assert volume.notes == [f"{np.count_nonzero(array == -2000)} voxels of padding became air (-1000 HU)"]


def test_an_enhanced_image_is_imported_with_its_contours(dicom: Any, tmp_path: Path) -> None:
    import nibabel as nib

    file = enhanced(dicom, tmp_path / "x", "MR")
    ds = pydicom.dcmread(file, stop_before_pixels=True)
    mask = np.zeros(ARRAY.shape, bool)
    mask[3:9, 2:8, 2:6] = True
    affine = read_series("c", [file])[0].affine

    drawn_on = WrittenSeries(ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID, affine)
    drawn_on.sops, drawn_on.patient = [ds.SOPInstanceUID], {"PatientID": str(ds.PatientID)}
    (tmp_path / "e").mkdir()
    file.rename(tmp_path / "e" / "image.dcm")
    drawn = [(1, "uterus", None, dicom.outlines(mask, affine))]
    dicom.rtstruct(tmp_path / "e" / "s.dcm", drawn_on, drawn, reference="images")
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), {"organ": "uterus"}, workers=1) == 0
    (case,) = Datalist.read(tmp_path / "o" / "datalist.json").cases
    image, label = (np.asanyarray(nib.load(path).dataobj) for path in (case.image, case.label))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(image, ARRAY)
    np.testing.assert_array_equal(label, mask)
