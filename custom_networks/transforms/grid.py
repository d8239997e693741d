"""Which grid an image of another spacing has, and when two grids differ along their axes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from monai.data.utils import affine_to_spacing, zoom_affine
from torch import Tensor

# what two descriptions of one image may differ by, in mm: far above rounding in NIfTI and DICOM, far below a voxel
TOLERANCE = 0.01


class Axis(NamedTuple):
    """One axis of a resampling: output voxel `i` lies at input position `scale * i + offset`."""

    size: int
    new_size: int
    scale: float
    offset: float

    @property
    def unchanged(self) -> bool:
        return self.size == self.new_size and self.scale == 1 and self.offset == 0


def parallel_axes(source: Tensor, target: Tensor, size: Sequence[int], new_size: Sequence[int]) -> list[Axis] | None:
    """What a change of grid is along each axis, or None if it is not a scaling along the axes.

    Args:
        source: (d + 1, d + 1) affine of the old grid.
        target: of the new one.
        size: d voxel counts of the old one.
        new_size: of the new one.
    """
    if len(size) != len(new_size):
        return None
    steps = torch.linalg.solve(source, target).numpy()
    matrix, offset = steps[:-1, :-1], steps[:-1, -1]
    # how far, in voxels, the other axes' share carries a voxel over the whole volume
    drift = np.abs(matrix - np.diag(np.diag(matrix))) @ np.asarray(new_size, dtype=float)
    if drift.max() > 1e-3 or (np.diag(matrix) <= 0).any():
        return None
    axes = []
    for i, (old, new) in enumerate(zip(size, new_size, strict=True)):
        scale, start = float(matrix[i, i]), float(offset[i])
        # nothing moves by a thousandth of a voxel: the grid is the same along this axis
        if old == new and abs(scale - 1) * new < 1e-3 and abs(start) < 1e-3:
            scale, start = 1.0, 0.0
        axes.append(Axis(int(old), int(new), scale, start))
    return axes


def resampling_grid(affine: np.ndarray, size: Sequence[int], spacing: Sequence[float]) -> tuple[list[int], np.ndarray]:
    """The grid of another spacing over an image, as `monai.data.utils.compute_shape_offset`, decided in millimetres.

    MONAI puts the first voxel of the new grid on the image's first voxel if that is a corner of the image in the new
    directions, else it centres the new grid on the image. Whether it is a corner it asks of float64 numbers with
    `np.allclose(…, 0, rtol=1e-3)`, whose relative tolerance counts nothing beside 0 and whose absolute one is 1e-8
    voxels. An oblique affine that was written as float32 or as decimal text is never that orthogonal, so rounding
    decides, and one series read from NIfTI and from DICOM lands on two grids up to half a voxel of the coarse axis apart.
    So it is, at half a voxel, with the number of voxels.

    Here both are decided with `TOLERANCE`: affines whose voxels agree to 1e-4 mm give the same size, and affines that
    agree as well.

    Args:
        affine: (d + 1, d + 1).
        size: d voxel counts.
        spacing: d target spacings in mm; what is not positive keeps the image's.

    Returns:
        Voxel counts and affine of the new grid.
    """
    n = len(size)
    own = affine_to_spacing(affine, n)
    target = [
        float(old if wanted <= 0 or abs(old - wanted) * count <= TOLERANCE else wanted)
        for old, wanted, count in zip(own, spacing, size, strict=True)
    ]
    new_affine = zoom_affine(affine, target, diagonal=False)
    corners = np.array(list(product(*((0.0, count - 1.0) for count in size)))).T
    places = (np.linalg.solve(new_affine[:n, :n], affine[:n, :n]) @ corners) * np.array(target)[:, None]
    # half-way between two sizes the larger is taken, whatever rounding has done to the extent
    new_size = [
        math.floor((extent + TOLERANCE) / step + 1.5) for extent, step in zip(np.ptp(places, 1), target, strict=True)
    ]
    new_affine[:n, -1] = affine[:n, -1]
    if places.min() < -TOLERANCE:  # a sheared image
        shift = affine[:n, :n] @ (np.array(size) / 2) - new_affine[:n, :n] @ (np.array(new_size) / 2)
        new_affine[:n, -1] += shift
    return new_size, new_affine
