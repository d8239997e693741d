"""Reading of RTSTRUCT: which ROIs there are, and which image series they were drawn on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scripts.core.dicom.dataset import items, numbers, read_dataset, value_of

CLOSED = {"CLOSED_PLANAR", "CLOSED_PLANAR_XOR", "CLOSEDPLANAR_XOR"}


@dataclass
class Roi:
    """One region of interest. Its number is its identity: names may occur twice.

    Attributes:
        number: ROINumber, or segment number.
        name: ROIName as it stands in the file; free text, so it never reaches an output or a path.
        colour: ROIDisplayColor (red, green, blue), or None.
        contours: closed planar contours, each (N, 3) in LPS+ mm.
        ignored: contours that are points, open or unreadable.
    """

    number: int
    name: str
    colour: tuple[int, int, int] | None = None
    contours: list[np.ndarray] = field(default_factory=list)
    ignored: int = 0


@dataclass
class Structures:
    """The ROIs of one RTSTRUCT or SEG (`seg`) and what they refer to."""

    file: Path
    rois: list[Roi]
    seg: bool = False
    series: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    frames: set[str] = field(default_factory=set)


def _whole(value: Any) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


def read_rtstruct(file: Path) -> Structures:
    """Read an RTSTRUCT.

    Args:
        file: the DICOM file.

    Returns:
        Its ROIs in the order of their numbers, and the series, images and frames of reference that it names.

    Raises:
        Exception: whatever pydicom raises for a file that is damaged; the caller reports the type only.
    """
    dataset = read_dataset(file)
    found = Structures(file, [])
    rois: dict[int, Roi] = {}
    for item in items(dataset, "StructureSetROISequence"):
        number = _whole(value_of(item, "ROINumber"))
        if number is not None:
            rois[number] = Roi(number, str(value_of(item, "ROIName") or ""))
            found.frames.add(str(value_of(item, "ReferencedFrameOfReferenceUID") or ""))
    for item in items(dataset, "ROIContourSequence"):
        roi = rois.get(_whole(value_of(item, "ReferencedROINumber")) or 0)
        if roi is None:
            continue
        colour = numbers(value_of(item, "ROIDisplayColor"), 3)
        roi.colour = None if colour is None else (int(colour[0]), int(colour[1]), int(colour[2]))
        for contour in items(item, "ContourSequence"):
            _add_contour(roi, contour)
            found.images |= {
                str(i.ReferencedSOPInstanceUID)
                for i in items(contour, "ContourImageSequence")
                if value_of(i, "ReferencedSOPInstanceUID")
            }
    for frame in items(dataset, "ReferencedFrameOfReferenceSequence"):
        found.frames.add(str(value_of(frame, "FrameOfReferenceUID") or ""))
        for series in items(frame, "RTReferencedStudySequence", "RTReferencedSeriesSequence"):
            found.series.add(str(value_of(series, "SeriesInstanceUID") or ""))
    for uids in (found.series, found.frames):
        uids.discard("")
    found.rois = [rois[number] for number in sorted(rois)]
    return found


def _add_contour(roi: Roi, contour: Any) -> None:
    data = value_of(contour, "ContourData")
    count = len(data) if hasattr(data, "__len__") else 0
    points = numbers(data, count) if count and count % 3 == 0 else None
    if points is None or str(value_of(contour, "ContourGeometricType")) not in CLOSED:
        roi.ignored += 1
    else:
        roi.contours.append(points.reshape(-1, 3))
