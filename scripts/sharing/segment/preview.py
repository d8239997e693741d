"""One picture of a result: a slice in each plane, labels outlined, names beside their colours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scripts.core.files import atomic_file
from scripts.core.look import label_colors, slice_picture

TOO_MANY = 20


def preview(
    path: Path,
    image: np.ndarray,
    label: np.ndarray,
    affine: np.ndarray,
    labels: Mapping[int, str],
    modality: str,
    description: str,
) -> Path:
    """Draw the slice with most of the last label in it.

    Args:
        path: the PNG.
        image: voxels (X, Y, Z).
        label: whole numbers (X, Y, Z).
        affine: 4x4 voxel-to-world matrix in RAS+ mm.
        labels: label value to name.
        modality: chooses the grey window.
        description: of the contours, as in the DICOM series that hold them.

    Returns:
        The path.
    """
    import nibabel as nib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt("LPS"))
    volume, mask = (nib.orientations.apply_orientation(a, turn) for a in (image, label))
    axes = nib.orientations.io_orientation(affine)[:, 0].astype(int)
    spacing = np.empty(3)
    spacing[axes] = np.linalg.norm(affine[:3, :3], axis=0)
    picture, aspect = slice_picture(volume, mask, spacing.tolist(), labels, modality)
    present = [value for value in labels if value and (mask == value).any()]
    colours = label_colors(labels)
    shown = present[:TOO_MANY]
    figure = Figure(figsize=(7, 6), dpi=100)
    axis = figure.add_axes((0.01, 0.01, 0.7, 0.93))
    axis.imshow(picture, aspect=aspect, interpolation="nearest")
    axis.axis("off")
    figure.text(0.01, 0.955, f"{description}; research only", fontsize=9)
    handles = [Patch(color="#" + bytes(colours[value]).hex(), label=labels[value]) for value in shown]
    if handles:
        title = f"{len(present)} structures" if len(present) > TOO_MANY else None
        figure.legend(handles=handles, loc="upper right", fontsize=8, frameon=False, title=title)
    else:
        figure.text(0.72, 0.9, "nothing was found", fontsize=9)
    with atomic_file(path) as partial:
        figure.savefig(partial)
    return path
