"""Writing of a DICOM SEG with coded structures, by highdicom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import silent_dicom
from scripts.core.dicom.head import MAKER
from scripts.core.dicom.source import SourceSeries
from scripts.core.files import atomic_file


@dataclass(frozen=True)
class Segment:
    """One segment to write.

    Args:
        label: SegmentLabel.
        category: keyword of the segmented property category in SNOMED CT (`AnatomicalStructure`).
        kind: keyword of the segmented property type in SNOMED CT (`Uterus`).
    """

    label: str
    category: str
    kind: str


@silent_dicom()
def write_seg(
    path: str | Path,
    source: SourceSeries,
    masks: Iterable[np.ndarray],
    segments: Sequence[Segment],
    algorithm: tuple[str, str],
    description: str = "automatic segmentation, not approved",
) -> Path:
    """Write segments, atomically. They are numbered 1, 2, … in the order given and may overlap.

    Args:
        path: the `.dcm` file.
        source: the series they lie on.
        masks: booleans (columns, rows, slices) on the grid of `source`, one a segment, taken one at a time.
        segments: what they are; an empty one is described too.
        algorithm: name and version.
        description: SeriesDescription.

    Returns:
        The path.

    Raises:
        CaseError: another shape than the series, or no voxel in any segment (a SEG without a frame is not valid).
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    identification = hd.AlgorithmIdentificationSequence(
        name=algorithm[0], version=algorithm[1], family=codes.DCM.ArtificialIntelligence
    )
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.label,
            segmented_property_category=getattr(codes.SCT, segment.category),
            segmented_property_type=getattr(codes.SCT, segment.kind),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=identification,
        )
        for number, segment in enumerate(segments, 1)
    ]
    pixels = _pixels(str(path), source, masks, len(segments))
    segmentation = hd.seg.Segmentation(
        source_images=source.headers,
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name="custom_networks",
        software_versions=version("custom_networks"),
        device_serial_number="0",
        series_description=description,
        omit_empty_frames=True,
    )
    with atomic_file(path) as partial:
        segmentation.save_as(partial)
    return Path(path)


def _pixels(where: str, source: SourceSeries, masks: Iterable[np.ndarray], count: int) -> np.ndarray:
    """As highdicom takes them: planes, rows, columns; segment numbers where none overlap, else a last axis of segments."""
    columns, rows, slices = source.shape
    numbers = np.zeros((slices, rows, columns), dtype=np.uint16)
    apart: np.ndarray | None = None
    for i, mask in enumerate(masks):
        if mask.shape != source.shape:
            raise CaseError(where, "a mask has another size than the series", "give the series it was made from")
        plane = mask.transpose(2, 1, 0)
        if apart is None and numbers[plane].any():
            apart = np.stack([numbers == k for k in range(1, count + 1)], axis=-1).astype(np.uint8)
        if apart is None:
            numbers[plane] = i + 1
        else:
            apart[..., i] = plane
    pixels = numbers if apart is None else apart
    if not pixels.any():
        raise CaseError(where, "none of the structures was found", "write an RTSTRUCT, which may be empty")
    return pixels
