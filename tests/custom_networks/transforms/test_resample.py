"""Interpolation along axes: which voxels it takes, and how much memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import custom_networks.transforms.resample as resample_module
from custom_networks.transforms.grid import Axis
from custom_networks.transforms.resample import axis_weights, resample_axes


def test_half_way_between_two_voxels_the_later_one_is_taken() -> None:
    for noise in (-1e-12, 0.0, 1e-12):
        assert axis_weights(Axis(8, 4, 2.0, 0.5 + noise), 0).tolist() == [1, 3, 5, 7]


def test_a_plane_takes_no_more_than_its_neighbours() -> None:
    """Bands of weights, not whole matrices: what the speed and the memory of large axes rest on."""
    used = (axis_weights(Axis(500, 700, 5 / 7, 0.0), 3) != 0).sum(1)
    assert int(used.max()) < 40


def test_memory_stays_below_a_quarter_of_a_volume_beside_input_and_output(monkeypatch: pytest.MonkeyPatch) -> None:
    size, new = (96, 96, 96), (192, 192, 192)
    image = torch.zeros(1, *size)
    axes = [Axis(a, b, a / b, -0.25) for a, b in zip(size, new, strict=True)]
    sizes: list[int] = []
    original = resample_module._product

    def watched(*args: Any) -> torch.Tensor:
        result = original(*args)
        sizes.append(result.numel())
        return result

    monkeypatch.setattr(resample_module, "_product", watched)
    assert resample_axes(image, axes, 3).shape == (1, *new)
    assert sizes
    assert max(sizes) < 0.25 * 192**3
