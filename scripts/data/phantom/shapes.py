"""Implicit surfaces on image grids: the geometry that the phantom's anatomy is drawn with.

Every function returns signed distances in mm, negative inside, and only for the part of the grid that a shape can
reach, which is what makes a case of ten million voxels a matter of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from scripts.data.phantom.interpolation import stretch

Array = NDArray[np.float32]
Box = tuple[slice, slice, slice]
FAR = np.float32(1e3)


@dataclass(frozen=True)
class Warp:
    """A smooth displacement of canonical space, a sum of plane waves, so that no organ is a textbook ellipsoid.

    Args:
        waves: wave vectors (N, 3) in 1/mm.
        phases: (N,) in radians.
        amplitudes: displacement (N, 3) in mm.
    """

    waves: NDArray[np.float64]
    phases: NDArray[np.float64]
    amplitudes: NDArray[np.float64]

    @classmethod
    def sample(cls, rng: np.random.Generator, amplitude: float, number: int = 6) -> Warp:
        """Draw waves of 70 to 200 mm with displacements of `amplitude` mm in all."""
        directions = rng.normal(size=(number, 3))
        unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        waves = unit * 2 * np.pi / rng.uniform(70, 200, (number, 1))
        amplitudes = rng.normal(size=(number, 3)) * amplitude / np.sqrt(number)
        return cls(waves, rng.uniform(0, 2 * np.pi, number), amplitudes)

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacement (..., 3) at points (..., 3), in mm."""
        return np.asarray(np.sin(points @ self.waves.T + self.phases) @ self.amplitudes)

    def undo(self, point: Sequence[float]) -> NDArray[np.float64]:
        """The place whose displaced position is `point`."""
        target = np.asarray(point, dtype=np.float64)
        place: NDArray[np.float64] = target
        for _ in range(20):
            place = target - self(place)
        return place


@dataclass
class Grid:
    """Sample points of an image in canonical space.

    Args:
        shape: samples (X, Y, Z).
        affine: 4x4, from index to canonical mm.
        warp: displacement of canonical space.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    warp: Warp
    inverse: NDArray[np.float64] = field(init=False)
    spacing: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.inverse = np.asarray(np.linalg.inv(self.affine), dtype=np.float64)
        self.spacing = np.linalg.norm(self.affine[:3, :3], axis=0)

    @cached_property
    def points(self) -> tuple[Array, Array, Array]:
        """Warped canonical x, y, z in mm of every sample; computed when first asked for."""
        # the warp is smooth, so a lattice of about 10 mm carries it
        knots = [max(2, min(n, round(n * s / 10) + 2)) for n, s in zip(self.shape, self.spacing, strict=True)]
        axes = [np.linspace(0, n - 1, k) for n, k in zip(self.shape, knots, strict=True)]
        index = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        place = index @ self.affine[:3, :3].T + self.affine[:3, 3]
        moved = (place + self.warp(place)).astype(np.float32)
        x, y, z = (stretch(moved[..., axis], self.shape) for axis in range(3))
        return x, y, z

    def box(self, points: NDArray[np.float64], reach: float | NDArray[np.float64]) -> Box | None:
        """The index box that holds what lies within `reach` of points, or None when that is outside the grid.

        Args:
            points: (N, 3) in canonical mm.
            reach: mm, or a 3x3 matrix whose columns are the half axes in mm of an ellipsoid.
        """
        place = points - self.warp(points - self.warp(points))
        index = place @ self.inverse[:3, :3].T + self.inverse[:3, 3]
        ball = np.eye(3) * reach if np.ndim(reach) == 0 else np.asarray(reach)
        # the warp strains lengths by a tenth or so
        margin = 1.15 * np.linalg.norm(self.inverse[:3, :3] @ ball, axis=1) + 1.5 / self.spacing + 1
        low = np.maximum(np.floor(index.min(0) - margin), 0).astype(int)
        high = np.minimum(np.ceil(index.max(0) + margin) + 1, self.shape).astype(int)
        if (high <= low).any():
            return None
        return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))

    def at(self, box: Box) -> tuple[Array, Array, Array]:
        """Canonical coordinates in mm of the samples of a box."""
        x, y, z = self.points
        return x[box], y[box], z[box]

    def part(self, box: Box) -> Grid:
        """The samples of one box as a grid of their own."""
        shape = (box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start)
        affine = self.affine.copy()
        affine[:3, 3] += self.affine[:3, :3] @ np.array([s.start for s in box])
        out = Grid(shape, affine, self.warp)
        if "points" in self.__dict__:
            out.__dict__["points"] = self.at(box)
        return out

    def coarse(self, step: float) -> Grid:
        """The same view on a lattice of about `step` mm, ends on ends, to be stretched afterwards."""
        size = [max(2, min(n, round((n - 1) * s / step) + 1)) for n, s in zip(self.shape, self.spacing, strict=True)]
        affine = self.affine.copy()
        affine[:3, :3] *= [(n - 1) / (k - 1) for n, k in zip(self.shape, size, strict=True)]
        return Grid((size[0], size[1], size[2]), affine, self.warp)

    def noise(self, rng: np.random.Generator, scale: float | NDArray[np.float64]) -> Array:
        """Smooth random field of about unit variance whose lattice has `scale` mm, per index axis or the same for all.

        The lattice is never finer than the grid.
        """
        steps = np.broadcast_to(np.asarray(scale, dtype=np.float64), (3,))
        knots = [
            max(2, min(n, round(n * s / step) + 1)) for n, s, step in zip(self.shape, self.spacing, steps, strict=True)
        ]
        # interpolation between independent knots loses about 0.7 of the standard deviation per axis
        return stretch(rng.standard_normal(knots, dtype=np.float32) * np.float32(1.55), self.shape)


def rotation(rz: float = 0.0, rx: float = 0.0, ry: float = 0.0) -> NDArray[np.float64]:
    """Rotation matrix from degrees about z, then x, then y (applied in the order y, x, z)."""
    a, b, c = np.radians([rz, rx, ry])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    return np.asarray(about_z @ about_x @ about_y)


Field = tuple[Box, Array]


def ellipsoid(
    grid: Grid, centre: Sequence[float], semi: Sequence[float], turn: Sequence[float] = (0, 0, 0)
) -> Field | None:
    """Approximate signed distance of an ellipsoid.

    Args:
        grid: where to evaluate.
        centre: canonical mm.
        semi: half axes in mm.
        turn: degrees about z, x, y.
    """
    matrix = rotation(*turn)
    middle = np.asarray(centre, dtype=np.float64)
    box = grid.box(middle[None], matrix * np.asarray(semi, dtype=np.float64))
    if box is None:
        return None
    delta = [p - np.float32(c) for p, c in zip(grid.at(box), middle, strict=True)]
    unit, steep = np.zeros_like(delta[0]), np.zeros_like(delta[0])
    for axis in range(3):
        along = sum(np.float32(matrix[k, axis]) * delta[k] for k in range(3)) / np.float32(semi[axis])
        unit = unit + along * along
        steep = steep + (along / np.float32(semi[axis])) ** 2
    # the small numbers give the centre its limit instead of 0 / 0
    unit, steep = np.sqrt(unit) + np.float32(1e-4), np.sqrt(steep) + np.float32(1e-4 / min(semi))
    return box, np.asarray(unit * (unit - 1) / steep, dtype=np.float32)


def tube(
    grid: Grid,
    path: NDArray[np.float64],
    radius: NDArray[np.float64],
    reach: float = 0.0,
    wide: float = 1.0,
) -> tuple[Box, Array, Array] | None:
    """Distance from a polyline minus a radius that varies along it.

    Args:
        grid: where to evaluate.
        path: (N, 3) in canonical mm.
        radius: (N,) in mm.
        reach: how far outside distances are wanted, in mm; beyond, they are large.
        wide: factor by which the cross-section is wider along x.

    Returns:
        The box, signed distance, and position along the path from 0 to 1; None outside the grid.
    """
    most = float(radius.max()) * wide + reach
    outer = grid.box(path, most)
    if outer is None:
        return None
    shape = tuple(s.stop - s.start for s in outer)
    best, along = np.full(shape, FAR), np.zeros(shape, dtype=np.float32)
    count = len(path) - 1
    for i in range(count):
        near = grid.box(path[i : i + 2], float(radius[i : i + 2].max()) * wide + reach)
        if near is None:
            continue
        local: Box = tuple(slice(n.start - o.start, n.stop - o.start) for n, o in zip(near, outer, strict=True))  # type: ignore[assignment]
        start, step = path[i].astype(np.float32), (path[i + 1] - path[i]).astype(np.float32)
        delta = [p - c for p, c in zip(grid.at(near), start, strict=True)]
        delta[0] = delta[0] / np.float32(wide)
        step[0] /= np.float32(wide)
        share = np.clip((delta[0] * step[0] + delta[1] * step[1] + delta[2] * step[2]) / (step @ step + 1e-9), 0, 1)
        away = sum((d - share * s) ** 2 for d, s in zip(delta, step, strict=True))
        distance = np.sqrt(away) - (radius[i] + share * (radius[i + 1] - radius[i])).astype(np.float32)
        closer = distance < best[local]
        best[local] = np.where(closer, distance, best[local])
        along[local] = np.where(closer, (i + share) / count, along[local])
    return outer, best, along


def coverage(distance: Array, width: float) -> Array:
    """Share of a sample inside a surface, for an edge `width` mm wide."""
    out = distance * np.float32(-1 / width)
    out += np.float32(0.5)
    return np.clip(out, 0, 1, out=out)


def blend(a: Array, b: Array, radius: float) -> Array:
    """Union of two surfaces with a fillet of `radius` mm."""
    h = np.clip(np.float32(0.5) + (b - a) / np.float32(2 * radius), 0, 1)
    return b + (a - b) * h - np.float32(radius) * h * (1 - h)
