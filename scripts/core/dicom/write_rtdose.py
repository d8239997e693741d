"""Writing of an RTDOSE that lies in the frame of reference of an image series."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import silent_dicom
from scripts.core.dicom.head import derived_head
from scripts.core.dicom.source import SourceSeries
from scripts.core.files import atomic_file

RTDOSE, RTPLAN = "1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.481.5"


@silent_dicom()
def write_rtdose(
    path: str | Path,
    source: SourceSeries,
    array: np.ndarray,
    affine: np.ndarray,
    plan: str,
    description: str,
    bits: Literal[16, 32] = 32,
) -> Path:
    """Write the physical dose of a whole plan (DoseSummationType PLAN), atomically.

    Args:
        path: the `.dcm` file.
        source: the series that the plan was made on; patient, study and frame of reference are its own.
        array: dose in Gy (columns, rows, frames), from 0, two frames at least. It is stored in steps of its maximum by
            2^bits - 1.
        affine: 4x4 matrix from (column, row, frame) index to LPS+ mm, without shear.
        plan: SOPInstanceUID of its RTPLAN.
        description: SeriesDescription, and DoseComment.
        bits: of a stored number.

    Returns:
        The path.

    Raises:
        CaseError: dose that is negative, not finite, zero everywhere, or on a single plane or a sheared grid.
    """
    from pydicom.dataset import Dataset

    _check(str(path), array, affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :2] / spacing[:2]
    # frames may run against the normal: offsets are negative then
    step = float(np.cross(axes[:, 0], axes[:, 1]) @ affine[:3, 2])
    dataset = derived_head(source, RTDOSE, "RTDOSE", description)
    dataset.ImagePositionPatient = [_decimal(v) for v in affine[:3, 3]]
    dataset.ImageOrientationPatient = [_decimal(v) for v in axes.T.ravel()]
    dataset.PixelSpacing, dataset.SliceThickness = [_decimal(spacing[1]), _decimal(spacing[0])], None
    dataset.GridFrameOffsetVector = [_decimal(k * step) for k in range(array.shape[2])]
    dataset.FrameIncrementPointer = 0x3004000C
    dataset.Columns, dataset.Rows, dataset.NumberOfFrames = array.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.DoseUnits, dataset.DoseType, dataset.DoseSummationType = "GY", "PHYSICAL", "PLAN"
    dataset.DoseComment, dataset.TissueHeterogeneityCorrection = description, "WATER"
    # a little larger, since the 16 characters of the written number may round it down
    dataset.DoseGridScaling = _decimal(float(array.max()) / (2**bits - 1) * (1 + 1e-8))
    stored = np.rint(array.astype(np.float64) / float(str(dataset.DoseGridScaling)))
    dataset.PixelData = np.ascontiguousarray(stored.transpose(2, 1, 0).astype(f"<u{bits // 8}")).tobytes()
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = RTPLAN, plan
    dataset.ReferencedRTPlanSequence = [reference]
    with atomic_file(path) as partial:
        dataset.save_as(partial, enforce_file_format=True)
    return Path(path)


def _check(where: str, array: np.ndarray, affine: np.ndarray) -> None:
    sides = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    problem = None
    if array.ndim != 3 or array.shape[2] < 2:
        problem = "the dose has fewer than two planes"
    elif not np.isfinite(array).all() or array.min() < 0 or array.max() == 0:
        problem = "the dose is negative, not finite or zero everywhere"
    elif np.abs(sides.T @ sides - np.eye(3)).max() > 1e-4:
        problem = "the dose lies on a sheared grid"
    if problem:
        raise CaseError(where, problem, "give a dose in Gy on a regular grid")


def _decimal(value: float) -> Any:
    """A decimal string, which has at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return DSfloat(float(value), auto_format=True)
