"""Outlines give the mask back, are few points long, and every region is one polygon."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from scripts.core.dicom.outlines import outlines
from scripts.core.dicom.rasterise import fill_even_odd


def blobs(seed: int, shape: tuple[int, int] = (60, 44)) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2.5)
    return noise > 0.03


def ring() -> np.ndarray:
    x, y = np.indices((40, 40)) - 20
    radius = np.hypot(x, y)
    return (radius < 15) & (radius > 8)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 3.0)])
def test_filling_gives_every_voxel_back(seed: int, spacing: tuple[float, float]) -> None:
    mask = blobs(seed)
    polygons = outlines(mask, spacing)
    np.testing.assert_array_equal(fill_even_odd(polygons, mask.shape), mask)
    # the keyhole leaves one polygon a region; regions that touch at a corner are two
    assert len(polygons) == label(mask)[1]


def test_a_hole_is_a_keyhole_and_stays_a_hole() -> None:
    mask = ring()
    (polygon,) = outlines(mask, (1.0, 1.0))
    np.testing.assert_array_equal(fill_even_odd([polygon], mask.shape), mask)
    # the channel is walked twice: its two ends are there twice
    _, counts = np.unique(polygon, axis=0, return_counts=True)
    assert sorted(counts)[-2:] == [2, 2]
    assert counts.max() == 2


def test_several_holes_and_an_island_within_one() -> None:
    mask = np.zeros((50, 50), bool)
    mask[2:48, 2:48] = True
    mask[5:20, 5:20] = mask[25:45, 5:20] = mask[10:40, 25:45] = False
    mask[30:35, 10:15] = True
    polygons = outlines(mask, (1.0, 1.0))
    assert len(polygons) == 2
    np.testing.assert_array_equal(fill_even_odd(polygons, mask.shape), mask)


def test_points_are_few_and_none_leaves_the_image() -> None:
    mask = np.ones((200, 100), bool)
    (polygon,) = outlines(mask, (1.0, 1.0))
    assert len(polygon) <= 8
    assert polygon.min() == -0.5
    assert polygon.max(axis=0).tolist() == [199.5, 99.5]
    x, y = np.indices((300, 300)) - 150
    (circle,) = outlines(np.hypot(x, y) < 120, (1.0, 1.0))
    # a point for each of the 960 steps of the rim without decimation
    assert len(circle) < 960 / 3


def test_small_regions_and_holes_are_left_out() -> None:
    mask = ring()
    mask[2, 2] = True
    mask[20, 8] = False
    assert len(outlines(mask, (1.0, 1.0))) == 2
    (polygon,) = outlines(mask, (1.0, 1.0), least_area_mm2=5.0)
    filled = fill_even_odd([polygon], mask.shape)
    assert not filled[2, 2]
    assert filled[20, 8]


def test_smoothing_rounds_in_millimetres_and_loses_nothing_thin() -> None:
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    (sharp,) = outlines(mask, (1.0, 1.0))
    (round_,) = outlines(mask, (1.0, 1.0), smoothing_mm=2.0)
    corner = np.array([9.5, 9.5])
    assert np.linalg.norm(round_ - corner, axis=1).min() > np.linalg.norm(sharp - corner, axis=1).min() + 0.5
    # twice the pixel, half as many pixels rounded
    (coarse,) = outlines(mask, (2.0, 2.0), smoothing_mm=2.0)
    assert np.linalg.norm(coarse - corner, axis=1).min() < np.linalg.norm(round_ - corner, axis=1).min()
    line = np.zeros((20, 20), bool)
    line[10, 4:16] = True
    np.testing.assert_array_equal(fill_even_odd(outlines(line, (1.0, 1.0), smoothing_mm=3.0), line.shape), line)


def test_nothing_gives_nothing() -> None:
    assert outlines(np.zeros((5, 5), bool), (1.0, 1.0)) == []
