"""The pelvic viscera of the phantom, painted: bowel, rectum, bladder, ovaries, and what they make room for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.data.phantom.body import Paint
from scripts.data.phantom.cervix_uterus import Organ, organ_distances, paint_uterus
from scripts.data.phantom.sampled_anatomy import Anatomy
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
        paint_uterus(anatomy, grid, width, paint, found.organ, texture)
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
