"""Voxels and geometry of one image series. Whatever is not a regular stack of slices is refused with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import EXPORT, numbers, read_dataset, text_of, value_of
from scripts.core.dicom.multiframe import read_frames
from scripts.core.dicom.pixels import Plane, read_plane, without_padding

# mm that a slice may be off the regular grid, besides 2 % of the slice distance
POSITION = 0.06
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
    _check_heights(case, positions @ normal)
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


def _check_heights(case: str, heights: np.ndarray) -> None:
    """Positions count, not gaps: slices that are each a little off, from rounding, are still on one grid."""
    gaps = np.diff(heights)
    repeated = int(np.count_nonzero(gaps < 1e-3))
    if repeated:
        raise CaseError(
            case,
            f"{repeated} of its images lie where another one lies (several echoes, b-values or time points)",
            "export one volume per series",
        )
    grid = np.linspace(heights[0], heights[-1], len(heights))
    tolerance = max(POSITION, 0.02 * float(gaps.mean()))
    if np.abs(heights - grid).max() <= tolerance:
        return
    usual = float(np.median(gaps))
    places = np.rint((heights - heights[0]) / usual)
    missing = int(places[-1]) + 1 - len(heights)
    if missing > 0 and np.abs(heights - np.polyval(np.polyfit(places, heights, 1), places)).max() <= tolerance:
        raise CaseError(case, f"{missing} slices are missing inside it (usual distance {usual:.2f} mm)", EXPORT)
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
        CaseError: see `order_slices`; also frames that are not one stack, colour images, and pixels that cannot be read.
    """
    if len(files) == 1:
        header = _read(case, files[0], pixels=False)
        if _frames(header) > 1:
            _check_grey(case, header)
            array, padded, affine = read_frames(case, files[0])
            return _volume(case, array, padded, affine, value_of(header, "Modality"), []), [
                text_of(header, "SOPInstanceUID")
            ]
    slices: list[Slice] = []
    read: dict[str, Any] = {}
    for file in files:
        dataset = _read(case, file)
        if _frames(dataset) > 1:
            raise CaseError(case, f"it is {len(files)} images, some of many frames", "export one volume per series")
        _check_grey(case, dataset)
        found = slice_geometry(case, dataset, file)
        slices.append(found)
        read[found.sop] = dataset
    modality = value_of(dataset, "Modality")
    ordered, affine = order_slices(case, slices)
    planes = [read_plane(case, read.pop(one.sop), one.file, one.shape) for one in ordered]
    rescales = {plane.rescale for plane in planes}
    notes = ["slope and intercept differ between slices and were applied slice by slice"] if len(rescales) > 1 else []
    padded = np.stack([_padded(plane) for plane in planes], axis=-1).swapaxes(0, 1)
    array = np.stack([plane.array for plane in planes], axis=-1).swapaxes(0, 1)
    return _volume(case, array, padded, affine, modality, notes), [s.sop for s in ordered]


def _read(case: str, file: Path, pixels: bool = True) -> Any:
    try:
        return read_dataset(file, pixels=pixels)
    except Exception as error:  # the error's own text may hold header values
        raise CaseError(case, f"a file cannot be read ({type(error).__name__})", EXPORT) from None


def _frames(dataset: Any) -> int:
    try:
        return int(str(value_of(dataset, "NumberOfFrames") or 1))
    except ValueError:
        return 1


def _check_grey(case: str, dataset: Any) -> None:
    if value_of(dataset, "SamplesPerPixel") not in (None, 1):
        raise CaseError(case, "it is a colour image", "export the original images, not screen captures")
    if str(value_of(dataset, "PhotometricInterpretation")) not in {"MONOCHROME2", "None"}:
        raise CaseError(case, "its grey values are not MONOCHROME2", "export the original images")


def _padded(plane: Plane) -> np.ndarray:
    if plane.padding is None:
        return np.zeros(plane.array.shape, dtype=bool)
    return np.asarray((plane.array >= plane.padding[0]) & (plane.array <= plane.padding[1]))


def _volume(
    case: str, array: np.ndarray, padded: np.ndarray, affine: np.ndarray, modality: Any, notes: list[str]
) -> SeriesVolume:
    if not np.isfinite(array).all():
        raise CaseError(case, "it holds grey values that are not finite", EXPORT)
    array, said = without_padding(array, padded, str(modality))
    return SeriesVolume(_narrow(array), affine, notes + said)


def _narrow(array: np.ndarray) -> np.ndarray:
    """Smallest usual type that holds the values exactly."""
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        return array.astype(np.float32)
    low, high = array.min(), array.max()
    for kind in (np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    return array.astype(np.float32)
