"""Cervix, uterus, vagina and tumour of the phantom: as distances, as label, and painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.data.phantom.body import Paint
from scripts.data.phantom.interpolation import stretch
from scripts.data.phantom.sampled_anatomy import ROUGHNESS, Anatomy
from scripts.data.phantom.shapes import FAR, Array, Box, Grid, blend, coverage, ellipsoid, tube

# how far from the organ its distance is needed: neighbours are pushed aside there
REACH = 16.0


@dataclass
class Organ:
    """Signed distances in mm inside one box of a grid.

    Args:
        box: of the grid.
        uterus: cervix and corpus, grown around the tumour.
        along: 0 external os, 1/3 internal os, 1 fundus.
        core: distance to the uterine axis in mm.
        vagina: of the vagina.
        tumor: of the tumour.
        whole: their union.
    """

    box: Box
    uterus: Array
    along: Array
    core: Array
    vagina: Array
    tumor: Array
    whole: Array


def tumor_distance(anatomy: Anatomy, grid: Grid, box: Box) -> Array:
    """Signed distance in mm to the rough surface of the tumour, free of the warp so that its size is exact."""
    tumor = anatomy.tumor
    corner = np.array([s.start for s in box])
    index = [np.arange(s.start, s.stop) - c for s, c in zip(box, corner, strict=True)]
    into = tumor.axes.T @ grid.affine[:3, :3]
    start = tumor.axes.T @ (grid.affine[:3, :3] @ corner + grid.affine[:3, 3] - tumor.centre)
    i, j, k = np.ix_(*index)
    local = [(start[a] + into[a, 0] * i + into[a, 1] * j + into[a, 2] * k).astype(np.float32) for a in range(3)]
    unit = [p / np.float32(s) for p, s in zip(local, tumor.semi, strict=True)]
    level = np.sqrt(unit[0] ** 2 + unit[1] ** 2 + unit[2] ** 2) + np.float32(1e-4)
    bumps = np.zeros_like(level)
    # evaluated near the surface only: elsewhere its value cannot matter
    near = np.abs(level - 1) < 0.6
    towards = [(u[near] / level[near]) for u in unit]
    for wave, phase in zip(tumor.waves, tumor.phases, strict=True):
        w = wave.astype(np.float32)
        bumps[near] += np.sin(w[0] * towards[0] + w[1] * towards[1] + w[2] * towards[2] + np.float32(phase))
    steep = np.sqrt(sum((u / np.float32(s)) ** 2 for u, s in zip(unit, tumor.semi, strict=True))) / level
    surface = 1 + np.float32(ROUGHNESS / np.sqrt(len(tumor.waves))) * np.clip(bumps, -2.2, 2.2)
    return np.asarray((level - surface) / (steep + np.float32(1e-6)), dtype=np.float32)


def organ_points(anatomy: Anatomy) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (N, 3) in warped canonical mm and radii (N,) whose balls hold the organ, tumour included."""
    tumor = anatomy.tumor.centre + anatomy.warp(anatomy.tumor.centre)
    # the vagina is wide and flat
    sides = [anatomy.vagina[:, :3] + np.outer(anatomy.vagina[:, 3], [way, 0, 0]) for way in (-1.6, 1.6)]
    points = np.vstack([anatomy.uterus[:, :3], *sides, tumor])
    vagina = anatomy.vagina[:, 3] * 1.1 + 0.5
    bulk = [anatomy.tumor.semi.max() * (1 + ROUGHNESS) + 3]
    radii = np.concatenate([anatomy.uterus[:, 3] * 1.18 + 1.5, vagina, vagina, bulk])
    return points, radii


def organ_distances(anatomy: Anatomy, grid: Grid, reach: float = REACH) -> Organ | None:
    """Distances to uterus, vagina and tumour in the box around them; None when the grid misses them all.

    Up to 3 mm from a surface they are exact; farther out, up to `reach` mm, they come from a lattice of 2.5 mm.
    """
    points, radii = organ_points(anatomy)
    box = grid.box(points, float(radii.max()) + reach)
    if box is None:
        return None
    part = grid.part(box)
    near = _distances(anatomy, part, 3.0)
    if reach <= 3.0:
        return Organ(box, *near)
    far = [stretch(np.minimum(field, 2 * reach), part.shape) for field in _distances(anatomy, part.coarse(2.5), reach)]
    for index, group in ((0, (0, 1, 2)), (3, (3,)), (4, (4,)), (5, (5,))):
        known = near[index] < 2.5
        for field in group:
            far[field][known] = near[field][known]
    return Organ(box, *far)


def _distances(anatomy: Anatomy, part: Grid, reach: float) -> tuple[Array, Array, Array, Array, Array, Array]:
    """The fields of `Organ` over a whole grid."""
    shape = part.shape

    def spread(path: NDArray[np.float64], wide: float) -> tuple[Array, Array]:
        distance, along = np.full(shape, FAR), np.zeros(shape, dtype=np.float32)
        found = tube(part, path[:, :3], path[:, 3], reach, wide=wide)
        if found is not None:
            distance[found[0]], along[found[0]] = found[1], found[2]
        return distance, along

    uterus, along = spread(anatomy.uterus, 1.15)
    radius = np.interp(along, np.linspace(0, 1, len(anatomy.uterus)), anatomy.uterus[:, 3]).astype(np.float32)
    core = uterus + radius
    vagina, _ = spread(anatomy.vagina, 2.6)
    tumor = np.full(shape, FAR)
    middle = anatomy.tumor.centre + anatomy.warp(anatomy.tumor.centre)
    around = part.box(middle[None], float(anatomy.tumor.semi.max()) * (1 + ROUGHNESS) + reach)
    if around is not None:
        tumor[around] = tumor_distance(anatomy, part, around)
    for x, y, z, r in anatomy.fibroids:
        fibroid = ellipsoid(part, (x, y, z), (r, r, r))
        if fibroid is not None:
            uterus[fibroid[0]] = blend(uterus[fibroid[0]], fibroid[1] - 1, 3)
    # a rim of stroma surrounds most of a large tumour
    uterus = blend(uterus, tumor - np.float32(1.2), 5.0)
    whole = np.minimum(np.minimum(uterus, vagina), tumor)
    return uterus, along, core, vagina, tumor, whole


def organ_label(anatomy: Anatomy, grid: Grid) -> NDArray[np.uint8]:
    """Label map {0 background, 1 organ, 2 tumor}: a voxel belongs to what its centre lies in."""
    label = np.zeros(grid.shape, dtype=np.uint8)
    organ = organ_distances(anatomy, grid, reach=3.0)
    if organ is not None:
        label[organ.box] = np.where(organ.tumor < 0, 2, organ.whole < 0)
    return label


def paint_uterus(anatomy: Anatomy, grid: Grid, width: float, paint: Paint, organ: Organ, texture: Array) -> None:
    """Paint parametria, vagina, cervix, corpus, fibroids and tumour.

    Args:
        anatomy: of the case.
        grid: of the volume.
        width: mm over which an edge is blurred.
        paint: what draws a tissue into a box of the grid.
        organ: distances, from `organ_distances`.
        texture: noise (X, Y, Z) that roughens tissue.
    """
    box, along, core = organ.box, organ.along, organ.core
    x, _, _ = grid.at(box)
    grain = texture[box]
    cervical = np.clip((np.float32(0.40) - along) / np.float32(0.10), 0, 1)
    # parametria: vessels and loose tissue beside the cervix
    lateral = np.float32(3) + 11 * np.clip(np.abs(x) / (core + 1), 0, 1) ** 2
    beside = np.maximum(organ.uterus - lateral, (np.abs(along - np.float32(0.2)) - np.float32(0.19)) * 70)
    paint("parametrium", box, coverage(beside, 8.0) * np.float32(0.8))
    veins = coverage(np.maximum(beside, np.float32(1.1) - np.abs(grain)), 2.5)
    paint("venous plexus", box, veins * (np.abs(x) > 8) * np.float32(0.75))

    paint("vagina wall", box, coverage(organ.vagina, width))
    paint("mucosa", box, coverage(np.maximum(organ.vagina + 3.4, -organ.uterus), width) * np.float32(0.8))

    uterus = coverage(organ.uterus, width)
    paint("myometrium", box, uterus)
    paint("outer stroma", box, uterus * cervical)
    inner = coverage(np.maximum(core - np.float32(9.5), organ.uterus + 2.2), 1.5)
    paint("stroma", box, inner * cervical)
    offset = np.abs(x - np.interp(along, np.linspace(0, 1, len(anatomy.uterus)), anatomy.uterus[:, 0])).astype(
        np.float32
    )
    # the cavity is a triangle that widens towards the fundus
    wide = np.float32(1) + np.clip(along - np.float32(0.4), 0, 0.5) * 9
    across = np.maximum(core**2 - offset**2, 0) + (offset / wide) ** 2
    # it tapers towards the isthmus and ends short of the fundus
    across += (np.clip(along - np.float32(0.74), 0, 1) * 24) ** 2
    across += (np.clip(np.float32(0.62) - along, 0, 1) * 12) ** 2
    across = np.sqrt(across)
    thick = np.float32(anatomy.cavity)
    paint("junctional zone", box, coverage(across - thick - np.float32(4.2), 1.5) * (1 - cervical) * uterus)
    paint("endometrium", box, coverage(across - thick, width) * (1 - cervical))
    paint("endocervix", box, coverage(np.maximum(core - 3.6, organ.uterus + 1), 1.5) * cervical)
    paint("canal", box, coverage(np.maximum(core - 1.3, organ.uterus), width) * cervical)
    for fx, fy, fz, r in anatomy.fibroids:
        fibroid = ellipsoid(grid, (fx, fy, fz), (r, r, r))
        if fibroid is not None:
            paint("fibroid", fibroid[0], coverage(fibroid[1], width))
    paint("tumor", box, coverage(organ.tumor, width))
    necrosis = np.maximum(organ.tumor + np.float32(0.30 * anatomy.tumor.semi.max()), np.float32(1.35) - grain)
    paint("necrosis", box, coverage(necrosis, 1.5) * np.float32(0.7))
