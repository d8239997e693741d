"""The frame: skin and fat as distances, tissues on both sides, in anatomical order."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.data.phantom.body import paint_body, trunk_surface
from scripts.data.phantom.sampled_anatomy import sample_anatomy
from scripts.data.phantom.shapes import Array, Box, Grid, Warp

STILL = Warp(np.zeros((1, 3)), np.zeros(1), np.zeros((1, 3)))


@pytest.fixture(scope="module")
def grid() -> Grid:
    affine = np.diag([6.0, 6, 12, 1])
    affine[:3, 3] = [-216, -156, -108]
    return Grid((73, 53, 19), affine, STILL)


def test_the_trunk_has_its_width_and_its_fat(grid: Grid) -> None:
    anatomy = sample_anatomy(0, 0)
    skin, border = trunk_surface(anatomy, grid)
    x, y, z = (np.unique(np.round(axis, 3)) for axis in grid.points)
    level = int(np.argmin(np.abs(z)))
    across = skin[:, int(np.argmin(np.abs(y + 8))), level]
    assert np.abs(x[across < 0]).max() == pytest.approx(anatomy.trunk[0], rel=0.08)
    # fat lies between skin and border, thicker at the back than at the side or not, as drawn
    assert (border > skin).all()
    middle = int(np.argmin(np.abs(x)))
    back = int(np.argmin(y))
    assert border[middle, back, level] - skin[middle, back, level] == pytest.approx(anatomy.fat[2], abs=1)


def test_both_sides_are_painted_and_bone_lies_within_the_skin(grid: Grid) -> None:
    anatomy = sample_anatomy(0, 0)
    covered: dict[str, np.ndarray] = {}
    order: list[str] = []

    def paint(tissue: str, box: Box, share: Array) -> None:
        order.append(tissue)
        covered.setdefault(tissue, np.zeros(grid.shape, np.float32))[box] += share

    paint_body(anatomy, grid, 6.0, paint)
    skin, _ = trunk_surface(anatomy, grid)
    assert order.index("fat") < order.index("muscle")
    bones = [name for name in covered if "marrow" in name or "bone" in name or "cortex" in name]
    assert bones
    for name in (*bones, "muscle"):
        mass = covered[name]
        left, right = mass[:36].sum(), mass[37:].sum()
        assert left > 0
        assert right / left == pytest.approx(1, abs=0.15)
        assert mass[skin > 12].sum() < 0.02 * mass.sum()
