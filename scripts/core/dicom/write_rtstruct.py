"""Writing of an RTSTRUCT that refers to the image series slice by slice.

What planning systems refuse is avoided here: numbers longer than 16 characters, missing attributes of type 2, a frame of
reference that is not the image's, contours without the image they lie on, names that are too long or not unique.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import silent_dicom
from scripts.core.dicom.head import derived_head
from scripts.core.dicom.source import SourceSeries
from scripts.core.files import atomic_file

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
LONGEST_NAME = 16


@dataclass(frozen=True)
class DrawnRoi:
    """A region of interest to write.

    Args:
        name: ROIName, at most 16 characters, unique in its structure set.
        kind: RTROIInterpretedType: GTV, CTV, PTV, ORGAN …
        colour: red, green, blue, 0 to 255.
        polygons: per slice index, closed polygons (N, 2) of (column, row) in voxel units.
        description: ROIDescription, the label's own name for instance.
    """

    name: str
    kind: str
    colour: tuple[int, int, int]
    polygons: dict[int, list[np.ndarray]]
    description: str = ""


@silent_dicom()
def write_rtstruct(
    path: str | Path,
    source: SourceSeries,
    rois: Sequence[DrawnRoi],
    label: str,
    description: str = "automatic contours, not approved",
) -> Path:
    """Write a structure set, atomically.

    Args:
        path: the `.dcm` file.
        source: the series the contours lie on.
        rois: at least one; a ROI without polygons is written empty, so that its absence is told.
        label: StructureSetLabel, at most 16 characters.
        description: SeriesDescription, at most 64 characters.

    Returns:
        The path.

    Raises:
        CaseError: names too long or not unique, a slice that the series does not have.
    """
    names = [roi.name for roi in rois]
    _check_names(str(path), names, label)
    from pydicom.dataset import Dataset

    dataset = _empty(source, label, description)
    dataset.ReferencedFrameOfReferenceSequence = [_frame(source)]
    dataset.StructureSetROISequence, dataset.ROIContourSequence, dataset.RTROIObservationsSequence = [], [], []
    for number, roi in enumerate(rois, 1):
        item = Dataset()
        item.ROINumber, item.ROIName, item.ROIDescription = number, roi.name, roi.description[:1024]
        item.ReferencedFrameOfReferenceUID = source.headers[0].FrameOfReferenceUID
        item.ROIGenerationAlgorithm = "AUTOMATIC"
        dataset.StructureSetROISequence.append(item)
        drawn = Dataset()
        drawn.ReferencedROINumber, drawn.ROIDisplayColor = number, list(roi.colour)
        contours = [
            _contour(str(path), source, z, polygon) for z in sorted(roi.polygons) for polygon in roi.polygons[z]
        ]
        if contours:
            drawn.ContourSequence = contours
        dataset.ROIContourSequence.append(drawn)
        seen = Dataset()
        seen.ObservationNumber, seen.ReferencedROINumber = number, number
        seen.RTROIInterpretedType, seen.ROIInterpreter = roi.kind, ""
        dataset.RTROIObservationsSequence.append(seen)
    with atomic_file(path) as partial:
        dataset.save_as(partial, enforce_file_format=True)
    return Path(path)


def _check_names(where: str, names: Sequence[str], label: str) -> None:
    problem = None
    if len(names) != len({name.casefold() for name in names}):
        problem = f"the ROI names {', '.join(names)} are not unique"
    long = [name for name in [*names, label] if not 0 < len(name) <= LONGEST_NAME]
    if long:
        problem = f"the name {long[0]!r} has not 1 to {LONGEST_NAME} characters"
    if problem:
        raise CaseError(where, problem, "give other names with --names")


def _empty(source: SourceSeries, label: str, description: str) -> Any:
    """Everything but the contours."""
    dataset = derived_head(source, RTSTRUCT, "RTSTRUCT", description)
    dataset.StructureSetLabel, dataset.StructureSetName = label, label
    dataset.StructureSetDate, dataset.StructureSetTime = dataset.SeriesDate, dataset.SeriesTime
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _reference(header: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def _frame(source: SourceSeries) -> Any:
    from pydicom.dataset import Dataset

    first = source.headers[0]
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_reference(header) for header in source.headers]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = DETACHED_STUDY, first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _contour(where: str, source: SourceSeries, z: int, polygon: np.ndarray) -> Any:
    from pydicom.dataset import Dataset

    columns, rows, slices = source.shape
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    if not 0 <= z < slices or (low < -0.5).any() or high[0] > columns - 0.5 or high[1] > rows - 0.5:
        raise CaseError(where, "a contour lies outside the image", "contour a label map of this series")
    index = np.column_stack([polygon, np.full(len(polygon), z), np.ones(len(polygon))])
    points = (index @ source.affine.T)[:, :3]
    item = Dataset()
    item.ContourImageSequence = [_reference(source.headers[z])]
    item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    # a decimal string has at most 16 characters; a micrometre is enough
    item.ContourData = [f"{value:.3f}" for value in points.ravel()]
    return item
