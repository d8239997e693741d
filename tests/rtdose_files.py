"""RTDOSE as real systems write it, straight through pydicom: what the reader is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

SCALING = 2.5e-5
AXIAL = (1, 0, 0, 0, 1, 0)


def stored_dose(bits: int = 32, shape: tuple[int, int, int] = (7, 6, 5)) -> np.ndarray:
    """Whole numbers (columns, rows, frames) that use all bits."""
    return np.random.default_rng(bits).integers(0, 2**bits, shape, dtype=np.uint64)


def rtdose(
    path: Path,
    stored: np.ndarray,
    *,
    bits: int = 32,
    position: Sequence[float] = (-10.0, 20.0, 30.0),
    orientation: Sequence[float] = AXIAL,
    offsets: Sequence[float] | None = None,
    frame: str = "1.2.3",
    implicit: bool = True,
    **edits: Any,
) -> Path:
    """Write `stored` (columns, rows, frames); `edits` set attributes, None deletes one."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.2", generate_uid()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.PatientID, ds.PatientName, ds.StudyInstanceUID, ds.SeriesInstanceUID = "ID1", "A^B", "1.2.9", generate_uid()
    ds.Modality, ds.FrameOfReferenceUID = "RTDOSE", frame
    ds.DoseUnits, ds.DoseType, ds.DoseSummationType, ds.DoseGridScaling = "GY", "PHYSICAL", "PLAN", SCALING
    ds.Columns, ds.Rows, ds.NumberOfFrames = stored.shape
    ds.ImagePositionPatient, ds.ImageOrientationPatient = list(position), list(orientation)
    ds.PixelSpacing, ds.SliceThickness = [2.0, 2.5], None
    ds.FrameIncrementPointer = 0x3004000C
    ds.GridFrameOffsetVector = [3.0 * k for k in range(stored.shape[2])] if offsets is None else list(offsets)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelData = np.ascontiguousarray(stored.transpose(2, 1, 0).astype(f"<u{bits // 8}")).tobytes()
    ds["PixelData"].VR = "OW"
    ds.ReferencedRTPlanSequence = [plan_reference()]
    for name, value in edits.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def plan_reference(plan: str = "1.2.7", beam: int | None = None) -> Dataset:
    """An item of ReferencedRTPlanSequence, of one beam of the plan."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.5", plan
    if beam is not None:
        group, one = Dataset(), Dataset()
        one.ReferencedBeamNumber = beam
        group.ReferencedFractionGroupNumber, group.ReferencedBeamSequence = 1, [one]
        item.ReferencedFractionGroupSequence = [group]
    return item


def rtplan(path: Path, sop: str = "1.2.7", fractions: Sequence[int | None] = (4,), beams: int = 0) -> Path:
    """A plan with a fraction group for each number, each of so many beams."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.5", sop
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = meta.MediaStorageSOPClassUID, sop, "RTPLAN"
    ds.PatientID, ds.PatientName, ds.StudyInstanceUID, ds.SeriesInstanceUID = "ID1", "A^B", "1.2.9", generate_uid()
    ds.FractionGroupSequence = []
    for number, count in enumerate(fractions, 1):
        group = Dataset()
        group.FractionGroupNumber, group.NumberOfFractionsPlanned = number, count
        group.NumberOfBeams, group.NumberOfBrachyApplicationSetups = beams, 0
        ds.FractionGroupSequence.append(group)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path
