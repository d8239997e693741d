"""Cubic interpolation of what the phantom knows coarsely: fields on a lattice, curves through a few points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def interpolation_matrix(size: int, knots: int) -> Array:
    """Cubic Catmull-Rom weights (size, knots) that stretch `knots` values, ends included, over `size` samples."""
    position = np.linspace(0, knots - 1, size)
    first = np.clip(np.floor(position).astype(int), 0, max(knots - 2, 0))
    t = position - first
    weights = np.stack(
        [-t / 2 + t**2 - t**3 / 2, 1 - 2.5 * t**2 + 1.5 * t**3, t / 2 + 2 * t**2 - 1.5 * t**3, (t**3 - t**2) / 2]
    )
    # one more knot at either end, on the straight line through the last two
    matrix = np.zeros((size, knots + 2), dtype=np.float32)
    for offset, weight in enumerate(weights):
        matrix[np.arange(size), np.minimum(first + offset, knots + 1)] += weight.astype(np.float32)
    if knots == 1:
        return np.ones((size, 1), dtype=np.float32)
    matrix[:, 1] += 2 * matrix[:, 0]
    matrix[:, 2] -= matrix[:, 0]
    matrix[:, -2] += 2 * matrix[:, -1]
    matrix[:, -3] -= matrix[:, -1]
    return np.ascontiguousarray(matrix[:, 1:-1])


def stretch(values: Array, shape: Sequence[int]) -> Array:
    """Interpolate an array (X, Y, Z) to a larger shape, end samples on end samples."""
    out = np.asarray(values, dtype=np.float32)
    first, second, third = (
        None if old == new else interpolation_matrix(new, old) for old, new in zip(out.shape, shape, strict=True)
    )
    # plain matrix products in this order need no transposed copies
    if first is not None:
        out = (first @ out.reshape(out.shape[0], -1)).reshape(-1, *out.shape[1:])
    if second is not None:
        out = second @ out
    if third is not None:
        out = out @ third.T
    return out


def smooth_path(points: Sequence[Sequence[float]] | NDArray[np.float64], between: int = 4) -> NDArray[np.float64]:
    """Catmull-Rom curve through points (N, C), `between` steps per gap."""
    knots = np.asarray(points, dtype=np.float64)
    size = (len(knots) - 1) * between + 1
    return np.asarray(interpolation_matrix(size, len(knots)), dtype=np.float64) @ knots
