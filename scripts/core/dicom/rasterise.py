"""Planar contours to a mask: even-odd fill at voxel centres, exact to the sub-voxel position of every vertex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from custom_networks.errors import CaseError

# in units of the slice distance: below it a contour lies on a slice, and two contours in one plane
ON_SLICE = 0.1


@dataclass
class Mask:
    """Voxels inside an ROI (columns, rows, slices), and sentences for the report."""

    array: np.ndarray
    notes: list[str]


def fill_even_odd(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Fill closed polygons of one slice; what an even number of them encloses is outside, so holes stay holes.

    A pixel is inside when its centre is. Centres exactly on an edge belong to the polygon on one side only (half-open
    rule), so that neighbouring polygons neither overlap nor leave a gap.

    Args:
        polygons: each (N, 2), column and row in voxel units, with voxel centres at whole numbers.
        shape: columns and rows.

    Returns:
        Booleans (columns, rows).
    """
    columns, rows = shape
    flips = np.zeros((rows, columns + 1), dtype=np.int64)
    for polygon in polygons:
        x, y = polygon[:, 0], polygon[:, 1]
        x_end, y_end = np.roll(x, -1), np.roll(y, -1)
        first = np.clip(np.ceil(np.minimum(y, y_end)), 0, rows).astype(np.int64)
        last = np.clip(np.ceil(np.maximum(y, y_end)), 0, rows).astype(np.int64)
        count = last - first
        edge = np.repeat(np.arange(len(x)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        along = (row - y[edge]) / (y_end[edge] - y[edge])
        crossing = np.round(x[edge] + along * (x_end[edge] - x[edge]), 6)
        # every pixel at or beyond the crossing changes sides
        np.add.at(flips, (row, np.clip(np.ceil(crossing), 0, columns).astype(np.int64)), 1)
    return (np.cumsum(flips[:, :columns], axis=1) % 2 == 1).T


def contours_to_mask(
    case: str, contours: Sequence[np.ndarray], affine: np.ndarray, shape: tuple[int, int, int]
) -> Mask:
    """Rasterise the contours of one ROI on an image's grid.

    A slice takes the contours of the nearest contour plane, if that is within half the distance between contour planes
    (at least half a slice). Contours drawn between slices, on every second slice or more finely than the slices thus
    all give the volume that they stand for.

    Args:
        case: the case's name, for messages.
        contours: each (N, 3) vertices in LPS+ mm.
        affine: 4x4 matrix of the image from (column, row, slice) index to LPS+ mm.
        shape: columns, rows, slices.

    Returns:
        The mask, with notes on what is unusual.

    Raises:
        CaseError: contours are not parallel to the slices, or all lie outside the image.
    """
    to_index = np.linalg.inv(affine)
    index = [np.round(points @ to_index[:3, :3].T + to_index[:3, 3], 6) for points in contours if len(points) >= 3]
    notes = []
    if len(index) < len(contours):
        notes.append(f"{len(contours) - len(index)} contours of fewer than three points were left out")
    array = np.zeros(shape, dtype=bool)
    if not index:
        return Mask(array, notes)
    heights = np.array([points[:, 2].mean() for points in index])
    if max(float(np.ptp(points[:, 2])) for points in index) > 0.5:
        raise CaseError(
            case,
            "contours are not drawn in the planes of the series",
            "import the series that they were drawn on, or have them transferred to this one",
        )
    planes = _planes(heights)
    heights_of_planes = np.array([heights[members].mean() for members in planes])
    outside = (heights_of_planes < -0.5) | (heights_of_planes > shape[2] - 0.5)
    if outside.all():
        raise CaseError(case, "all contours lie outside the image", "check that both belong together and are complete")
    if outside.any():
        notes.append(f"{int(outside.sum())} of {len(planes)} contour planes lie outside the image and are lost")
    reach = max(0.5, 0.5 * float(np.median(np.diff(heights_of_planes)))) if len(planes) > 1 else 0.5
    off = np.abs(heights_of_planes - np.rint(heights_of_planes))
    if off.max() > ON_SLICE:
        distance = float(off.max() * np.linalg.norm(affine[:3, 2]))
        notes.append(f"contours lie between slices, up to {distance:.2f} mm off; each slice took the nearest ones")
    filled = {}
    for z in range(shape[2]):
        nearest = int(np.argmin(np.abs(heights_of_planes - z)))
        gap = abs(float(heights_of_planes[nearest]) - z)
        # at exactly half-way a slice counts only where contours lie on both sides of it
        between = heights_of_planes[0] < z < heights_of_planes[-1]
        if gap < reach - 1e-3 or (between and gap <= reach + 1e-3):
            array[:, :, z] = fill_even_odd([index[i][:, :2] for i in planes[nearest]], shape[:2])
            filled[z] = gap
    notes += _gaps(filled, heights_of_planes)
    lost = sum(not array[:, :, z].any() for z in filled)
    if lost:
        notes.append(f"{lost} slices have contours too small to hold a voxel centre")
    points = np.concatenate(index)[:, :2]
    if (points < -1).any() or (points > np.array(shape[:2])).any():
        notes.append("contours reach beyond the image's edge and are cut off there")
    return Mask(array, notes)


def _planes(heights: np.ndarray) -> list[np.ndarray]:
    """Indices of contours that share a plane, from the lowest to the highest."""
    order = np.argsort(heights, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(heights[order]) > ON_SLICE) + 1)


def _gaps(filled: dict[int, float], planes: np.ndarray) -> list[str]:
    if not filled:
        return []
    notes = []
    skipped = sum(gap > 0.5 + ON_SLICE for gap in filled.values())
    if skipped:
        notes.append(f"contours are farther apart than slices; {skipped} slices between them took the nearest ones")
    empty = max(filled) - min(filled) + 1 - len(filled)
    if empty:
        notes.append(f"{empty} slices between contours have none and stay empty")
    if len(planes) > 1 and float(np.median(np.diff(planes))) < 1 - ON_SLICE:
        notes.append("contours are closer together than slices; each slice took the nearest ones")
    return notes
