"""The phantom as a scanner and a planning system export it: an image series, its RTSTRUCT, and a plan with its dose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scripts.core.dicom.outlines import outlines
from scripts.core.dicom.rtplan import write_rtplan
from scripts.core.dicom.source import SourceSeries, read_source
from scripts.core.dicom.volume import LPS_TO_RAS
from scripts.core.dicom.write_rtdose import write_rtdose
from scripts.core.dicom.write_rtstruct import DrawnRoi, write_rtstruct
from scripts.core.dicom.write_series import Study, write_series
from scripts.core.look import label_colors
from scripts.data.phantom.canvas import PhantomCase
from scripts.data.phantom.dose import FRACTIONS

KINDS = {"HR-CTV": "CTV", "tumor": "GTV"}
# the tumour is a part of the organ, whatever the label map can hold
WITHIN = {"organ": "tumor"}
DESCRIPTIONS = {"MR": "T2w", "CT": "planning CT"}


def write_dicom(
    folder: Path,
    drawn: PhantomCase,
    labels: Mapping[int, str],
    modality: str,
    identity: tuple[str, str, str],
    dose: tuple[np.ndarray, np.ndarray] | None = None,
) -> SourceSeries:
    """Write `0001.dcm` and on, with labels `rtstruct.dcm`, whose ROIs have the labels' names, with a dose its RTPLAN too.

    Args:
        folder: of one case.
        drawn: the case.
        labels: label value to name; empty for a series without structures.
        modality: `CT` or `MR`.
        identity: patient, case and date of the study (`YYYYMMDD`).
        dose: Gy (X, Y, Z) of one fraction and its 4x4 matrix to RAS+ mm.

    Returns:
        The series.
    """
    image, label, affine = right_handed(drawn.image, drawn.label, LPS_TO_RAS @ drawn.affine)
    patient, case, date = identity
    study = Study(patient, case, DESCRIPTIONS[modality], date)
    source = read_source(write_series(folder, image, affine, modality, study), case)
    if labels:
        write_rtstruct(folder / "rtstruct.dcm", source, drawn_rois(label, source, labels), "PHANTOM", "synthetic")
    if dose is not None:
        plan = write_rtplan(folder / "rtplan.dcm", source, FRACTIONS, "PHANTOM", "synthetic")
        write_rtdose(folder / "rtdose.dcm", source, dose[0], LPS_TO_RAS @ dose[1], plan.sop, "synthetic")
    return source


def right_handed(image: np.ndarray, label: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same volumes with their slices in the order that DICOM gives them: along the normal of rows and columns.

    Args:
        image: voxels (X, Y, Z).
        label: voxels (X, Y, Z).
        affine: 4x4, index to LPS+ mm.
    """
    if np.linalg.det(affine[:3, :3]) > 0:
        return image, label, affine
    turned = affine.copy()
    turned[:3, 3] += affine[:3, 2] * (image.shape[2] - 1)
    turned[:3, 2] *= -1
    return image[:, :, ::-1], label[:, :, ::-1], turned


def drawn_rois(label: np.ndarray, source: SourceSeries, labels: Mapping[int, str]) -> list[DrawnRoi]:
    """Outlines of every label; a label that is absent has an ROI without contours.

    Args:
        label: whole numbers (columns, rows, slices) on the series' grid.
        source: the series.
        labels: label value to name.
    """
    value_of = {name: value for value, name in labels.items()}
    pixel, colours = (float(source.spacing[0]), float(source.spacing[1])), label_colors(labels)
    rois = []
    for value, colour in colours.items():
        name = labels[value]
        mask = np.isin(label, [value, value_of.get(WITHIN.get(name, ""), value)])
        polygons = {int(z): outlines(mask[:, :, z], pixel) for z in np.flatnonzero(mask.any(axis=(0, 1)))}
        rois.append(DrawnRoi(name, KINDS.get(name, "ORGAN"), colour, polygons))
    return rois
