"""Hollow organs: where they lie to each other, and that nothing lies in the uterus."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from scripts.data.phantom.sampled_anatomy import Anatomy, sample_anatomy
from scripts.data.phantom.shapes import Array, Box, Grid
from scripts.data.phantom.viscera import Viscera, paint_viscera, viscera


@pytest.fixture(scope="module")
def drawn() -> tuple[Anatomy, Grid, Viscera, dict[str, list[tuple[Box, Array]]]]:
    # a full bladder and a sigmoid that would both lie in the uterus if it did not push them aside
    anatomy = sample_anatomy(0, 2, fill=1.0)
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = [-90, -100, -90]
    grid = Grid((46, 52, 62), affine, anatomy.warp)
    painted: dict[str, list[tuple[Box, Array]]] = defaultdict(list)
    texture = np.zeros(grid.shape, np.float32)
    found = paint_viscera(anatomy, grid, 4.0, lambda t, box, share: painted[t].append((box, share)), texture)
    return anatomy, grid, found, painted


def inside(grid: Grid, box: Box, distance: Array) -> np.ndarray:
    full = np.zeros(grid.shape, bool)
    full[box] = distance < 0
    return full


def test_organs_do_not_overlap_the_uterus(drawn: tuple[Anatomy, Grid, Viscera, object]) -> None:
    _, grid, found, _ = drawn
    assert found.organ is not None
    assert found.bladder is not None
    assert found.rectum is not None
    assert found.sigmoid is not None
    organ = inside(grid, found.organ.box, found.organ.whole)
    assert organ.sum() > 100
    for box, distance in (found.bladder, found.rectum[:2], found.sigmoid[:2]):
        other = inside(grid, box, distance)
        assert other.sum() > 50
        assert not (organ & other).any()


def test_the_bladder_lies_before_the_uterus_and_the_rectum_behind(
    drawn: tuple[Anatomy, Grid, Viscera, object],
) -> None:
    _, grid, found, _ = drawn
    _, y, _ = grid.points
    middle = {}
    for name, (box, distance) in {
        "bladder": found.bladder,
        "uterus": (found.organ.box, found.organ.uterus),  # type: ignore[union-attr]
        "rectum": found.rectum[:2],  # type: ignore[index]
    }.items():
        middle[name] = float(y[inside(grid, box, distance)].mean())
    assert middle["bladder"] > middle["uterus"] > middle["rectum"]


def test_the_lumen_lies_within_the_wall_and_every_organ_is_painted(
    drawn: tuple[Anatomy, Grid, Viscera, dict[str, list[tuple[Box, Array]]]],
) -> None:
    *_, painted = drawn
    assert {
        "bladder wall",
        "urine",
        "bowel wall",
        "stool",
        "myometrium",
        "endometrium",
        "stroma",
        "tumor",
        "ovary",
    } <= set(painted)
    for wall, content in (("bladder wall", "urine"), ("myometrium", "outer stroma")):
        box, share = painted[wall][0]
        inner_box, inner = painted[content][0]
        assert inner_box == box
        assert (inner <= share + 1e-6).all()
        assert inner.sum() < share.sum()
    for shares in painted.values():
        assert all(float(share.min()) >= 0 and float(share.max()) <= 1 for _, share in shares)


def test_a_grid_elsewhere_holds_nothing() -> None:
    anatomy = sample_anatomy(0, 1)
    affine = np.eye(4)
    affine[:3, 3] = 2000
    found = viscera(anatomy, Grid((8, 8, 8), affine, anatomy.warp))
    assert (found.organ, found.bladder, found.rectum, found.sigmoid) == (None, None, None, None)
