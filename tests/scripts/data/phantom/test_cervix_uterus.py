"""The organ as distances, its label, and the balls that hold it."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.data.phantom.cervix_uterus import organ_distances, organ_label, organ_points, tumor_distance
from scripts.data.phantom.sampled_anatomy import ROUGHNESS, TUMOR_MM, Anatomy, sample_anatomy
from scripts.data.phantom.shapes import Grid


def view_of(anatomy: Anatomy, size: int = 90, step: float = 2.2) -> Grid:
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = -step * (size - 1) / 2
    return Grid((size, size, size), affine, anatomy.warp)


@pytest.mark.parametrize("patient", range(12))
def test_organ_points_hold_the_organ_and_fields_agree(patient: int) -> None:
    anatomy = sample_anatomy(8, patient, patient % 3)
    view = view_of(anatomy)
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


def test_the_tumours_surface_is_rough_but_keeps_its_size() -> None:
    anatomy = sample_anatomy(3, 1, tumor_mm=(40, 41))
    centre, step = anatomy.tumor.centre, 1.0
    affine = np.eye(4) * step
    affine[:3, 3], affine[3, 3] = centre - 30, 1
    grid = Grid((61, 61, 61), affine, anatomy.warp)
    inside = tumor_distance(anatomy, grid, (slice(0, 61), slice(0, 61), slice(0, 61))) < 0
    ellipsoid = 4 / 3 * np.pi * np.prod(anatomy.tumor.semi)
    assert inside.sum() == pytest.approx(ellipsoid, rel=0.15)
    away = np.linalg.norm(np.argwhere(inside) - 30, axis=1).max()
    assert away <= anatomy.tumor.semi.max() * (1 + ROUGHNESS) + step
    # a smooth ellipsoid would be the same seen from its opposite side
    assert (inside != inside[::-1, ::-1, ::-1]).mean() > 0.001


def test_label_of_a_grid_elsewhere_is_empty() -> None:
    anatomy = sample_anatomy(0, 0)
    affine = np.eye(4)
    affine[:3, 3] = 3000
    assert not organ_label(anatomy, Grid((5, 6, 7), affine, anatomy.warp)).any()
