"""Tandem and ovoids, and the streaks of their metal."""

from __future__ import annotations

import numpy as np

from scripts.data.phantom.applicator import insert, paint_applicator, streaks
from scripts.data.phantom.sampled_anatomy import sample_anatomy
from scripts.data.phantom.shapes import Array, Box, Grid


def test_the_tandem_follows_the_uterus_and_the_ovoids_lie_beside_its_mouth() -> None:
    for patient in range(6):
        anatomy = sample_anatomy(0, patient)
        found = insert(np.random.default_rng(patient), anatomy)
        mouth = anatomy.uterus[0, :3]
        inside = found.tandem[-3:]
        assert all(np.linalg.norm(anatomy.uterus[:, :3] - point, axis=1).min() < 1e-6 for point in inside)
        left, right = found.ovoids
        assert 26 <= right[0] - left[0] <= 34
        assert np.linalg.norm((left + right) / 2 - mouth) < 12
        assert found.tandem[0, 2] < mouth[2] - 40
        for stem, ovoid in zip(found.stems, found.ovoids, strict=True):
            np.testing.assert_allclose(stem[-1], ovoid, atol=1e-5)


def test_metal_is_where_the_tubes_are() -> None:
    anatomy = sample_anatomy(0, 1)
    affine = np.diag([1.5, 1.5, 1.5, 1])
    affine[:3, 3] = [-60, -60, -90]
    grid = Grid((80, 80, 110), affine, anatomy.warp)
    painted: dict[str, int] = {}

    def paint(tissue: str, box: Box, share: Array) -> None:
        painted[tissue] = painted.get(tissue, 0) + int((share > 0.5).sum())

    metal = paint_applicator(insert(np.random.default_rng(0), anatomy), grid, 1.5, paint)
    assert set(painted) == {"packing", "ovoid", "metal"}
    assert all(painted.values())
    assert 0 < (metal > 0.5).mean() < 0.01
    assert metal.shape == grid.shape
    assert metal.min() >= 0
    assert metal.max() <= 1


def test_streaks_only_where_there_is_metal() -> None:
    metal = np.zeros((64, 64, 4), dtype=np.float32)
    metal[30:33, 30:33, 1] = 1
    found = streaks(np.random.default_rng(0), metal, 1.0, 80.0)
    assert not found[:, :, [0, 2, 3]].any()
    star = found[:, :, 1]
    assert star.min() < -10 < 10 < star.max()
    assert np.abs(star[24:40, 24:40]).mean() > np.abs(star[:8, :8]).mean()


def test_dark_band_between_two_metals() -> None:
    metal = np.zeros((64, 64, 1), dtype=np.float32)
    metal[14:20, 30:34, 0] = metal[44:50, 30:34, 0] = 1
    mean = np.mean([streaks(np.random.default_rng(seed), metal, 1.0, 80.0)[..., 0] for seed in range(20)], axis=0)
    assert mean[28:36, 31:33].mean() < mean[28:36, 50:54].mean() - 50
