"""The frame of the phantom: skin, fat, muscles, bones and great vessels, painted in anatomical order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from scripts.data.phantom.interpolation import smooth_path, stretch
from scripts.data.phantom.sampled_anatomy import Anatomy
from scripts.data.phantom.shapes import Array, Box, Field, Grid, coverage, ellipsoid, tube


class Paint(Protocol):
    """Puts a tissue onto part of an image."""

    def __call__(self, tissue: str, box: Box, share: Array) -> None:
        """Cover the samples of `box` with `tissue` where `share` (0 to 1) says so."""


# centre, half axes (mm) and turn (degrees about z, x, y) on the right side; the left is its mirror image
MUSCLES: dict[str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]] = {
    "gluteus maximus": ((72, -74, -8), (68, 27, 78), (24, 6, 0)),
    "gluteus maximus, lower": ((60, -66, -50), (36, 20, 34), (22, 0, 0)),
    "gluteus medius": ((124, 2, 62), (19, 50, 52), (-30, 0, 8)),
    "gluteus minimus": ((113, 14, 34), (12, 34, 36), (-24, 0, 6)),
    "tensor fasciae latae": ((136, 48, -4), (11, 16, 52), (20, 0, 0)),
    "sartorius": ((110, 72, 2), (13, 8, 46), (0, 0, 12)),
    "rectus femoris": ((112, 58, -30), (15, 12, 56), (0, 0, 0)),
    "obturator internus": ((57, 6, -16), (9.5, 44, 33), (17, 0, 4)),
    "obturator internus, tail": ((72, -36, -18), (10, 8, 14), (-40, 0, 0)),
    "obturator externus": ((50, 26, -52), (30, 9, 14), (-38, 0, 0)),
    "pectineus": ((60, 52, -30), (26, 10, 26), (-24, 0, 20)),
    "adductors": ((46, 36, -92), (30, 34, 38), (-20, 0, 0)),
    "adductor magnus": ((52, -8, -98), (30, 26, 30), (0, 0, 0)),
    "quadratus femoris": ((94, -32, -40), (28, 8, 20), (14, 0, 0)),
    "gemelli": ((88, -34, -14), (28, 6, 10), (18, 0, 0)),
    "vastus": ((134, 14, -100), (26, 36, 58), (0, 0, 0)),
    "hamstrings": ((64, -44, -104), (17, 14, 34), (0, 0, 0)),
    "erector spinae": ((26, -88, 108), (21, 15, 52), (0, -12, 0)),
}
# x, y, z, radius along the right one
CORDS: dict[str, list[tuple[float, ...]]] = {
    "iliopsoas": [
        (40, -4, 150, 21),
        (48, 8, 110, 21),
        (60, 24, 70, 20),
        (76, 42, 34, 18),
        (88, 46, 2, 16),
        (97, 30, -34, 13),
        (101, 4, -62, 8),
    ],
    "piriformis": [(22, -76, 46, 11), (54, -66, 32, 11), (84, -48, 20, 9), (112, -24, 10, 5)],
    "iliacus": [(88, 0, 92, 12), (86, 18, 62, 12), (86, 34, 34, 10)],
}
# name: centre, half axes, turn, thickness of the cortex
BONES: dict[str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float]] = {
    "iliac wing": ((97, -8, 82), (8.5, 60, 58), (-30, -6, 9), 1.8),
    "iliac body": ((80, -22, 36), (13, 30, 26), (-18, 0, 0), 1.8),
    "acetabulum": ((84, 2, 6), (22, 35, 34), (0, 0, 0), 1.8),
    "pubic body": ((15, 62, -36), (14, 12, 20), (-20, 0, 10), 1.6),
    "ischial spine": ((70, -34, -4), (9, 14, 20), (20, 0, 0), 1.6),
    "tuberosity": ((62, -38, -56), (15, 16, 22), (0, 10, 0), 2.0),
    "trochanter": ((133, -14, -24), (15, 19, 26), (0, 0, 0), 1.6),
}
RODS: dict[str, list[tuple[float, ...]]] = {
    "superior ramus": [(20, 62, -28, 8), (44, 52, -14, 7), (68, 30, 2, 12)],
    "inferior ramus": [(12, 58, -48, 7), (28, 36, -64, 6.5), (48, -10, -68, 7), (58, -30, -64, 10)],
    "ischium": [(76, -22, -8, 15), (70, -34, -34, 13), (64, -38, -52, 13)],
    "femoral neck": [(90, 5, 0, 15), (112, -4, -14, 14), (130, -10, -28, 16)],
    "femoral shaft": [(130, -8, -34, 17), (126, 0, -75, 15), (120, 4, -140, 14)],
}
SACRUM = [
    (0, -45, 95, 15.5),
    (0, -58, 80, 15.5),
    (0, -78, 57, 13),
    (0, -92, 30, 10),
    (0, -98, 5, 7.5),
    (0, -95, -18, 5),
]
DISCS: list[tuple[tuple[float, ...], tuple[float, ...], float]] = [
    ((0, -35, 108), (25, 16, 5.5), -28),
    ((0, -61, 78), (20, 12, 1.8), -42),
    ((0, -80, 53), (17, 10, 1.3), -38),
    ((0, -93, 27), (14, 8, 1.2), -16),
]
SPINE: list[tuple[tuple[float, ...], tuple[float, ...], float]] = [
    ((0, -25, 124), (26, 18, 13), -18),
    ((0, -5, 158), (26, 18, 14), -10),
    ((0, -96, -28), (9, 4.5, 10), 15),
]


def trunk_surface(anatomy: Anatomy, grid: Grid) -> tuple[Array, Array]:
    """Signed distances in mm to the skin of the trunk and to the inner border of its subcutaneous fat."""
    x, y, z = grid.points
    wide = np.float32(anatomy.trunk[0]) * (1 - 0.10 * np.tanh(((z - 10) / 95) ** 2)).astype(np.float32)
    deep = np.float32(anatomy.trunk[1]) * (1 - 0.07 * np.tanh(((z + 5) / 90) ** 2)).astype(np.float32)
    p = np.float32(2.35)
    u, v = np.abs(x) / wide + np.float32(1e-3), np.abs(y + 8) / deep + np.float32(1e-3)
    level = (u**p + v**p) ** (1 / p)
    slope = level ** (1 - p) * np.sqrt((u ** (p - 1) / wide) ** 2 + (v ** (p - 1) / deep) ** 2)
    skin = (level - 1) / slope
    front, side, back = (np.float32(f) for f in anatomy.fat)
    ahead = np.clip(y / 90, -1, 1)
    layer = side + np.maximum(ahead, 0) ** 2 * (front - side) + np.maximum(-ahead, 0) ** 2 * (back - side)
    return skin.astype(np.float32), (skin + layer).astype(np.float32)


def _cleft(grid: Grid) -> tuple[Box, Array] | None:
    """Distance to the gluteal cleft and the gap between the thighs, negative inside the patient."""
    box = grid.box(np.array([[0.0, 130.0, -90.0], [0.0, -120.0, 40.0], [0.0, 0.0, -200.0]]), 32.0)
    if box is None:
        return None
    x, y, z = grid.at(box)
    start = -y - (np.float32(66) + np.clip(z + 60, -20, 120) * np.float32(0.62))
    below = np.float32(-86) - z - np.clip(y - 20, 0, 60) * np.float32(0.3)
    gluteal = np.abs(x) - np.where(start > 0, start * np.float32(0.06), start)
    between = np.abs(x) - np.where(below > 0, below * np.float32(0.16), below)
    return box, -np.minimum(gluteal, between)


def _abdominal_wall(grid: Grid, border: Array) -> Array:
    """Rectus in front, and higher up the oblique muscles at the sides: a shell under the subcutaneous fat."""
    x, y, z = grid.points
    thick = np.float32(9) + np.clip((np.abs(x) - 55) / 10, 0, 1) * np.clip((z - 45) / 20, 0, 1) * 8
    shell = np.abs(border + thick / 2) - thick / 2
    low = np.float32(-45) - z + np.abs(x) * np.float32(0.5)
    behind = np.float32(20) - y - np.clip(z - 60, 0, 60)
    lateral = np.abs(x) - 62 - np.clip(z - 35, 0, 30) * 5
    shell = np.maximum(np.maximum(shell, low), np.maximum(behind, lateral))
    return np.maximum(shell, (np.float32(2.5) - np.abs(x)).astype(np.float32))


def _mirrored(
    grid: Grid, centre: tuple[float, ...], semi: tuple[float, ...], turn: tuple[float, ...]
) -> list[Field | None]:
    left = ((-centre[0], *centre[1:]), semi, (-turn[0], turn[1], -turn[2]))
    return [ellipsoid(grid, centre, semi, turn), ellipsoid(grid, *left)]


def _cords(grid: Grid, points: Sequence[Sequence[float]]) -> list[Field | None]:
    out: list[Field | None] = []
    for side in (1.0, -1.0):
        path = smooth_path(points, 3) * np.array([side, 1, 1, 1])
        found = tube(grid, path[:, :3], path[:, 3], reach=3)
        out.append(None if found is None else found[:2])
    return out


def paint_body(anatomy: Anatomy, grid: Grid, width: float, paint: Paint) -> Array:
    """Paint the frame.

    Args:
        anatomy: the patient.
        grid: sample points.
        width: of edges, in mm.
        paint: where it goes.

    Returns:
        Signed distance to the skin.
    """
    everything: Box = (slice(None), slice(None), slice(None))
    lattice = grid.coarse(4.0)
    skin_on_lattice, border_on_lattice = trunk_surface(anatomy, lattice)
    skin, border = stretch(skin_on_lattice, grid.shape), stretch(border_on_lattice, grid.shape)
    cleft = _cleft(grid)
    if cleft is not None:
        skin[cleft[0]] = np.maximum(skin[cleft[0]], cleft[1])
    paint("skin", everything, coverage(skin, width))
    paint("fat", everything, coverage(skin + 2, width))
    within = coverage(border, width)
    paint("muscle", everything, coverage(stretch(_abdominal_wall(lattice, border_on_lattice), grid.shape), width))

    def stroke(tissue: str, found: Field | None, grow: float = 0.0, clipped: bool = False) -> None:
        if found is not None:
            share = coverage(found[1] - np.float32(grow), width)
            paint(tissue, found[0], share * within[found[0]] if clipped else share)

    for centre, semi, turn in MUSCLES.values():
        for found in _mirrored(grid, centre, semi, turn):
            stroke("fat", found, 1.3, clipped=True)
            stroke("muscle", found, clipped=True)
    for points in CORDS.values():
        for found in _cords(grid, points):
            stroke("fat", found, 1.3)
            stroke("muscle", found)

    _paint_bones(grid, stroke)
    for i, path in enumerate(anatomy.vessels):
        vessel = tube(grid, path[:, :3], path[:, 3], reach=3)
        if vessel is not None:
            paint("fat", vessel[0], coverage(vessel[1] - 0.8, width))
            paint("vessel wall", vessel[0], coverage(vessel[1], width))
            paint("artery" if i % 2 == 0 else "vein", vessel[0], coverage(vessel[1] + 1, width))
    return skin


def _paint_bones(grid: Grid, stroke: Any) -> None:
    bones = [(found, cortex) for c, s, t, cortex in BONES.values() for found in _mirrored(grid, c, s, t)]
    bones += [(found, 1.8) for points in RODS.values() for found in _cords(grid, points)]
    for centre, semi, tilt in SPINE:
        bones.append((ellipsoid(grid, centre, semi, (0, tilt, 0)), 1.3))
    fused = smooth_path(SACRUM, 3)
    sacrum = tube(grid, fused[:, :3], fused[:, 3], reach=2, wide=2.7)
    bones.append((None if sacrum is None else sacrum[:2], 1.3))
    for shape, _ in bones:
        stroke("cortex", shape)
    for shape, cortex in bones:
        stroke("marrow", shape, -cortex)
    for middle, half, tilt in DISCS:
        stroke("disc", ellipsoid(grid, middle, half, (0, tilt, 0)))
    canal = smooth_path([(0, -52, 130), (0, -72, 100), (0, -88, 72), (0, -99, 48)], 3)
    sac = tube(grid, canal, np.linspace(7, 4, len(canal)))
    stroke("csf", None if sac is None else sac[:2])
    stroke("cartilage", ellipsoid(grid, (0, 61, -36), (3.2, 11, 20), (0, 10, 0)))
    for side in (1, -1):
        socket = ellipsoid(grid, (side * 90, 5, 0), (26.5, 26.5, 26.5))
        stroke("cortex", socket)
        stroke("cartilage", socket, -1.2)
        stroke("cortex", socket, -2.6)
        stroke("marrow", socket, -3.6)
