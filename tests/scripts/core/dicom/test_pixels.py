from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.pixels import padding_of, without_padding
from scripts.core.dicom.volume import read_series

X, Y, Z = np.mgrid[:40, :30, :4]
TISSUE = (40 + 30 * np.sin(X / 5) + 10 * Z).astype(np.int16)
OUTSIDE = np.hypot(X - 20, Y - 15) > 14


def padded(ds: Any, value: int, slope: float = 1, intercept: float = 0, limit: int | None = None) -> None:
    ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    ds.add_new("PixelPaddingValue", "SS", value)
    if limit is not None:
        ds.add_new("PixelPaddingRangeLimit", "SS", limit)


@pytest.mark.parametrize(("value", "intercept"), [(-32768, 0), (-2000, 0), (-3024, 0), (-2000, -1024), (32000, 0)])
def test_padding_of_ct_becomes_air_and_is_told(dicom: Any, tmp_path: Path, value: int, intercept: int) -> None:
    array = np.where(OUTSIDE, value, TISSUE - intercept).astype(np.int16)
    written = dicom.series(tmp_path, array, modality="CT", edit=lambda ds, z: padded(ds, value, intercept=intercept))
    volume, _ = read_series("c", written.files)
    np.testing.assert_array_equal(volume.array, np.where(OUTSIDE, -1000, TISSUE))
    assert volume.notes == [f"{OUTSIDE.sum()} voxels of padding became air (-1000 HU)"]


def test_padding_of_mr_becomes_the_minimum_of_what_was_measured(dicom: Any, tmp_path: Path) -> None:
    array = np.where(OUTSIDE, -5, TISSUE).astype(np.int16)
    array[0, 0] = -7
    written = dicom.series(tmp_path, array, edit=lambda ds, z: padded(ds, -5, limit=-9))
    volume, _ = read_series("c", written.files)
    np.testing.assert_array_equal(volume.array, np.where(OUTSIDE, TISSUE[~OUTSIDE].min(), TISSUE))
    assert volume.notes == [f"{OUTSIDE.sum()} voxels of padding became the image's minimum"]


def test_what_is_air_already_or_also_measured_is_left() -> None:
    air = np.where(OUTSIDE, -1024, TISSUE)
    assert without_padding(air, OUTSIDE, "CT") == (air, [])
    water = np.where(OUTSIDE, 0, TISSUE)
    found, notes = without_padding(water, OUTSIDE, "CT")
    np.testing.assert_array_equal(found, water)
    assert notes == [f"{OUTSIDE.sum()} voxels have the padding value, which lies among those of tissue, and were left"]
    lowest = np.where(OUTSIDE, TISSUE.min(), TISSUE)
    assert without_padding(lowest, OUTSIDE, "MR")[1] == []
    assert without_padding(TISSUE, np.zeros_like(OUTSIDE), "CT")[1] == []


def test_a_negative_padding_value_may_be_written_without_sign() -> None:
    ds = pydicom.Dataset()
    ds.PixelRepresentation, ds.BitsAllocated = 1, 16
    ds.add_new("PixelPaddingValue", "US", 63536)
    low, high = padding_of(ds, (2.0, 10.0)) or (0, 0)
    assert low < -3990 < high
    assert padding_of(pydicom.Dataset(), (1.0, 0.0)) is None


def compressed(dicom: Any, folder: Path, kind: str) -> tuple[Any, np.ndarray]:
    import SimpleITK as sitk

    noise = np.random.default_rng(0).integers(0, 60, (64, 60, 4))
    array = (900 + noise + 10 * np.mgrid[:64, :60, :4][0]).astype(np.int16)
    written = dicom.series(folder / "i", array)
    for z, file in enumerate(written.files):
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(folder / "one.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor(kind)
        writer.Execute(sitk.GetImageFromArray(array[:, :, z].T.astype(np.uint16)[None]))
        one, ds = pydicom.dcmread(folder / "one.dcm"), pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID, ds.PixelData = one.file_meta.TransferSyntaxUID, one.PixelData
        ds["PixelData"].VR, ds.PixelRepresentation = "OB", 0
        ds.BitsStored, ds.HighBit = (12, 11) if kind == "JPEG" else (16, 15)
        ds.save_as(file)
    return written, array


def spoil(file: Path, change: Any) -> None:
    ds = pydicom.dcmread(file)
    frame = bytearray(b"".join(pydicom.encaps.generate_fragments(ds.PixelData)))
    ds.PixelData = pydicom.encaps.encapsulate([bytes(change(frame))])
    ds["PixelData"].VR = "OB"
    ds.save_as(file)


def zeros(frame: bytearray) -> bytearray:
    middle = len(frame) // 2
    frame[middle : middle + 300] = bytes(300)
    return frame


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_streams_that_are_cut_off_are_refused(dicom: Any, tmp_path: Path, kind: str) -> None:
    written, array = compressed(dicom, tmp_path, kind)
    np.testing.assert_array_equal(read_series("c", written.files)[0].array, array)
    spoil(written.files[2], lambda frame: frame[: len(frame) * 2 // 3])
    with pytest.raises(CaseError, match="compressed pixels of an image are cut off"):
        read_series("c", written.files)


def test_a_stream_that_the_decoder_complains_of_is_refused(dicom: Any, tmp_path: Path, capfd: Any) -> None:
    written, _ = compressed(dicom, tmp_path, "JPEG")
    spoil(written.files[1], zeros)
    with pytest.raises(CaseError, match="compressed pixels of an image are damaged"):
        read_series("c", written.files)
    assert capfd.readouterr().err == ""


def test_values_that_the_image_has_no_bits_for_are_refused(dicom: Any, tmp_path: Path) -> None:
    written, _ = compressed(dicom, tmp_path, "JPEG2000")
    for file in written.files:
        ds = pydicom.dcmread(file)
        ds.BitsStored, ds.HighBit = 10, 9
        ds.save_as(file)
    with pytest.raises(CaseError, match=r"pixels of an image (are damaged|cannot be read)"):
        read_series("c", written.files)
