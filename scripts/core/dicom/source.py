"""The image series that contours are drawn on: its headers in slice order and its geometry, without pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import read_dataset, silent_dicom
from scripts.core.dicom.volume import order_slices, slice_geometry


@dataclass(frozen=True)
class SourceSeries:
    """An image series, one file a slice.

    Attributes:
        headers: datasets without pixels, in the order of the slices along their normal.
        affine: 4x4 matrix from (column, row, slice) index to LPS+ mm.
    """

    headers: list[Any]
    affine: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        first = self.headers[0]
        return int(first.Columns), int(first.Rows), len(self.headers)

    @property
    def spacing(self) -> np.ndarray:
        """mm along columns, rows, slices."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))


@silent_dicom()
def read_source(files: Sequence[Path], case: str) -> SourceSeries:
    """Read the headers of one series.

    Args:
        files: its image files, in any order.
        case: name for messages.

    Returns:
        The series.

    Raises:
        CaseError: not one file a slice, several series, several frames of reference, or not a regular stack.
    """
    headers = [read_dataset(file, pixels=False) for file in files]
    for name in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        values = {str(h.get(name) or "") for h in headers}
        if len(values) > 1 or "" in values:
            what = "no" if values == {""} else "several"
            raise CaseError(case, f"its images have {what} {name}", "give the files of one complete series")
    if any(int(h.get("NumberOfFrames") or 1) > 1 for h in headers):
        raise CaseError(
            case,
            "it holds several frames in one file",
            "export it as one file a slice (classic instead of enhanced DICOM)",
        )
    slices = [slice_geometry(case, h, file) for h, file in zip(headers, files, strict=True)]
    ordered, affine = order_slices(case, slices)
    of = {str(h.SOPInstanceUID): h for h in headers}
    return SourceSeries([of[s.sop] for s in ordered], affine)
