"""Tandem and ovoids in the CT phantom, and the streaks that their metal throws across a slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.data.phantom.body import Paint
from scripts.data.phantom.interpolation import smooth_path
from scripts.data.phantom.sampled_anatomy import Anatomy
from scripts.data.phantom.shapes import FAR, Array, Grid, coverage, ellipsoid, tube


@dataclass(frozen=True)
class Applicator:
    """An intracavitary applicator in warped canonical space.

    Args:
        tandem: path (N, 3) in mm from the handle, through the vagina, to the tip in the uterine cavity.
        ovoids: centres (2, 3) in mm, beside the external os.
        semi: half axes of an ovoid in mm.
        stems: two paths (M, 3), the tubes of the ovoids.
    """

    tandem: NDArray[np.float64]
    ovoids: NDArray[np.float64]
    semi: tuple[float, float, float]
    stems: tuple[NDArray[np.float64], NDArray[np.float64]]


def insert(rng: np.random.Generator, anatomy: Anatomy) -> Applicator:
    """Place an applicator along the axis of uterus and vagina."""
    depth = rng.uniform(0.70, 0.88)
    inside = anatomy.uterus[: round(depth * (len(anatomy.uterus) - 1)) + 1, :3]
    os_ = inside[0]
    axis = (inside[2] - os_) / np.linalg.norm(inside[2] - os_)
    entry = np.array([os_[0] * 0.3, 2.0, -72.0])
    handle = entry + (entry - os_) / np.linalg.norm(entry - os_) * 70
    outside = smooth_path(np.array([handle, entry, (entry + os_) / 2 + [0, -3, 0], os_]), 4)
    spread, below = rng.uniform(13, 17), rng.uniform(5, 9)
    semi = (float(rng.uniform(7.5, 9.5)), float(rng.uniform(10, 13)), float(rng.uniform(9, 11)))
    centre = os_ - axis * below
    ovoids = centre + np.array([[-spread, 1.5, 0], [spread, 1.5, 0]])
    stems = tuple(
        smooth_path(np.array([handle + beside, entry + beside, ovoid]), 4)
        for beside, ovoid in zip(np.array([[-7, 0, 0], [7, 0, 0]]), ovoids, strict=True)
    )
    return Applicator(np.vstack([outside[:-1], inside]), ovoids, semi, (stems[0], stems[1]))


def paint_applicator(applicator: Applicator, grid: Grid, width: float, paint: Paint) -> Array:
    """Paint gauze, ovoids, tubes; returns the share of metal of every sample of the grid."""
    metal = np.zeros(grid.shape, dtype=np.float32)
    middle = applicator.ovoids.mean(0)
    packing = ellipsoid(grid, middle - [0, 3, 7], (27, 15, 15), (0, 12, 0))
    if packing is not None:
        paint("packing", packing[0], coverage(packing[1], 2.5) * np.float32(0.9))
    for centre in applicator.ovoids:
        ovoid = ellipsoid(grid, centre, applicator.semi, (0, 20, 0))
        if ovoid is not None:
            paint("ovoid", ovoid[0], coverage(ovoid[1], width))
            core = coverage(ellipsoid_core(ovoid[1], min(applicator.semi)), width)
            paint("metal", ovoid[0], core)
            metal[ovoid[0]] = np.maximum(metal[ovoid[0]], core)
    for path, radius in ((applicator.tandem, 2.1), *((stem, 1.9) for stem in applicator.stems)):
        found = tube(grid, path, np.full(len(path), radius))
        if found is not None:
            share = coverage(np.where(found[1] < FAR, found[1], FAR), width)
            paint("metal", found[0], share)
            metal[found[0]] = np.maximum(metal[found[0]], share)
    return metal


def ellipsoid_core(distance: Array, radius: float) -> Array:
    """Distance to the source channel and shield in the middle of an ovoid of `radius` mm."""
    return distance + np.float32(radius * 0.68)


def streaks(rng: np.random.Generator, metal: Array, spacing: float, strength: float) -> Array:
    """HU that photon starvation and beam hardening add, slice by slice along the last axis.

    Stars of bright and dark rays leave each piece of metal; between pieces lies a dark band. Both grow with the metal's
    cross-section, so that a slice without metal has none.

    Args:
        rng: of the case.
        metal: share of metal (X, Y, Z).
        spacing: in plane, mm.
        strength: HU of a typical ray at 10 mm.
    """
    from scipy import ndimage

    size_x, size_y, count = metal.shape
    out = np.zeros(metal.shape, dtype=np.float32)
    x, y = (axis.astype(np.float32) for axis in np.ogrid[:size_x, :size_y])
    bins = 240
    rays = ndimage.gaussian_filter(rng.standard_normal((6, bins, count)), (0, 1.2, 1.0), mode="wrap")
    rays = (np.sign(rays) * np.abs(rays / rays.std()) ** 1.5).astype(np.float32)
    for k in range(count):
        pieces, number = ndimage.label(metal[:, :, k] > 0.3)
        if not number:
            continue
        areas = ndimage.sum_labels(metal[:, :, k], pieces, range(1, number + 1)) * spacing**2
        order = np.argsort(areas)[::-1][:3]
        centres = [ndimage.center_of_mass(pieces == order[i] + 1) for i in range(len(order))]
        for i, (cx, cy) in enumerate(centres):
            dx, dy = x - np.float32(cx), y - np.float32(cy)
            radius = np.hypot(dx, dy) * np.float32(spacing)
            angle = (np.arctan2(dy, dx) * np.float32(bins / (2 * np.pi))).astype(np.int16)
            amount = np.float32(strength * min(1.5, np.sqrt(areas[order[i]]) / 6))
            # negative bins count from the end, which closes the circle
            out[:, :, k] += np.take(rays[i, :, k] * amount, angle, mode="wrap") / (1 + radius / 14)
        for i in range(len(centres)):
            for j in range(i):
                start, step = np.array(centres[i]), np.array(centres[j]) - np.array(centres[i])
                length = max(float(np.linalg.norm(step)), 1e-3)
                unit = (step / length).astype(np.float32)
                along = (x - np.float32(start[0])) * unit[0] + (y - np.float32(start[1])) * unit[1]
                across = ((x - np.float32(start[0])) * unit[1] - (y - np.float32(start[1])) * unit[0]) * np.float32(
                    spacing
                )
                ends = np.maximum(np.maximum(-along, along - np.float32(length)), 0) * np.float32(spacing)
                depth = np.float32(strength * 2.2 * np.sqrt(min(areas[order[i]], areas[order[j]])) / 8)
                out[:, :, k] -= depth * np.exp(-((across / 5) ** 2) - (ends / 16) ** 2)
    return out
