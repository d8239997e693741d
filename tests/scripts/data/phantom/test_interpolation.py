"""Cubic interpolation: knots are met, lines stay straight, curves are smooth."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.data.phantom.interpolation import interpolation_matrix, smooth_path, stretch


@pytest.mark.parametrize(("size", "knots"), [(9, 3), (17, 5), (21, 2), (7, 7), (5, 1)])
def test_weights_add_up_and_meet_the_knots(size: int, knots: int) -> None:
    matrix = interpolation_matrix(size, knots)
    assert matrix.shape == (size, knots)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    if knots > 1:
        step = (size - 1) // (knots - 1)
        np.testing.assert_allclose(matrix[::step], np.eye(knots), atol=1e-6)


def test_a_parabola_is_followed_between_its_knots() -> None:
    """Catmull-Rom is exact for parabolas where a knot lies on either side."""
    x = np.linspace(0, 8, 33)
    found = interpolation_matrix(33, 9) @ (np.arange(9.0) ** 2)
    inside = (x >= 1) & (x <= 7)
    np.testing.assert_allclose(found[inside], x[inside] ** 2, atol=1e-4)


def test_stretch_is_separable_and_leaves_what_has_the_size() -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(stretch(values, (3, 4, 5)), values)
    out = stretch(values, (5, 7, 9))
    np.testing.assert_allclose(out[::2, ::2, ::2], values, atol=1e-5)
    along = np.stack([stretch(values[:, :, k : k + 1], (5, 7, 1))[..., 0] for k in range(5)], axis=-1)
    np.testing.assert_allclose(out[:, :, ::2], along, atol=1e-5)


def test_a_path_runs_through_its_points() -> None:
    points = np.array([[0.0, 0, 0, 1], [10, 0, 0, 2], [10, 10, 0, 3], [0, 10, 5, 1]])
    path = smooth_path(points, between=4)
    assert path.shape == (13, 4)
    np.testing.assert_allclose(path[::4], points, atol=1e-5)
    steps = np.linalg.norm(np.diff(path[:, :3], axis=0), axis=1)
    assert steps.max() < 2 * steps.min()


def test_stretch_keeps_straight_lines_and_ends() -> None:
    ramp = np.linspace(0, 1, 9, dtype=np.float32)[:, None, None] * np.ones((9, 4, 5), dtype=np.float32)
    wide = stretch(ramp, (33, 4, 11))
    np.testing.assert_allclose(wide[:, 0, 0], np.linspace(0, 1, 33), atol=1e-5)
    np.testing.assert_allclose(wide[[0, -1], 2, 3], [0, 1], atol=1e-6)
