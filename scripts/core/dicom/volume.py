"""Voxels and geometry of one image series. Whatever is not a regular stack of slices is refused with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import EXPORT, numbers, read_dataset, value_of

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Slice:
    """Geometry of one image: position of its first voxel's centre, unit vectors along a row and down a column, mm."""

    file: Path
    sop: str
    position: np.ndarray
    row: np.ndarray
    column: np.ndarray
    spacing: tuple[float, float]
    shape: tuple[int, int]


@dataclass
class SeriesVolume:
    """A stack of slices.

    Attributes:
        array: voxels (columns, rows, slices), rescaled by slope and intercept.
        affine: 4x4 matrix from voxel index to mm, in DICOM's LPS+.
        notes: sentences for the report.
    """

    array: np.ndarray
    affine: np.ndarray
    notes: list[str]

    @property
    def ras(self) -> np.ndarray:
        """4x4 matrix from voxel index to mm in NIfTI's RAS+."""
        return np.asarray(LPS_TO_RAS @ self.affine)


def slice_geometry(case: str, dataset: Any, file: Path) -> Slice:
    orientation = numbers(value_of(dataset, "ImageOrientationPatient"), 6)
    position = numbers(value_of(dataset, "ImagePositionPatient"), 3)
    spacing = numbers(value_of(dataset, "PixelSpacing"), 2)
    rows, columns = value_of(dataset, "Rows"), value_of(dataset, "Columns")
    if orientation is None or position is None:
        raise CaseError(case, "an image lacks a readable position or orientation", EXPORT)
    if spacing is None or (spacing <= 0).any():
        raise CaseError(case, "an image lacks a positive pixel spacing", EXPORT)
    if not (isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0):
        raise CaseError(case, "an image lacks its number of rows or columns", EXPORT)
    row, column = orientation[:3], orientation[3:]
    if abs(np.linalg.norm(row) - 1) > 1e-3 or abs(np.linalg.norm(column) - 1) > 1e-3 or abs(row @ column) > 1e-3:
        raise CaseError(case, "the orientation of an image is not two perpendicular unit vectors", EXPORT)
    return Slice(
        file,
        str(value_of(dataset, "SOPInstanceUID")),
        position,
        row / np.linalg.norm(row),
        column / np.linalg.norm(column),
        (float(spacing[0]), float(spacing[1])),
        (rows, columns),
    )


def order_slices(case: str, slices: Sequence[Slice]) -> tuple[list[Slice], np.ndarray]:
    """Order slices along their normal and make sure that they form a regular grid.

    Args:
        case: the case's name, for messages.
        slices: two or more, in any order.

    Returns:
        The slices, and the 4x4 matrix from (column, row, slice) index to LPS+ mm.

    Raises:
        CaseError: mixed orientations, sizes or pixel spacings; several images at one position; missing slices;
            non-uniform spacing; gantry tilt or slices that are shifted against each other.
    """
    first = slices[0]
    if len(slices) < 2:
        raise CaseError(case, "it has a single slice", EXPORT)
    apart = [max(np.abs(s.row - first.row).max(), np.abs(s.column - first.column).max()) for s in slices]
    if max(apart) > 1e-3:
        kinds = len({tuple(np.round([*s.row, *s.column], 2)) for s in slices})
        raise CaseError(
            case,
            f"it mixes images of {max(kinds, 2)} orientations",
            "export one orientation per series or leave it out",
        )
    if len({s.shape for s in slices}) > 1:
        raise CaseError(case, "it mixes images of different size", "export one image size per series")
    if max(np.abs(np.subtract(s.spacing, first.spacing)).max() for s in slices) > 1e-3:
        raise CaseError(case, "it mixes images of different pixel spacing", "export one spacing per series")
    normal = np.cross(first.row, first.column)
    ordered = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.array([s.position for s in ordered])
    gaps = np.diff(positions @ normal)
    _check_gaps(case, gaps)
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    gap = float(step @ normal)
    # in-plane drift of the whole stack is a tilt, that of single slices a shift
    drift = step - gap * normal
    angle = math.degrees(math.atan2(float(np.linalg.norm(drift)), gap))
    pixel = min(first.spacing)
    if np.linalg.norm(drift) * (len(ordered) - 1) > 0.25 * pixel and angle > 0.02:
        raise CaseError(
            case,
            f"its slices are sheared by {angle:.1f} degrees (gantry tilt)",
            "resample it to a straight stack with the scanner's or planning system's software and export that",
        )
    off = positions - (positions[0] + np.outer(np.arange(len(ordered)), step))
    if np.abs(off - np.outer(off @ normal, normal)).max() > 0.1 * pixel:
        raise CaseError(case, "some slices are shifted sideways against the others", EXPORT)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.row * first.spacing[1], first.column * first.spacing[0]
    affine[:3, 2], affine[:3, 3] = normal * gap, positions[0]
    return ordered, affine


def _check_gaps(case: str, gaps: np.ndarray) -> None:
    repeated = int(np.count_nonzero(gaps < 1e-3))
    if repeated:
        raise CaseError(
            case,
            f"{repeated} of its images lie where another one lies (several echoes, b-values or time points)",
            "export one volume per series",
        )
    usual = float(np.median(gaps))
    off = np.abs(gaps - usual)
    wrong = off > 0.01 + 0.02 * usual
    if not wrong.any():
        return
    multiples = np.round(gaps / usual)
    holes = wrong & (multiples >= 2) & (np.abs(gaps - multiples * usual) <= 0.02 * usual * multiples + 0.01)
    if (holes == wrong).all():
        raise CaseError(
            case,
            f"{int((multiples[holes] - 1).sum())} slices are missing inside it (usual distance {usual:.2f} mm)",
            EXPORT,
        )
    raise CaseError(
        case,
        f"its slice spacing is not uniform ({gaps.min():.2f} to {gaps.max():.2f} mm)",
        "export it again, or resample it to uniform spacing with software that knows each slice's position",
    )


def read_series(case: str, files: Sequence[Path]) -> tuple[SeriesVolume, list[str]]:
    """Read a series.

    Args:
        case: the case's name, for messages.
        files: its files, in any order, without duplicates.

    Returns:
        The volume, and the SOPInstanceUID of every slice in the volume's order.

    Raises:
        CaseError: see `order_slices`; also multi-frame or colour images, and pixels that cannot be read.
    """
    read: dict[str, Any] = {}
    slices = []
    for file in files:
        try:
            dataset = read_dataset(file)
        except Exception as error:  # the error's own text may hold header values
            raise CaseError(case, f"a file cannot be read ({type(error).__name__})", EXPORT) from None
        if value_of(dataset, "NumberOfFrames") not in (None, "", 1, "1"):
            raise CaseError(
                case, "it is a multi-frame image", "export it as classic DICOM, one file per slice (dcm4che emf2sf)"
            )
        if value_of(dataset, "SamplesPerPixel") not in (None, 1):
            raise CaseError(case, "it is a colour image", "export the original images, not screen captures")
        if str(value_of(dataset, "PhotometricInterpretation")) not in {"MONOCHROME2", "None"}:
            raise CaseError(case, "its grey values are not MONOCHROME2", "export the original images")
        found = slice_geometry(case, dataset, file)
        slices.append(found)
        read[found.sop] = dataset
    ordered, affine = order_slices(case, slices)
    planes, notes = [], []
    rescales = set()
    for one in ordered:
        pixels, rescale = _pixels(case, read.pop(one.sop), one)
        planes.append(pixels)
        rescales.add(rescale)
    if len(rescales) > 1:
        notes.append("slope and intercept differ between slices and were applied slice by slice")
    array = np.stack(planes, axis=-1).swapaxes(0, 1)
    if not np.isfinite(array).all():
        raise CaseError(case, "it holds grey values that are not finite", EXPORT)
    return SeriesVolume(_narrow(array), affine, notes), [s.sop for s in ordered]


def _pixels(case: str, dataset: Any, one: Slice) -> tuple[np.ndarray, tuple[float, float]]:
    slope, intercept = (
        numbers([value if value not in (None, "") else default], 1)
        for value, default in ((value_of(dataset, "RescaleSlope"), 1), (value_of(dataset, "RescaleIntercept"), 0))
    )
    if slope is None or intercept is None or slope[0] == 0:
        raise CaseError(case, "an image has an unusable rescale slope or intercept", EXPORT)
    try:
        try:
            stored = np.asarray(dataset.pixel_array)
        except (RuntimeError, NotImplementedError, AttributeError):
            # a compression that pydicom has no decoder for; SimpleITK rescales by itself
            import SimpleITK as sitk

            return sitk.GetArrayFromImage(sitk.ReadImage(str(one.file)))[0], (float(slope[0]), float(intercept[0]))
    except Exception as error:
        raise CaseError(case, f"the pixels of an image cannot be read ({type(error).__name__})", EXPORT) from None
    if stored.shape != one.shape:
        raise CaseError(case, "an image has another size than its header says", EXPORT)
    rescaled = stored * slope[0] + intercept[0] if (slope[0], intercept[0]) != (1.0, 0.0) else stored
    return rescaled, (float(slope[0]), float(intercept[0]))


def _narrow(array: np.ndarray) -> np.ndarray:
    """Smallest usual type that holds the values exactly."""
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        return array.astype(np.float32)
    low, high = array.min(), array.max()
    for kind in (np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    return array.astype(np.float32)
