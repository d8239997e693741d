"""The pelvic organs of the phantom, painted: bowel, rectum, bladder, ovaries, vagina, uterus and tumour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.data.phantom.anatomy import Anatomy
from scripts.data.phantom.body import Paint
from scripts.data.phantom.organ import Organ, organ_distances
from scripts.data.phantom.shapes import Array, Box, Grid, blend, coverage, ellipsoid, tube


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


def _dome(anatomy: Anatomy, grid: Grid, box: Box, distance: Array) -> Array:
    """The bladder is no ellipsoid: flat where bowel lies on it, pointed towards the navel, narrow at its neck."""
    x, y, z = grid.at(box)
    (_, front, height), semi = anatomy.bladder
    up = (z - np.float32(height)) / np.float32(semi[2])
    ahead = (y - np.float32(front)) / np.float32(semi[1])
    shift = (
        np.float32(0.16) * up * ahead
        - np.float32(0.14) * up**2 * np.sign(up)
        + np.float32(0.10) * np.clip(ahead, 0, 2) ** 2
    )
    side = np.clip(np.abs(x) / np.float32(semi[0]) - np.float32(0.4), 0, 1) * np.float32(0.12)
    return np.asarray(distance - np.clip(shift - side, -0.35, 0.14) * np.float32(semi[2] * 0.9), dtype=np.float32)


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
        bladder = bladder[0], _pushed(_dome(anatomy, grid, *bladder), bladder[0], organ, 1.5)
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
    # open in front, for urethra and vagina
    hiatus = (y + 14 - np.abs(x)) * np.float32(0.7)
    sheet = np.maximum(np.abs(ring) - np.float32(2.4), np.maximum(np.abs(z + 40) - 22, hiatus))
    paint("muscle", box, coverage(_pushed(sheet, box, found.organ, 1.0), width))


def _paint_uterus(anatomy: Anatomy, grid: Grid, width: float, paint: Paint, organ: Organ, texture: Array) -> None:
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
