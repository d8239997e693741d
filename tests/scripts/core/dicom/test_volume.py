from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.volume import read_series
from scripts.data.dicom.scan import scan_tree

ARRAY = np.random.default_rng(0).integers(-500, 1500, (14, 11, 9)).astype(np.int16)


@pytest.mark.parametrize("view", ["axial", "sagittal", "oblique"])
def test_slices_are_ordered_along_the_normal(dicom: Any, tmp_path: Path, view: str) -> None:
    written = dicom.series(tmp_path, ARRAY, dicom.affine(view))
    volume, sops = read_series("c", sorted(tmp_path.iterdir()))
    np.testing.assert_array_equal(volume.array, ARRAY)
    assert volume.array.dtype == np.int16
    np.testing.assert_allclose(volume.affine, written.affine, atol=1e-5)
    assert sops == written.sops
    assert volume.notes == []


def test_slope_and_intercept_are_applied_slice_by_slice(dicom: Any, tmp_path: Path) -> None:
    def rescale(ds: Any, z: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = 0.5 + z, -1024

    dicom.series(tmp_path, ARRAY, edit=rescale)
    volume, _ = read_series("c", sorted(tmp_path.iterdir()))
    np.testing.assert_allclose(volume.array, ARRAY * (0.5 + np.arange(9)) - 1024)
    assert volume.array.dtype == np.float32
    assert volume.notes == ["slope and intercept differ between slices and were applied slice by slice"]


def test_compressed_pixels_are_read(dicom: Any, tmp_path: Path) -> None:
    written = dicom.series(tmp_path, ARRAY)
    for file in written.files:
        ds = pydicom.dcmread(file)
        ds.compress(pydicom.uid.RLELossless)
        ds.save_as(file)
    np.testing.assert_array_equal(read_series("c", written.files)[0].array, ARRAY)


def test_lossless_jpeg_is_read_where_pydicom_has_no_decoder(dicom: Any, tmp_path: Path) -> None:
    import SimpleITK as sitk

    written = dicom.series(tmp_path, ARRAY + 600, edit=lambda ds, z: setattr(ds, "RescaleSlope", 2))
    for z, file in enumerate(written.files):
        ds = pydicom.dcmread(file)
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(tmp_path / "compressed.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.Execute(sitk.GetImageFromArray((ARRAY[:, :, z].T + 600).astype(np.uint16)[None]))
        compressed = pydicom.dcmread(tmp_path / "compressed.dcm")
        ds.file_meta.TransferSyntaxUID, ds.PixelData = compressed.file_meta.TransferSyntaxUID, compressed.PixelData
        ds["PixelData"].VR, ds.PixelRepresentation, ds.RescaleIntercept = "OB", 0, -1200
        ds.save_as(file)
    assert ds.file_meta.TransferSyntaxUID.name.startswith("JPEG Lossless")
    np.testing.assert_array_equal(read_series("c", written.files)[0].array, ARRAY * 2)


def test_rounded_positions_are_no_fault(dicom: Any, tmp_path: Path) -> None:
    def rounded(ds: Any, z: int) -> None:
        ds.ImagePositionPatient = [round(float(v), 2) for v in ds.ImagePositionPatient]

    dicom.series(tmp_path, ARRAY, dicom.affine("oblique", (0.469, 0.469, 3.3)), edit=rounded)
    assert read_series("c", sorted(tmp_path.iterdir()))[0].array.shape == ARRAY.shape


def test_slices_a_twentieth_of_a_millimetre_off_are_on_the_grid_and_drifting_ones_are_not(
    dicom: Any, tmp_path: Path
) -> None:
    """Positions count: gaps of 0.95 and 1.05 mm in turn are rounding, gaps that add up are not."""

    def at(height: Callable[[int], float]) -> Callable[[Any, int], None]:
        return lambda ds, z: ds.ImagePositionPatient.__setitem__(2, 30 + height(z))

    affine = dicom.affine("axial", (1, 1, 1))
    dicom.series(tmp_path / "off", ARRAY, affine, edit=at(lambda z: z + (0.05 if z % 2 else 0)))
    volume, _ = read_series("c", sorted((tmp_path / "off").iterdir()))
    np.testing.assert_array_equal(volume.array, ARRAY)
    dicom.series(tmp_path / "drift", ARRAY, affine, edit=at(lambda z: z * 1.0 + 0.015 * max(z - 4, 0) ** 2))
    with pytest.raises(CaseError, match="not uniform"):
        read_series("c", sorted((tmp_path / "drift").iterdir()))


def test_packed_files_and_files_without_preamble_are_read(dicom: Any, tmp_path: Path) -> None:
    written = dicom.series(tmp_path / "i", ARRAY)
    files = []
    for z, file in enumerate(written.files):
        data = file.read_bytes()
        if z % 2:
            packed = file.with_suffix(".dcm.gz")
            packed.write_bytes(gzip.compress(data))
        else:
            # what was stored without its first 132 bytes and without file meta information
            packed, dataset = file.with_suffix(""), pydicom.dcmread(file)
            pydicom.dcmwrite(packed, pydicom.Dataset(dataset), implicit_vr=True, little_endian=True)
            assert packed.read_bytes()[128:132] != b"DICM"
        file.unlink()
        files.append(packed)
    (series,) = scan_tree(tmp_path).series.values()
    assert sorted(series.files) == sorted(files)
    np.testing.assert_array_equal(read_series("c", series.files)[0].array, ARRAY)


def test_real_oblique_series_equals_its_nifti(samples: Path) -> None:
    case = samples / "cases" / "mr_pelvis_t2_prostatex_0000"
    (series,) = scan_tree(case / "dicom").series.values()
    volume, _ = read_series("c", series.files)
    reference: Any = nib.load(case / "image.nii.gz")
    found: Any = nib.Nifti1Image(volume.array, volume.ras)
    assert nib.aff2axcodes(volume.ras) == nib.aff2axcodes(reference.affine)
    np.testing.assert_array_equal(volume.array, np.asanyarray(reference.dataobj))
    np.testing.assert_allclose(volume.ras, reference.affine, atol=1e-4)
    canonical, other = nib.as_closest_canonical(found), nib.as_closest_canonical(reference)
    np.testing.assert_array_equal(canonical.dataobj, other.dataobj)
