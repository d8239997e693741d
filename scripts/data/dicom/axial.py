"""Parity with the PocketNet paper's external data: sagittal series made axial, 0.469 x 0.469 x 5 mm."""

from __future__ import annotations

import numpy as np

AXIAL_SPACING = (0.469, 0.469, 5.0)


def to_axial(
    array: np.ndarray, affine: np.ndarray, label: bool, spacing: tuple[float, float, float] = AXIAL_SPACING
) -> tuple[np.ndarray, np.ndarray]:
    """Reorient to LPS and resample, which turns a stack of sagittal slices into axial ones (decision for section 2.1).

    Args:
        array: voxels (X, Y, Z).
        affine: 4x4 voxel-to-world matrix in RAS+ mm.
        label: True for label maps (nearest neighbour), False for images (linear).
        spacing: mm along left-right, anterior-posterior and head-foot.

    Returns:
        The resampled voxels, in the type of the input, and their matrix.
    """
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Compose, Orientation, Spacing

    path = Compose(
        [
            Orientation(axcodes="LPS"),
            Spacing(pixdim=spacing, mode="nearest" if label else "bilinear", padding_mode="border", align_corners=True),
        ]
    )
    volume = path(MetaTensor(np.asarray(array[None], dtype=np.float32), affine=torch.as_tensor(affine)))
    voxels = volume.numpy()[0]
    if array.dtype.kind in "iu":
        voxels = np.rint(voxels)
    return voxels.astype(array.dtype), np.asarray(volume.affine.numpy(), dtype=np.float64)
