"""Planar contours to a mask, by voxel centres, exact to the sub-voxel position of every vertex.

Contours of one ROI in one plane: a nested one is a hole, overlapping ones are united, one that is drawn twice counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from custom_networks.errors import CaseError

# in units of the slice distance: below it a contour lies on a slice, and two contours in one plane
ON_SLICE = 0.1
# mm: contours of one plane differ by no more than rounding
SAME_PLANE = 0.05
# in units of the slice distance: contours this close to half-way between slices all go to the same side, which
# rounding of their positions would otherwise decide
HALF_WAY = 0.05
# in pixels: a contour may reach this far beyond another one and still count as nested in it
NESTED = 0.5


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


@dataclass
class Filled:
    """One slice of an ROI (columns, rows), with the number of contours that were united and of those drawn twice."""

    array: np.ndarray
    united: int = 0
    repeated: int = 0


def fill_contours(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> Filled:
    """Fill the contours that one ROI has in one plane.

    Contours that overlap, without one being nested in the other, are united. What is nested in an odd number of such
    unions is a hole, so an island in a hole is inside. A contour that follows another one is taken once.

    Args:
        polygons: each (N, 2), column and row in voxel units, with voxel centres at whole numbers.
        shape: columns and rows.

    Returns:
        The slice.
    """
    kept: list[np.ndarray] = []
    for polygon in polygons:
        if not any(_nested(polygon, other) and _nested(other, polygon) for other in kept):
            kept.append(polygon)
    masks = [fill_even_odd([polygon], shape) for polygon in kept]
    inside = np.zeros((len(kept), len(kept)), dtype=bool)
    group = np.arange(len(kept))
    overlaps = 0
    for i, j in combinations(range(len(kept)), 2):
        inside[i, j], inside[j, i] = _nested(kept[i], kept[j]), _nested(kept[j], kept[i])
        if not (inside[i, j] or inside[j, i]) and (masks[i] & masks[j]).any():
            group[group == group[j]] = group[i]
            overlaps += 1
    unions = [np.flatnonzero(group == g) for g in np.unique(group)]
    within = [[inside[np.ix_(one, other)].any() for other in unions] for one in unions]
    depths = [sum(within[i][j] and not within[j][i] for j in range(len(unions)) if j != i) for i in range(len(unions))]
    array = np.zeros(shape, dtype=bool)
    for depth, members in sorted(zip(depths, unions, strict=True), key=lambda pair: pair[0]):
        for member in members:
            array[masks[member]] = depth % 2 == 0
    return Filled(array, overlaps, len(polygons) - len(kept))


def _nested(inner: np.ndarray, outer: np.ndarray) -> bool:
    """Whether no point of the outline `inner` lies outside the polygon `outer` by more than `NESTED` pixels."""
    from skimage.measure import points_in_poly

    if (inner.min(0) < outer.min(0) - NESTED).any() or (inner.max(0) > outer.max(0) + NESTED).any():
        return False
    points = np.concatenate([inner, (inner + np.roll(inner, -1, axis=0)) / 2])
    points = points[~points_in_poly(points, outer)]
    start, along = outer, np.roll(outer, -1, axis=0) - outer
    length = np.maximum((along**2).sum(1), 1e-12)
    for block in np.array_split(points, len(points) // 256 + 1):
        offset = block[:, None] - start
        part = np.clip((offset * along).sum(2) / length, 0, 1)
        distance = np.linalg.norm(offset - part[..., None] * along, axis=2)
        if len(block) and distance.min(axis=1).max() > NESTED:
            return False
    return True


def contours_to_mask(
    case: str,
    contours: Sequence[np.ndarray],
    affine: np.ndarray,
    shape: tuple[int, int, int],
    even_odd: bool = False,
) -> Mask:
    """Rasterise the contours of one ROI on an image's grid.

    A slice takes the contours of the nearest contour plane, if that is within half the distance between contour planes
    (at least half a slice). Contours drawn between slices, on every second slice or more finely than the slices thus
    all give the volume that they stand for. Contours half-way between slices all go to the lower one.

    Args:
        case: the case's name, for messages.
        contours: each (N, 3) vertices in LPS+ mm.
        affine: 4x4 matrix of the image from (column, row, slice) index to LPS+ mm.
        shape: columns, rows, slices.
        even_odd: whether what an even number of contours encloses is outside, as contours of DICOM's type
            CLOSEDPLANAR_XOR demand; else see `fill_contours`.

    Returns:
        The mask, with notes on what is unusual.

    Raises:
        CaseError: contours are not parallel to the slices, or some lie on planes that the image does not have.
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
    slice_distance = float(np.linalg.norm(affine[:3, 2]))
    planes = _planes(heights, slice_distance)
    heights_of_planes = np.array([heights[members].mean() for members in planes])
    sided = heights_of_planes - HALF_WAY
    outside = (sided < -0.5) | (sided >= shape[2] - 0.5)
    if outside.any():
        which = "all" if outside.all() else f"{int(outside.sum())} of {len(planes)}"
        raise CaseError(
            case,
            f"{which} contour planes lie outside the image",
            "check that both belong together and that the series is complete",
        )
    distance = float(np.median(np.diff(heights_of_planes))) if len(planes) > 1 else 1.0
    off = np.abs(heights_of_planes - np.rint(heights_of_planes))
    if off.max() > ON_SLICE:
        apart = float(off.max() * slice_distance)
        notes.append(f"contours lie between slices, up to {apart:.2f} mm off; each slice took the nearest ones")
    filled: dict[int, float] = {}
    united = repeated = 0
    for z in range(shape[2]):
        nearest = int(np.argmin(np.abs(sided - z)))
        gap = abs(float(heights_of_planes[nearest]) - z)
        # where contours skip slices, one at exactly half-way counts only where contours lie on both sides of it
        between = heights_of_planes[0] < z < heights_of_planes[-1]
        skipping = distance > 1 + ON_SLICE and gap < distance / 2 + (HALF_WAY if between else -HALF_WAY)
        if abs(float(sided[nearest]) - z) < 0.5 or skipping:
            polygons = [index[i][:, :2] for i in planes[nearest]]
            one = Filled(fill_even_odd(polygons, shape[:2])) if even_odd else fill_contours(polygons, shape[:2])
            array[:, :, z] = one.array
            filled[z] = gap
            united += one.united > 0
            repeated += one.repeated
    if united:
        notes.append(f"contours overlap on {united} slices and were united")
    if repeated:
        notes.append(f"{repeated} contours are drawn twice and were taken once")
    notes += _gaps(filled, heights_of_planes)
    lost = sum(not array[:, :, z].any() for z in filled)
    if lost:
        notes.append(f"{lost} slices have contours too small to hold a voxel centre")
    points = np.concatenate(index)[:, :2]
    if (points < -1).any() or (points > np.array(shape[:2])).any():
        notes.append("contours reach beyond the image's edge and are cut off there")
    return Mask(array, notes)


def _planes(heights: np.ndarray, slice_distance: float) -> list[np.ndarray]:
    """Indices of contours that share a plane, from the lowest to the highest."""
    order = np.argsort(heights, kind="stable")
    planes: list[np.ndarray] = []
    for tolerance in (ON_SLICE, SAME_PLANE / slice_distance):
        planes = np.split(order, np.flatnonzero(np.diff(heights[order]) > tolerance) + 1)
        # contours drawn more finely than that would all become one plane
        if max(float(np.ptp(heights[members])) for members in planes) <= ON_SLICE:
            break
    return planes


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
