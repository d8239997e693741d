"""Reading of DICOM SEG with highdicom, onto the grid of the series that it was drawn on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import items, read_dataset, text_of, value_of
from scripts.core.dicom.rasterise import Mask
from scripts.core.dicom.rtstruct import Roi, Structures


def read_seg(file: Path) -> Structures:
    """Read the segments of a SEG, without their pixels.

    Args:
        file: the DICOM file.

    Returns:
        A ROI per segment (number and label; no contours, no colour) and the series and frame of reference named.

    Raises:
        Exception: whatever pydicom raises for a file that is damaged; the caller reports the type only.
    """
    dataset = read_dataset(file, pixels=False)
    found = Structures(file, [], seg=True)
    for item in items(dataset, "SegmentSequence"):
        number = value_of(item, "SegmentNumber")
        if isinstance(number, int):
            found.rois.append(Roi(number, str(value_of(item, "SegmentLabel") or "")))
    found.series = {text_of(i, "SeriesInstanceUID") for i in items(dataset, "ReferencedSeriesSequence")}
    found.frames = {text_of(dataset, "FrameOfReferenceUID")}
    for sources in (
        items(dataset, "SharedFunctionalGroupsSequence", "DerivationImageSequence", "SourceImageSequence"),
        items(dataset, "PerFrameFunctionalGroupsSequence", "DerivationImageSequence", "SourceImageSequence"),
    ):
        found.images |= {text_of(i, "ReferencedSOPInstanceUID") for i in sources}
    for uids in (found.series, found.images, found.frames):
        uids.discard("")
    for roi in found.rois:
        roi.frame, roi.images = next(iter(found.frames), ""), set(found.images)
    return found


def segment_to_mask(case: str, file: Path, number: int, affine: np.ndarray, shape: tuple[int, int, int]) -> Mask:
    """Place one segment on an image's grid.

    Args:
        case: the case's name, for messages.
        file: the SEG.
        number: the segment's number.
        affine: 4x4 matrix of the image from (column, row, slice) index to LPS+ mm.
        shape: columns, rows, slices.

    Returns:
        The mask; a fractional segment counts from one half. A SEG may be cropped or hold its planes in any order.

    Raises:
        CaseError: the file cannot be read, or its voxels are not those of the image.
    """
    try:
        array, seg_affine = _segment(file, number)
    except Exception as error:  # highdicom's messages may repeat header values
        raise CaseError(case, f"its SEG cannot be read ({type(error).__name__})", "export the SEG again") from None
    remedy = "import the series that the SEG was drawn on, or resample the SEG to this one"
    steps = np.abs(np.linalg.inv(affine[:3, :3]) @ seg_affine[:3, :3])
    if not np.allclose(steps, np.round(steps), atol=0.01) or not np.allclose(np.sort(steps, axis=0)[-1], 1, atol=0.01):
        raise CaseError(case, "its SEG has other voxels than the image", remedy)
    where = np.argwhere(array >= 0.5)
    to_index = np.linalg.inv(affine) @ seg_affine
    index = where @ to_index[:3, :3].T + to_index[:3, 3]
    mask = np.zeros(shape, dtype=bool)
    if not len(index):
        return Mask(mask, [])
    whole = np.rint(index).astype(np.int64)
    if np.abs(index - whole).max() > 0.1:
        raise CaseError(case, "its SEG lies between the voxels of the image", remedy)
    inside = ((whole >= 0) & (whole < np.array(shape))).all(axis=1)
    if not inside.any():
        raise CaseError(case, "its SEG lies outside the image", "check that both belong together and are complete")
    mask[tuple(whole[inside].T)] = True
    lost = int(np.count_nonzero(~inside))
    return Mask(mask, [f"{lost} voxels of the SEG lie outside the image and are lost"] if lost else [])


def _segment(file: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    import highdicom as hd

    segmentation: Any = hd.seg.segread(file)
    volume = segmentation.get_volume(segment_numbers=[number], combine_segments=False)
    return np.asarray(volume.array)[..., 0], np.asarray(volume.affine, dtype=np.float64)
