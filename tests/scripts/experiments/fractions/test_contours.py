"""Volumes and agreement of spheres against closed forms, on grids that lie anywhere."""

from typing import Any

import numpy as np
import pytest

from scripts.experiments.fractions.contours import Jump, compare, placed
from tests.scripts.experiments.fractions.conftest import RADIUS, WANTED, contoured, grid, sphere

NEVER = Jump(0.0, 1e9)


def dsc_of_spheres(distance: float, radius: float = RADIUS) -> float:
    """DSC of two equal spheres: the lens between them by the volume of one."""
    part = distance / (2 * radius)
    return 1 - 1.5 * part + 0.5 * part**3


def turned() -> np.ndarray:
    """A grid of 1.5 mm, left to right and top to bottom, turned by 30 degrees about z."""
    angle = np.pi / 6
    affine = np.eye(4)
    affine[:3, :3] = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    ) @ np.diag([-1.5, 1.5, -1.5])
    affine[:3, 3] = -affine[:3, :3] @ np.full(3, 24.0)
    return affine


@pytest.mark.parametrize("shift", [0.0, 6.0, 15.0, 24.0])
@pytest.mark.parametrize("other", [grid(1.0, (-30.0, -25.0, -24.0)), turned()])
def test_shifted_spheres(other: np.ndarray, shift: float) -> None:
    first, second = (-shift / 2, 0.0, 0.0), (shift / 2, 0.0, 0.0)
    before = contoured(
        1, grid(1.0, (-30.0, -25.0, -24.0)), sphere(grid(1.0, (-30.0, -25.0, -24.0)), first, shape=(62, 50, 48))
    )
    now = contoured(2, other, sphere(other, second, shape=(62, 50, 48)))
    (found,) = compare(now, before, placed(before, now), WANTED, NEVER)
    assert found.volume == pytest.approx(4 / 3 * np.pi * (RADIUS / 10) ** 3, rel=0.01)
    assert found.change == pytest.approx(0, abs=1)
    # voxels of 1.5 mm from voxels of 1 mm: each is off by up to half a voxel
    assert found.dsc == pytest.approx(dsc_of_spheres(shift), abs=0.03)
    assert found.jump == ""


def test_the_same_contour_in_another_orientation_agrees_wholly() -> None:
    labels = sphere(grid(), (3.0, -2.0, 1.0))
    flipped = grid() @ np.array([[-1, 0, 0, labels.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    before, now = contoured(1, grid(), labels), contoured(2, flipped, labels[::-1])
    assert np.array_equal(placed(before, now), labels[::-1])
    assert compare(now, before, placed(before, now), WANTED, NEVER)[0].dsc == 1


def test_what_lies_outside_this_image_agrees_with_nothing() -> None:
    labels = sphere(grid(), (0.0, 0.0, 0.0))
    half = grid()
    half[0, 3] += 2.0 * 16
    before, now = contoured(1, grid(), labels), contoured(2, half, labels[16:])
    (found,) = compare(now, before, placed(before, now), WANTED, NEVER)
    inside, whole = labels[16:].sum(), labels.sum()
    assert found.dsc == pytest.approx(2 * inside / (inside + whole))
    assert found.dsc is not None
    assert found.dsc < 0.75


def test_what_lies_outside_a_finer_image_counts_by_its_own_volume() -> None:
    labels = sphere(grid(), (0.0, 0.0, 0.0))
    finer = grid() @ np.diag([0.5, 0.5, 0.5, 1.0])
    # each voxel of 2 mm is eight of 1 mm
    finer[:3, 3] += [2.0 * 16 - 0.5, -0.5, -0.5]
    inside = labels[16:].repeat(2, 0).repeat(2, 1).repeat(2, 2)
    before, now = contoured(1, grid(), labels), contoured(2, finer, inside)
    (found,) = compare(now, before, placed(before, now), WANTED, NEVER)
    assert found.dsc == pytest.approx(2 * labels[16:].sum() / (labels[16:].sum() + labels.sum()))


def test_the_first_fraction_has_nothing_to_be_compared_with() -> None:
    labels = sphere(grid(), (0.0, 0.0, 0.0))
    now = contoured(1, grid(), labels)
    (found,) = compare(now, None, np.zeros_like(labels), WANTED, Jump())
    assert (found.change, found.dsc, found.jump) == (None, None, "")


@pytest.mark.parametrize(
    ("radius", "shift", "said"),
    [
        (15.0, 0.0, ""),
        (15.0, 9.0, ""),
        (15.0, 12.0, "DSC 0.43 is below 0.5"),
        (18.0, 0.0, "the volume changed by +71 %, more than 50 %"),
        (11.0, 0.0, "the volume changed by -59 %, more than 50 %"),
        (0.0, 0.0, "it was 14.3 ml and is 0 ml"),
    ],
)
def test_a_jump_is_one_sentence(radius: float, shift: float, said: str) -> None:
    before = contoured(1, grid(), sphere(grid(), (0.0, 0.0, 0.0)))
    now = contoured(3, grid(), sphere(grid(), (shift, 0.0, 0.0), radius) if radius else np.zeros_like(before.labels))
    (found,) = compare(now, before, placed(before, now), WANTED, Jump())
    assert found.jump == (f"HR-CTV, fraction 3 against fraction 1: {said}; look at both contours." if said else "")


@pytest.mark.parametrize("limits", [(0.3, 50.0), (0.5, 1000.0)])
def test_thresholds_are_the_users(limits: Any) -> None:
    before = contoured(1, grid(), sphere(grid(), (0.0, 0.0, 0.0)))
    far = contoured(2, grid(), sphere(grid(), (12.0, 0.0, 0.0)))
    big = contoured(2, grid(), sphere(grid(), (0.0, 0.0, 0.0), 18.0))
    jumps = [bool(compare(now, before, placed(before, now), WANTED, Jump(*limits))[0].jump) for now in (far, big)]
    assert jumps == [limits[0] == 0.5, limits[1] == 50]


def test_what_is_just_at_a_threshold_is_no_jump() -> None:
    labels, half = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    labels[:2], half[1:3], more = 1, 1, np.zeros_like(labels)
    more[:3] = 1
    before = contoured(1, grid(), labels)
    (moved,) = compare(contoured(2, grid(), half), before, labels, WANTED, Jump(0.5, 50.0))
    (grown,) = compare(contoured(2, grid(), more), before, labels, WANTED, Jump(0.5, 50.0))
    assert (moved.dsc, moved.jump) == (0.5, "")
    assert (grown.change, grown.jump) == (50.0, "")


def test_a_structure_that_comes_is_a_jump_and_one_that_stays_away_is_none() -> None:
    labels = sphere(grid(), (0.0, 0.0, 0.0))
    empty, full = contoured(1, grid(), 0 * labels), contoured(2, grid(), labels)
    (came,) = compare(full, empty, placed(empty, full), WANTED, Jump())
    assert (came.change, came.dsc) == (None, 0)
    assert "it was 0 ml and is 14.3 ml" in came.jump
    (away,) = compare(empty, empty, placed(empty, empty), WANTED, Jump())
    assert (away.change, away.dsc, away.jump) == (None, None, "")
