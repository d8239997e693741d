"""A synthetic dose for the CT phantom's applicator: inverse square from every dwell position, normalised to point A."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from custom_networks import CaseError
from custom_networks.data.datalist import read_json
from scripts.data.phantom.applicator import Applicator
from scripts.data.phantom.sampled_anatomy import Anatomy

# Gy at point A, in one fraction
PRESCRIBED, FRACTIONS = 7.0, 1
# mm: between dwell positions, between voxels of the dose
STEP, GRID = 5.0, 2.0
# mm: nearer than this lies the applicator itself
INSIDE = 2.0
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Implant:
    """Where the source dwells, in RAS+ mm.

    Args:
        dwell: positions (N, 3), each for the same time.
        point_a: right and left point A (2, 3): 20 mm along the tandem above the external os, 20 mm to its side.
    """

    dwell: Points
    point_a: Points


@dataclass(frozen=True)
class Radial:
    """How dose falls with distance besides the inverse square: a radial dose function, 1 where none is given.

    Args:
        distance: mm, ascending; beyond its ends the function stays what it is there.
        value: at these distances.
    """

    distance: Points = field(default_factory=lambda: np.array([10.0]))
    value: Points = field(default_factory=lambda: np.array([1.0]))


def read_radial(file: str) -> Radial:
    """Read a radial dose function: a JSON list of pairs of distance in mm and value.

    Raises:
        CaseError: it is no such list, distances do not ascend, or a number is not above 0.
    """
    where, remedy = f"--radial {file}", "write [[2.5, 0.99], [10, 1.0], [50, 0.98]]"
    content = read_json(file, where, remedy)
    try:
        table = np.array(content, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise CaseError(where, "it is no list of pairs of numbers", remedy) from None
    if not len(table) or not np.isfinite(table).all() or (table <= 0).any() or (np.diff(table[:, 0]) <= 0).any():
        raise CaseError(where, "its distances do not ascend or a number is not above 0", remedy)
    return Radial(table[:, 0], table[:, 1])


def implant(applicator: Applicator, anatomy: Anatomy, to_scanner: Points) -> Implant:
    """Dwell positions of an applicator: every 5 mm of the tandem from its tip to the os, and three in each ovoid.

    Args:
        applicator: in warped canonical space.
        anatomy: that it lies in.
        to_scanner: 4x4 from canonical mm to scanner mm (RAS+).
    """

    def placed(points: Points) -> Points:
        there = np.array([anatomy.warp.undo(point) for point in points])
        return np.asarray(there @ to_scanner[:3, :3].T + to_scanner[:3, 3])

    os_ = anatomy.uterus[0, :3]
    start = int(np.argmin(np.linalg.norm(applicator.tandem - os_, axis=1)))
    tandem = placed(applicator.tandem[start:])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(tandem, axis=0), axis=1))])

    def at(length: float) -> Points:
        return np.array([np.interp(length, along, tandem[:, axis]) for axis in range(3)])

    dwell = [at(length) for length in np.arange(along[-1], 0, -STEP)]
    shifts = np.array([[0, -STEP, 0], [0, 0, 0], [0, STEP, 0]])
    ovoids = (applicator.ovoids[:, None] + shifts).reshape(-1, 3)
    axis = at(21.0) - at(19.0)
    axis /= np.linalg.norm(axis)
    side = np.array([1.0, 0.0, 0.0]) - axis[0] * axis
    side /= np.linalg.norm(side)
    return Implant(np.vstack([dwell, placed(ovoids)]), at(20.0) + np.outer([1.0, -1.0], 20.0 * side))


def dose_at(points: Points, source: Implant, radial: Radial | None = None) -> NDArray[np.float32]:
    """Dose in Gy at points (..., 3) in RAS+ mm; the mean of both points A has the prescribed dose."""
    function = radial or Radial()
    unit = _sum(source.point_a, source, function).mean()
    return np.asarray(_sum(points, source, function) * (PRESCRIBED / unit), dtype=np.float32)


def _sum(points: Points, source: Implant, radial: Radial) -> NDArray[np.float64]:
    total = np.zeros(points.shape[:-1])
    for place in source.dwell:
        distance = np.maximum(np.linalg.norm(points - place, axis=-1), INSIDE)
        total += np.interp(distance, radial.distance, radial.value) / distance**2
    return total


def dose_grid(
    shape: tuple[int, ...], affine: Points, source: Implant, radial: Radial | None = None
) -> tuple[NDArray[np.float32], Points]:
    """Dose on a grid of 2 mm that covers an image to its edges.

    Args:
        shape: of the image.
        affine: 4x4 of the image, index to RAS+ mm.
        source: where the source dwells.
        radial: radial dose function; 1 where None.

    Returns:
        Gy (X, Y, Z), and the 4x4 matrix from index to RAS+ mm.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    count = np.ceil(np.array(shape) * spacing / GRID).astype(int) + 1
    place = affine.copy()
    place[:3, :3] = affine[:3, :3] / spacing * GRID
    place[:3, 3] = (affine @ [-0.5, -0.5, -0.5, 1])[:3]
    points = np.stack(np.meshgrid(*map(np.arange, count), indexing="ij"), -1) @ place[:3, :3].T + place[:3, 3]
    return dose_at(points, source, radial), place


def about(source: Implant, radial: str) -> str:
    """What the dose is, for phantom.json."""
    function = f"radial function of {Path(radial).name}" if radial else "radial function 1"
    return (
        f"synthetic: inverse square with {function}, {len(source.dwell)} dwell positions of equal time, "
        f"{PRESCRIBED:g} Gy to point A in one fraction"
    )
