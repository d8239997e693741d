"""The grid of another spacing, decided in millimetres, and scalings along the axes."""

import numpy as np
import torch

from custom_networks.transforms.grid import Axis, parallel_axes, resampling_grid


def turned(degrees: float = 20.0) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([0.5, 0.5, 3.0])
    matrix[:3, 3] = (-40.0, 12.0, 7.0)
    return matrix


def test_size_and_spacing_of_the_new_grid() -> None:
    size, affine = resampling_grid(turned(), (100, 80, 20), (1.0, 1.0, -1.0))
    assert size == [51, 41, 20]
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [1.0, 1.0, 3.0])
    np.testing.assert_allclose(affine[:3, 3], turned()[:3, 3])


def test_rounding_of_an_affine_does_not_move_the_grid() -> None:
    exact = resampling_grid(turned(), (100, 80, 20), (1.0, 1.0, 3.0))
    rounded = resampling_grid(turned().astype(np.float32).astype(np.float64), (100, 80, 20), (1.0, 1.0, 3.0))
    assert rounded[0] == exact[0]
    np.testing.assert_allclose(rounded[1], exact[1], atol=1e-4)


def test_a_spacing_that_is_nearly_there_is_kept() -> None:
    affine = np.diag([0.5, 0.5, 3.0, 1.0])
    size, kept = resampling_grid(affine, (100, 80, 20), (0.50001, 0.5, 3.0))
    assert size == [100, 80, 20]
    np.testing.assert_array_equal(kept, affine)


def test_a_scaling_along_the_axes_is_found() -> None:
    source, target = (torch.from_numpy(a) for a in (turned(), turned() @ np.diag([2.0, 2.0, 1.0, 1.0])))
    axes = parallel_axes(source, target, (100, 80, 20), (51, 41, 20))
    assert axes is not None
    assert [axis[:2] for axis in axes] == [(100, 51), (80, 41), (20, 20)]
    np.testing.assert_allclose([axis[2:] for axis in axes], [(2, 0), (2, 0), (1, 0)], atol=1e-9)
    assert [axis.unchanged for axis in axes] == [False, False, True]
    assert Axis(4, 4, 1.0, 0.0).unchanged


def test_a_turn_or_a_flip_is_no_scaling() -> None:
    source = torch.from_numpy(turned())
    assert parallel_axes(source, torch.from_numpy(turned(25.0)), (10, 10, 10), (10, 10, 10)) is None
    flipped = torch.from_numpy(turned() @ np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert parallel_axes(source, flipped, (10, 10, 10), (10, 10, 10)) is None
    assert parallel_axes(source, source, (10, 10, 10), (10, 10)) is None
