"""Outlines of a mask, slice by slice: closed polygons without holes, as planning systems take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# of a pixel; a vertex that lies this near to an edge may go: no voxel centre is nearer to an outline than 0.35
EXACT = 0.3


def outlines(
    mask: np.ndarray,
    spacing: Sequence[float],
    smoothing_mm: float = 0.0,
    tolerance_mm: float | None = None,
    least_area_mm2: float = 0.0,
) -> list[np.ndarray]:
    """Outline every region of one slice.

    An outline runs midway between the voxels inside and those outside, so that filling it at voxel centres gives the
    mask back. A hole is joined to its rim by a channel without width (a keyhole), because many planning systems take
    every polygon for a region of its own.

    Args:
        mask: booleans (columns, rows).
        spacing: mm from column to column and from row to row.
        smoothing_mm: standard deviation of a Gaussian that rounds the outlines; 0 keeps the voxels.
        tolerance_mm: how far an outline may move when points are left out; by default 0.3 of the finer pixel, which
            changes no voxel.
        least_area_mm2: regions and holes below it are left out.

    Returns:
        Polygons (N, 2) of (column, row) in voxel units, voxel centres at whole numbers, not closed by a repeated point.
    """
    from scipy.ndimage import gaussian_filter
    from skimage.measure import approximate_polygon, find_contours

    if not mask.any():
        return []
    mm = np.asarray(spacing, dtype=np.float64)
    field = np.pad(mask.astype(np.float64), 1)
    if smoothing_mm > 0:
        smooth = gaussian_filter(np.pad(mask.astype(np.float64), 1, mode="edge"), smoothing_mm / mm)
        smooth[[0, -1]], smooth[:, [0, -1]] = 0.0, 0.0
        # what is thinner than the Gaussian would vanish; such a slice keeps its voxels
        field = smooth if (smooth > 0.5).any() else field
    tolerance = EXACT * mm.min() if tolerance_mm is None else tolerance_mm
    rims: list[np.ndarray] = []
    holes: list[np.ndarray] = []
    for line in find_contours(field, 0.5, positive_orientation="high"):
        ring = approximate_polygon((line - 1) * mm, tolerance)[:-1]
        area = _signed_area(ring)
        if len(ring) >= 3 and abs(area) >= max(least_area_mm2, 1e-9):
            (rims if area > 0 else holes).append(ring)
    return [ring / mm for ring in _keyholed(rims, holes)]


def _signed_area(ring: np.ndarray) -> float:
    following = np.roll(ring, -1, axis=0)
    return 0.5 * float(np.sum(ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]))


def _keyholed(rims: list[np.ndarray], holes: list[np.ndarray]) -> list[np.ndarray]:
    """Join every hole to the smallest rim around it."""
    from skimage.measure import points_in_poly

    rims = sorted(rims, key=_signed_area)
    inside: list[list[np.ndarray]] = [[] for _ in rims]
    for hole in holes:
        around = [i for i, rim in enumerate(rims) if points_in_poly(hole[:1], rim)[0]]
        # a hole whose rim was left out as too small goes with it
        if around:
            inside[around[0]].append(hole)
    return [_joined(rim, own) for rim, own in zip(rims, inside, strict=True)]


def _joined(rim: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """One polygon out of a rim and its holes, nearest hole first, so that no channel crosses a hole."""
    from scipy.spatial.distance import cdist

    ring, left = rim, list(holes)
    while left:
        apart = [cdist(ring, hole) for hole in left]
        nearest = int(np.argmin([d.min() for d in apart]))
        i, j = np.unravel_index(int(np.argmin(apart[nearest])), apart[nearest].shape)
        hole = np.roll(left.pop(nearest), -int(j), axis=0)
        ring = np.concatenate([ring[: i + 1], hole, hole[:1], ring[i:]])
    return ring
