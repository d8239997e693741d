"""Reading of RTSTRUCT: which ROIs there are, and which image series they were drawn on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scripts.core.dicom.dataset import items, numbers, read_dataset, text_of, value_of

EXCLUSIVE_OR = {"CLOSED_PLANAR_XOR", "CLOSEDPLANAR_XOR"}
CLOSED = {"CLOSED_PLANAR", *EXCLUSIVE_OR}


@dataclass
class Roi:
    """One region of interest. Its number is its identity: names may occur twice.

    Attributes:
        number: ROINumber, or segment number.
        name: ROIName as it stands in the file; free text, so it never reaches an output or a path.
        colour: ROIDisplayColor (red, green, blue), or None.
        contours: closed planar contours, each (N, 3) in LPS+ mm.
        ignored: contours that are points, open or unreadable.
        frame: FrameOfReferenceUID that its coordinates are in; empty where the file does not say.
        images: SOPInstanceUIDs of the images that its contours were drawn on, as far as the file names them.
        even_odd: whether contours of one plane are to be combined by exclusive or (CLOSEDPLANAR_XOR).
    """

    number: int
    name: str
    colour: tuple[int, int, int] | None = None
    contours: list[np.ndarray] = field(default_factory=list)
    ignored: int = 0
    frame: str = ""
    images: set[str] = field(default_factory=set)
    even_odd: bool = False


@dataclass
class Structures:
    """The ROIs of one RTSTRUCT or SEG (`seg`) and the series, images and frames of reference that it names."""

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
            frame = text_of(item, "ReferencedFrameOfReferenceUID")
            rois[number] = Roi(number, str(value_of(item, "ROIName") or ""), frame=frame)
            found.frames.add(frame)
    for item in items(dataset, "ROIContourSequence"):
        roi = rois.get(_whole(value_of(item, "ReferencedROINumber")) or 0)
        if roi is None:
            continue
        colour = numbers(value_of(item, "ROIDisplayColor"), 3)
        roi.colour = None if colour is None else (int(colour[0]), int(colour[1]), int(colour[2]))
        for contour in items(item, "ContourSequence"):
            _add_contour(roi, contour)
            roi.images |= {
                text_of(image, "ReferencedSOPInstanceUID") for image in items(contour, "ContourImageSequence")
            }
    for frame in items(dataset, "ReferencedFrameOfReferenceSequence"):
        found.frames.add(text_of(frame, "FrameOfReferenceUID"))
        for series in items(frame, "RTReferencedStudySequence", "RTReferencedSeriesSequence"):
            found.series.add(text_of(series, "SeriesInstanceUID"))
    found.rois = [rois[number] for number in sorted(rois)]
    found.images = set().union(*(roi.images for roi in found.rois))
    for uids in (found.series, found.frames, found.images, *(roi.images for roi in found.rois)):
        uids.discard("")
    return found


def _add_contour(roi: Roi, contour: Any) -> None:
    data = value_of(contour, "ContourData")
    count = len(data) if hasattr(data, "__len__") else 0
    points = numbers(data, count) if count and count % 3 == 0 else None
    kind = text_of(contour, "ContourGeometricType")
    if points is None or kind not in CLOSED:
        roi.ignored += 1
    else:
        roi.even_odd |= kind in EXCLUSIVE_OR
        roi.contours.append(points.reshape(-1, 3))
