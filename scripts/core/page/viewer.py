"""Cases for the interactive viewer of a page: cropped, eight bits a voxel, in the page itself."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.core.look import grey_range, label_colors
from scripts.core.page.page import TEMPLATES, Section

MOST = 6
MARGIN_MM = 20.0
# characters of all cases together; what else a page holds leaves it under 30 MB
BUDGET = 24_000_000
LIBRARY = Path(__file__).with_name("vendor") / "niivue-0.69.0.umd.js"


@dataclass(frozen=True)
class ViewedCase:
    """One case as the viewer reads it.

    Args:
        caption: what it is called there.
        image: NIfTI (`.nii.gz`) in base64, eight bits with slope and intercept.
        truth: label map, the same way.
        prediction: label map, the same way.
        window: values that are black and white at first.
        limits: least and largest value that the image can show.
        centre: where to look at first, in mm (right, anterior, superior).
        values: label values that occur.
    """

    caption: str
    image: str
    truth: str
    prediction: str
    window: tuple[float, float]
    limits: tuple[float, float]
    centre: tuple[float, float, float]
    values: tuple[int, ...]

    @property
    def size(self) -> int:
        """Characters that it adds to a page."""
        return len(self.image) + len(self.truth) + len(self.prediction)


def viewed_case(
    caption: str,
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    affine: np.ndarray,
    modality: str,
    target: Sequence[int] = (),
) -> ViewedCase:
    """Crop a case around truth and prediction and write it for the viewer. Nothing is turned or resampled.

    Args:
        caption: what it is called.
        image: (X, Y, Z).
        truth: (X, Y, Z) label values.
        prediction: (X, Y, Z) label values.
        affine: voxels to mm.
        modality: `MR` or `CT`, for black and white.
        target: label values to look at first; any by default.
    """
    box = crop((truth > 0) | (prediction > 0), affine)
    start = np.array([part.start for part in box])
    moved = affine @ nib.affines.from_matvec(np.eye(3), start)
    image, truth, prediction = image[box], truth[box], prediction[box]
    low, high = grey_range(image, modality)
    finite = image[np.isfinite(image)]
    # room to either side for another window, in as fine steps as eight bits allow
    least = max(low - (high - low) / 2, float(finite.min())) if finite.size else low
    largest = min(high + (high - low) / 2, float(finite.max())) if finite.size else high
    slope = (largest - least) / 255 or 1.0
    levels = np.rint((np.nan_to_num(image, nan=least, posinf=largest, neginf=least) - least) / slope)
    seen = np.isin(truth, target) if np.isin(truth, target).any() else truth > 0 if truth.any() else prediction > 0
    where = np.argwhere(seen).mean(axis=0) if seen.any() else (np.array(seen.shape) - 1) / 2
    right, anterior, superior = (float(v) for v in nib.affines.apply_affine(moved, np.rint(where)))
    return ViewedCase(
        caption,
        _nifti(np.clip(levels, 0, 255), moved, slope, least),
        _nifti(truth, moved),
        _nifti(prediction, moved),
        (low, high),
        (least, largest),
        (right, anterior, superior),
        tuple(int(v) for v in np.union1d(np.unique(truth), np.unique(prediction)) if v),
    )


def crop(mask: np.ndarray, affine: np.ndarray, margin: float = MARGIN_MM) -> tuple[slice, slice, slice]:
    """Slices around a mask with a margin in mm, inside the array; all of it where the mask is empty."""
    spacing = nib.affines.voxel_sizes(affine)
    box = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        rim = int(np.ceil(margin / spacing[axis]))
        first, last = (int(hit[0]), int(hit[-1])) if hit.size else (0, mask.shape[axis] - 1)
        box.append(slice(max(0, first - rim), min(mask.shape[axis], last + 1 + rim)))
    return box[0], box[1], box[2]


def within(cases: Sequence[ViewedCase], budget: int = BUDGET) -> tuple[list[ViewedCase], list[str]]:
    """The cases that a page can hold.

    Args:
        cases: the most important one first.
        budget: characters.

    Returns:
        Those that fit, and the captions of the others.
    """
    kept: list[ViewedCase] = []
    left: list[str] = []
    used = 0
    for case in cases:
        if used + case.size <= budget and len(kept) < MOST:
            kept.append(case)
            used += case.size
        else:
            left.append(case.caption)
    return kept, left


def viewer(title: str, cases: Sequence[ViewedCase], labels: Mapping[int, str], left_out: Sequence[str] = ()) -> Section:
    """The section that shows cases interactively.

    Args:
        title: its heading.
        cases: at most `MOST`, in the order in which they are offered.
        labels: label value to name.
        left_out: captions of cases that were too large for a page.
    """
    names = {value: f"label {value}" for case in cases for value in case.values} | dict(labels)
    about = [
        {"caption": case.caption, "window": case.window, "limits": case.limits, "centre": case.centre}
        | {"values": case.values}
        for case in cases
    ]
    values = {
        "cases": cases,
        "about": about,
        "labels": [
            {"value": value, "name": names[value], "rgb": rgb} for value, rgb in sorted(label_colors(names).items())
        ],
        "left_out": left_out,
        "library": LIBRARY,
    }
    return Section(title, TEMPLATES / "viewer.html", values)


def _nifti(voxels: np.ndarray, affine: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> str:
    kind = np.uint8 if voxels.max(initial=0) < 256 else np.uint16
    file = nib.Nifti1Image(voxels.astype(kind), affine)
    file.header.set_slope_inter(slope, intercept)
    file.header.set_xyzt_units("mm")
    return base64.b64encode(gzip.compress(file.to_bytes(), 9, mtime=0)).decode()
