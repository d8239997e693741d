"""Implicit surfaces against closed forms."""

import numpy as np
import pytest

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
