"""Implicit surfaces against closed forms."""

import numpy as np
import pytest

from scripts.data.phantom.anatomy import ROUGHNESS, TUMOR_MM, sample_anatomy
from scripts.data.phantom.interpolation import stretch
from scripts.data.phantom.organ import organ_distances, organ_label, organ_points
from scripts.data.phantom.shapes import Grid, Warp, blend, coverage, ellipsoid, tube

STILL = Warp(np.zeros((1, 3)), np.zeros(1), np.zeros((1, 3)))


def grid(size: int = 60, step: float = 1.0, warp: Warp = STILL) -> Grid:
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = -step * (size - 1) / 2
    return Grid((size, size, size), affine, warp)


def test_sphere_has_its_volume_and_distance() -> None:
    found = ellipsoid(grid(), (1, -2, 3), (12, 12, 12))
    assert found is not None
    assert (coverage(found[1], 1.0)).sum() == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.01)
    x, y, z = grid().at(found[0])
    centre = found[1][30 - found[0][0].start, 27 - found[0][1].start, 32 - found[0][2].start]
    assert centre < -10
    truth = np.sqrt((x - 1) ** 2 + (y + 2) ** 2 + (z - 3) ** 2) - 12
    np.testing.assert_allclose(found[1], truth, atol=5e-3)


def test_turned_ellipsoid_points_where_it_should() -> None:
    found = ellipsoid(grid(), (0, 0, 0), (4, 20, 4), (-30, 0, 0))
    assert found is not None
    inside = np.argwhere(found[1] < 0)
    points = inside - inside.mean(0)
    axis = np.linalg.svd(points, full_matrices=False)[2][0]
    assert abs(axis @ [np.sin(np.radians(30)), np.cos(np.radians(30)), 0]) > 0.999


def test_tube_is_a_capsule_and_knows_where_it_is() -> None:
    found = tube(grid(), np.array([[0.0, 0, -10], [0, 0, 0], [0, 0, 10]]), np.array([5.0, 5, 5]), reach=2)
    assert found is not None
    volume = np.pi * 25 * 20 + 4 / 3 * np.pi * 125
    assert coverage(found[1], 1.0).sum() == pytest.approx(volume, rel=0.02)
    z = grid().at(found[0])[2]
    middle = (found[1] < 0) & (np.abs(z) < 9)
    np.testing.assert_allclose(found[2][middle], (z[middle] + 10) / 20, atol=1e-3)


def test_shapes_outside_the_grid_are_none() -> None:
    assert ellipsoid(grid(), (200, 0, 0), (10, 10, 10)) is None
    assert tube(grid(), np.array([[200.0, 0, 0], [220, 0, 0]]), np.array([5.0, 5])) is None


def test_stretch_keeps_straight_lines_and_ends() -> None:
    ramp = np.linspace(0, 1, 9, dtype=np.float32)[:, None, None] * np.ones((9, 4, 5), dtype=np.float32)
    wide = stretch(ramp, (33, 4, 11))
    np.testing.assert_allclose(wide[:, 0, 0], np.linspace(0, 1, 33), atol=1e-5)
    np.testing.assert_allclose(wide[[0, -1], 2, 3], [0, 1], atol=1e-6)


def test_warp_can_be_undone() -> None:
    warp = Warp.sample(np.random.default_rng(0), 3.0)
    place = warp.undo((20, -30, 40))
    np.testing.assert_allclose(place + warp(place), (20, -30, 40), atol=1e-6)


def test_a_part_of_a_grid_has_the_same_points() -> None:
    whole = grid(40, 1.5, Warp.sample(np.random.default_rng(1), 2.0))
    box = (slice(5, 17), slice(8, 20), slice(10, 30))
    alone = whole.part(box)
    computed = np.stack(alone.points)
    np.testing.assert_allclose(computed, np.stack(whole.at(box)), atol=0.05)


def test_noise_has_unit_variance_and_its_scale() -> None:
    fine, coarse = (grid(64).noise(np.random.default_rng(3), scale) for scale in (2.0, 12.0))
    for field in (fine, coarse):
        assert field.std() == pytest.approx(1.0, abs=0.25)
    assert np.abs(np.diff(fine, axis=0)).mean() > 3 * np.abs(np.diff(coarse, axis=0)).mean()


def test_blend_is_a_union_with_a_fillet() -> None:
    a, b = np.float32([-3, 5, 2, 1]), np.float32([4, -2, 30, 1])
    found = blend(a, b, 2.0)
    assert (found <= np.minimum(a, b) + 1e-6).all()
    np.testing.assert_allclose(found[:3], [-3, -2, 2], atol=1e-6)
    assert found[3] < 1


@pytest.mark.parametrize("patient", range(12))
def test_organ_points_hold_the_organ_and_fields_agree(patient: int) -> None:
    anatomy = sample_anatomy(8, patient, patient % 3)
    view = grid(90, 2.2, anatomy.warp)
    organ = organ_distances(anatomy, view)
    assert organ is not None
    label = organ_label(anatomy, view)[organ.box]
    assert ((organ.whole < 0) == (label > 0)).mean() > 0.9999
    points, radii = organ_points(anatomy)
    inside = np.stack([p[organ.whole < 0] for p in view.at(organ.box)], -1)
    directions = np.random.default_rng(0).normal(size=(20, 3))
    directions = np.vstack([np.eye(3), -np.eye(3), directions / np.linalg.norm(directions, axis=1, keepdims=True)])
    held = (points @ directions.T + radii[:, None] * 1.12).max(0)
    assert ((inside @ directions.T).max(0) <= held).all()
    longest = 2 * anatomy.tumor.semi.max() * (1 + ROUGHNESS) * anatomy.scale
    assert TUMOR_MM[0] <= longest <= TUMOR_MM[1] + 1e-6


def test_the_same_woman_comes_back_changed() -> None:
    first, second = sample_anatomy(1, 5, 0), sample_anatomy(1, 5, 1)
    assert first.trunk == second.trunk
    assert first.scale == second.scale
    assert not np.array_equal(first.bladder[1], second.bladder[1])
    assert second.tumor.semi.max() < first.tumor.semi.max()
    assert sample_anatomy(1, 6).trunk != first.trunk
