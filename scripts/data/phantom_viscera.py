"""The organs of the phantom: where uterus, cervix, vagina and tumour are, and how the pelvic organs are painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.data.phantom_anatomy import ROUGHNESS, Anatomy
from scripts.data.phantom_body import Paint
from scripts.data.phantom_shapes import FAR, Array, Box, Grid, blend, coverage, ellipsoid, tube

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
    points = np.vstack([anatomy.uterus[:, :3], anatomy.vagina[:, :3], tumor])
    radii = np.concatenate(
        [anatomy.uterus[:, 3] * 1.25 + 2, anatomy.vagina[:, 3] * 2.6, [anatomy.tumor.semi.max() * (1 + ROUGHNESS) + 4]]
    )
    return points, radii


def organ_distances(anatomy: Anatomy, grid: Grid, reach: float = REACH) -> Organ | None:
    """Distances to uterus, vagina and tumour, in the box around them; None when the grid misses them all."""
    points, radii = organ_points(anatomy)
    box = grid.box(points, float(radii.max()) + reach)
    if box is None:
        return None
    shape = tuple(s.stop - s.start for s in box)
    part = Grid.__new__(Grid)
    part.shape, part.warp, part.spacing = (shape[0], shape[1], shape[2]), grid.warp, grid.spacing
    part.affine = grid.affine.copy()
    part.affine[:3, 3] += grid.affine[:3, :3] @ np.array([s.start for s in box])
    part.inverse = np.asarray(np.linalg.inv(part.affine), dtype=np.float64)
    part.points = grid.at(box)

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
    return Organ(box, uterus, along, core, vagina, tumor, whole)


def organ_label(anatomy: Anatomy, grid: Grid) -> NDArray[np.uint8]:
    """Label map {0 background, 1 organ, 2 tumor}: a voxel belongs to what its centre lies in."""
    label = np.zeros(grid.shape, dtype=np.uint8)
    organ = organ_distances(anatomy, grid, reach=4.0)
    if organ is not None:
        label[organ.box] = np.where(organ.tumor < 0, 2, organ.whole < 0)
    return label


def _pushed(distance: Array, box: Box, organ: Organ | None, gap: float) -> Array:
    """A neighbour's distance after the organ has pushed it `gap` mm away."""
    if organ is None:
        return distance
    lower = [max(a.start, b.start) for a, b in zip(box, organ.box, strict=True)]
    upper = [min(a.stop, b.stop) for a, b in zip(box, organ.box, strict=True)]
    if any(u <= low for low, u in zip(lower, upper, strict=True)):
        return distance
    mine = tuple(slice(low - b.start, u - b.start) for low, u, b in zip(lower, upper, box, strict=True))
    its = tuple(slice(low - b.start, u - b.start) for low, u, b in zip(lower, upper, organ.box, strict=True))
    distance = distance.copy()
    distance[mine] = -blend(-distance[mine], organ.whole[its] - np.float32(gap), 3.0)
    return distance


@dataclass
class Viscera:
    """Distances of the hollow organs, pushed aside by the uterus: (box, distance in mm), None outside the grid."""

    organ: Organ | None
    bladder: tuple[Box, Array] | None
    rectum: tuple[Box, Array, Array] | None
    sigmoid: tuple[Box, Array, Array] | None


def viscera(anatomy: Anatomy, grid: Grid) -> Viscera:
    """Evaluate uterus, bladder, rectum and sigmoid on a grid."""
    organ = organ_distances(anatomy, grid)
    bladder = ellipsoid(grid, anatomy.bladder[0].tolist(), anatomy.bladder[1].tolist())
    if bladder is not None:
        bladder = bladder[0], _pushed(bladder[1], bladder[0], organ, 1.5)
    bowels = []
    for path in (anatomy.rectum, anatomy.sigmoid):
        found = tube(grid, path[:, :3], path[:, 3], reach=4)
        if found is not None:
            found = found[0], _pushed(found[1], found[0], organ, 1.0), found[2]
        bowels.append(found)
    return Viscera(organ, bladder, bowels[0], bowels[1])


def paint_viscera(anatomy: Anatomy, grid: Grid, width: float, paint: Paint, texture: Array) -> Viscera:
    """Paint bowel, rectum, bladder, ovaries, vagina, uterus and tumour, deepest last.

    Args:
        anatomy: the patient.
        grid: sample points.
        width: of edges, in mm.
        paint: where it goes.
        texture: smooth field of unit variance over the grid, that decides on gas, vessels and necrosis.

    Returns:
        The distances, for labels.
    """
    found = viscera(anatomy, grid)
    for i, path in enumerate(anatomy.bowel):
        loop = tube(grid, path[:, :3], path[:, 3], reach=3)
        if loop is not None:
            box, distance = loop[0], _pushed(loop[1], loop[0], found.organ, 2.0)
            paint("bowel wall", box, coverage(distance, width))
            paint("bowel fluid" if i % 3 else "chyme", box, coverage(distance + 2.2, width))
    for colon, gas_from in ((found.sigmoid, 0.5), (found.rectum, 0.9)):
        if colon is None:
            continue
        box, distance, along = colon
        paint("bowel wall", box, coverage(distance, width))
        # the anal canal is closed
        lumen = distance + np.float32(2.8) + (8 * (np.float32(0.22) - along).clip(0) * 8 if gas_from > 0.6 else 0)
        paint("stool", box, coverage(lumen, width))
        # gas rises to the front
        gas = lumen + (np.float32(gas_from) - texture[box]) * 6
        paint("gas", box, coverage(np.maximum(gas, lumen + 0.5), width))
    if found.bladder is not None:
        box, distance = found.bladder
        paint("fat", box, coverage(distance - 1.5, width))
        paint("bladder wall", box, coverage(distance, width))
        paint("urine", box, coverage(distance + np.float32(anatomy.bladder_wall), width))
    urethra = np.array([[0, 27, -24], [0, 27, -40], [0, 32, -66]])
    pipe = tube(grid, urethra, np.array([6.5, 6.0, 5.0]))
    if pipe is not None:
        paint("bladder wall", pipe[0], coverage(pipe[1], width))
        paint("mucosa", pipe[0], coverage(pipe[1] + 3, width))
    _paint_levator(grid, width, paint, found)
    for x, y, z in anatomy.ovaries:
        ovary = ellipsoid(grid, (x, y, z), (9, 13, 11), (20, 0, 0))
        if ovary is not None:
            box, distance = ovary[0], _pushed(ovary[1], ovary[0], found.organ, 2.0)
            paint("ovary", box, coverage(distance, width))
            paint("follicle", box, coverage(np.maximum(distance + 2, np.float32(0.7) - texture[box]), width))
    if found.organ is not None:
        _paint_uterus(anatomy, grid, width, paint, found.organ, texture)
    return found


def _paint_levator(grid: Grid, width: float, paint: Paint, found: Viscera) -> None:
    box = grid.box(np.array([[0.0, -14.0, -40.0]]), 62.0)
    if box is None:
        return
    x, y, z = grid.at(box)
    opening = np.float32(15) + np.clip(z + 62, 0, 60) * np.float32(0.62)
    ring = np.sqrt(x**2 + ((y + 16) * np.float32(0.62)) ** 2) - opening
    sheet = np.maximum(np.abs(ring) - np.float32(2.2), np.maximum(np.abs(z + 40) - 22, y - 34))
    paint("muscle", box, coverage(_pushed(sheet, box, found.organ, 1.0), width))


def _paint_uterus(anatomy: Anatomy, grid: Grid, width: float, paint: Paint, organ: Organ, texture: Array) -> None:
    box, along, core = organ.box, organ.along, organ.core
    x, _, _ = grid.at(box)
    grain = texture[box]
    cervical = np.clip((np.float32(0.40) - along) / np.float32(0.10), 0, 1)
    # parametria: vessels and loose tissue beside the cervix
    beside = np.maximum(organ.whole - 9, (np.abs(along - np.float32(0.22)) - np.float32(0.25)) * 60)
    paint("parametrium", box, coverage(beside, 8.0) * np.float32(0.8))
    paint("venous plexus", box, coverage(np.maximum(beside, np.float32(1.0) - np.abs(grain)), 1.5) * np.float32(0.9))

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
    across = np.sqrt(np.maximum(core**2 - offset**2, 0) + (offset / wide) ** 2)
    ending = (along - np.float32(0.97)) * 40
    thick = np.float32(anatomy.cavity)
    paint("junctional zone", box, coverage(np.maximum(across - thick - 4.2, ending - 4), 1.5) * (1 - cervical) * uterus)
    paint("endometrium", box, coverage(np.maximum(across - thick, ending), width) * (1 - cervical))
    paint("endocervix", box, coverage(np.maximum(core - 3.6, organ.uterus + 1), 1.5) * cervical)
    paint("canal", box, coverage(np.maximum(core - 1.3, organ.uterus), width) * cervical)
    for fx, fy, fz, r in anatomy.fibroids:
        fibroid = ellipsoid(grid, (fx, fy, fz), (r, r, r))
        if fibroid is not None:
            paint("fibroid", fibroid[0], coverage(fibroid[1], width))
    paint("tumor", box, coverage(organ.tumor, width))
    necrosis = np.maximum(organ.tumor + np.float32(0.30 * anatomy.tumor.semi.max()), np.float32(1.35) - grain)
    paint("necrosis", box, coverage(necrosis, 1.5) * np.float32(0.7))
