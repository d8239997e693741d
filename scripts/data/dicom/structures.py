"""Structure sets (RTSTRUCT and SEG) of a DICOM tree, and the series that each was drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scripts.core.dicom.dataset import silent_dicom
from scripts.core.dicom.rtstruct import Roi, Structures, read_rtstruct
from scripts.core.dicom.seg import read_seg
from scripts.core.jobs import parallel
from scripts.data.dicom.patients import identity_of
from scripts.data.dicom.patterns import matches
from scripts.data.dicom.scan import NOT_IMAGES, Header, Series, Tree


@dataclass(frozen=True)
class StructureSet:
    """One RTSTRUCT or SEG: what it holds, without contour points, or why it cannot be used and what to do."""

    header: Header
    content: Structures
    fault: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Drawn:
    """What a structure set has for a series: ROIs that lie in the series' frame of reference, and the other ones."""

    content: Structures
    rois: tuple[Roi, ...]
    elsewhere: tuple[Roi, ...]


def read_structures(tree: Tree, pattern: str, workers: int) -> list[StructureSet]:
    """Read the structure sets of a tree.

    Args:
        tree: the scanned tree.
        pattern: regular expression that the label or description must contain; empty takes all.
        workers: processes.

    Returns:
        The structure sets, with a fault where one cannot be read or its series is not in the tree.
    """
    headers = [h for s in tree.series.values() if s["Modality"].upper() in NOT_IMAGES for h in s.headers]
    if pattern:
        headers = [h for h in headers if matches(pattern, h["StructureSetLabel"] + "\n" + h["SeriesDescription"])]
    images = {h["SOPInstanceUID"] for s in tree.series.values() for h in s.headers}
    result = []
    for header, content in zip(headers, parallel(_read, headers, workers, "structure sets"), strict=True):
        fault = remedy = ""
        if content is None:
            fault, remedy = "the RTSTRUCT or SEG cannot be read", "export it again"
        elif (content.series or content.images) and not (content.series & tree.uids or content.images & images):
            fault, remedy = "it was drawn on a series that is not in the folder", "export that series with it"
        result.append(StructureSet(header, content or Structures(header.file, []), fault, remedy))
    return result


def _read(header: Header) -> Structures | None:
    try:
        with silent_dicom():
            found = (read_seg if header["Modality"].upper() == "SEG" else read_rtstruct)(header.file)
    except Exception:  # told by the caller without the text, which may hold header values
        return None
    for roi in found.rois:
        # workers read the points again: all contours of a cohort at once would fill the memory
        roi.contours = []
    return found


def belonging(
    series: Series, structures: Sequence[StructureSet], chosen: Sequence[Series], tree: Tree
) -> tuple[list[Drawn], list[str]]:
    """Structure sets drawn on a series: by its uid, else by its images, else by a frame of reference of its own.

    Args:
        series: the image series.
        structures: those that may have been drawn on it.
        chosen: all image series in question, among which a frame of reference must be one series' alone.
        tree: the scanned tree.

    Returns:
        What they have for the series, and sentences for the report.
    """
    images = {header["SOPInstanceUID"] for header in series.headers}
    frame = series["FrameOfReferenceUID"]
    mine: list[Drawn] = []
    notes: list[str] = []
    for one in structures:
        content = one.content
        if "patient" in series.separated and not identity_of(one.header).agrees(identity_of(series.headers[0])):
            continue
        named = content.series & tree.uids
        here = bool(content.images & images)
        # of series that share a uid it belongs to those whose images it names
        if (series.uid in named and (here or not series.separated or not content.images)) or (not named and here):
            away = len(content.images - images)
            if content.series <= {series.uid} and away and not series.separated:
                notes.append(f"{away} images that its contours were drawn on are not in the folder")
        elif not content.series and not content.images and frame and frame in content.frames:
            if sum(other["FrameOfReferenceUID"] == frame for other in chosen) > 1:
                continue
            notes.append("its structure set was found through the frame of reference alone")
        else:
            continue
        rois: list[Roi] = []
        elsewhere: list[Roi] = []
        for roi in content.rois:
            # contours on its own images are its own, even where software wrote another frame of reference beside them
            there = not (roi.frame and frame) or roi.frame == frame or bool(roi.images & images)
            (rois if there else elsewhere).append(roi)
        if any(roi.frame and frame and roi.frame != frame for roi in rois):
            notes.append("its structure set names another frame of reference")
        mine.append(Drawn(content, tuple(rois), tuple(elsewhere)))
    return mine, notes
