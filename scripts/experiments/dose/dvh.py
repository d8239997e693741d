"""The dose-volume histogram of a structure, sampled finely enough for a stated accuracy.

A structure is the voxels of a mask, whatever the dose grid is: its volume depends on the mask alone. Every voxel is
divided into equal parts, and the dose in the middle of each is interpolated linearly between voxels of the dose. The
parts are halved until what is measured changes by no more than the accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np

# relative change of a measure under halving of the parts
ACCURACY = 0.005
# mm: edge of the parts at the start, about cubes, where the voxels' shortest edge is not between
EDGE = 0.5, 2.0
MOST_SAMPLES = 6_000_000
# of a dose voxel: rounding in affines puts nothing outside
ROUNDING = 1e-3


@dataclass(frozen=True)
class DoseGrid:
    """Physical dose in Gy (X, Y, Z) and its 4x4 matrix from voxel index to RAS+ mm."""

    array: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class Histogram:
    """Dose of the parts of a structure.

    Attributes:
        dose: Gy (N,), descending.
        reached: cm3 (N,) that have at least this dose.
        volume: of the structure in cm3, in and outside the dose grid.
        outside: share of the volume that lies outside the dose grid; such parts are in no other number.
        accuracy: largest relative change of a measure when the parts were halved last; None before.
    """

    dose: np.ndarray
    reached: np.ndarray
    volume: float
    outside: float = 0.0
    accuracy: float | None = None

    @property
    def mean(self) -> float:
        """Mean dose in Gy."""
        return float(np.average(self.dose, weights=np.diff(self.reached, prepend=0.0)))

    def dose_at(self, volume: float) -> float:
        """The least dose in Gy in the most exposed `volume` cm3, which is at most the structure's."""
        index = np.searchsorted(self.reached, volume * (1 - 1e-9))
        return float(self.dose[min(int(index), len(self.dose) - 1)])

    def volume_at(self, dose: float) -> float:
        """cm3 that have at least `dose` Gy."""
        count = int(np.searchsorted(-self.dose, -dose, side="right"))
        return float(self.reached[count - 1]) if count else 0.0


def sample(mask: np.ndarray, affine: np.ndarray, dose: DoseGrid, parts: tuple[int, int, int]) -> Histogram:
    """Dose of a structure at the middle of equal parts of its voxels.

    Args:
        mask: booleans, or the share of each voxel that is inside, 0 to 1 (X, Y, Z); not empty.
        affine: 4x4 matrix of the mask from voxel index to RAS+ mm.
        dose: the dose; a voxel's own extent, half a voxel beyond its middle, belongs to it.
        parts: of a voxel along each axis.
    """
    from scipy.ndimage import map_coordinates

    index = np.argwhere(mask)
    share = mask[tuple(index.T)].astype(np.float64)
    to_dose = np.linalg.inv(dose.affine) @ affine
    places = index @ to_dose[:3, :3].T + to_dose[:3, 3]
    voxel = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    part = voxel / float(np.prod(parts))
    high = np.array(dose.array.shape) - 0.5 + ROUNDING
    doses, weights, outside = [], [], 0.0
    for offset in product(*((np.arange(n) + 0.5) / n - 0.5 for n in parts)):
        there = places + to_dose[:3, :3] @ np.array(offset)
        inside = ((there >= -0.5 - ROUNDING) & (there <= high)).all(axis=1)
        doses.append(map_coordinates(dose.array, there[inside].T, order=1, mode="nearest", output=np.float64))
        weights.append(share[inside] * part)
        outside += float(share[~inside].sum()) * part
    values, volumes = np.concatenate(doses), np.concatenate(weights)
    order = np.argsort(-values)
    total = float(share.sum()) * voxel
    return Histogram(values[order], np.cumsum(volumes[order]), total, outside / total)


def histogram(
    mask: np.ndarray,
    affine: np.ndarray,
    dose: DoseGrid,
    measures: Iterable[Callable[[Histogram], float | None]],
    accuracy: float = ACCURACY,
    most: int = MOST_SAMPLES,
) -> Histogram:
    """Sample a structure until its measures stay.

    Args:
        mask: see `sample`.
        affine: see `sample`.
        dose: see `sample`.
        measures: functions of a histogram; None where it has no such number.
        accuracy: relative change of any of them at which halving ends.
        most: samples; halving ends before there are more. `Histogram.accuracy` says what was reached.

    Returns:
        The histogram. One that lies partly outside the dose grid has no measures and is not refined.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    parts = np.ceil(spacing / np.clip(spacing.min(), *EDGE) - 1e-6).astype(int)
    voxels, wanted = int(np.count_nonzero(mask)), list(measures)
    found = sample(mask, affine, dose, _three(parts))
    if found.outside:
        return found
    while voxels * int(np.prod(2 * parts)) <= most or found.accuracy is None:
        parts = 2 * parts
        finer = sample(mask, affine, dose, _three(parts))
        changes = [_change(measure(found), measure(finer)) for measure in wanted]
        found = Histogram(finer.dose, finer.reached, finer.volume, finer.outside, max(changes, default=0.0))
        if max(changes, default=0.0) <= accuracy:
            break
    return found


def _three(parts: np.ndarray) -> tuple[int, int, int]:
    return int(parts[0]), int(parts[1]), int(parts[2])


def _change(before: float | None, after: float | None) -> float:
    if before is None or after is None or before == after:
        return 0.0
    return abs(after - before) / max(abs(after), 1e-9)
