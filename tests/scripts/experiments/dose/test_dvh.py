"""Histograms against closed forms, and what users of other software reported as wrong."""

from collections.abc import Callable

import numpy as np
import pytest

from scripts.experiments.dose.dvh import ACCURACY, DoseGrid, Histogram, histogram, sample
from scripts.experiments.dose.measures import Measure, as_functions, parse_measures

MEASURES = parse_measures(["D98", "D90", "D2cm3", "D1cm3", "mean"])
Field = Callable[[np.ndarray], np.ndarray]


def points(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """mm (X, Y, Z, 3) of voxel centres."""
    return np.stack(np.indices(shape), -1) @ affine[:3, :3].T + affine[:3, 3]


def grid(
    spacing: tuple[float, float, float], centre: np.ndarray, reach: float
) -> tuple[tuple[int, int, int], np.ndarray]:
    affine = np.diag([*spacing, 1.0])
    count = [int(np.ceil(2 * reach / s)) + 1 for s in spacing]
    affine[:3, 3] = centre - np.array(spacing) * (np.array(count) - 1) / 2
    return (count[0], count[1], count[2]), affine


def shell(inner: float, outer: float, spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A spherical shell about a place that is no voxel's centre, as mask and affine."""
    shape, affine = grid(spacing, np.array([0.13, -0.21, 0.34]), outer + 4)
    radius = np.linalg.norm(points(shape, affine), axis=-1)
    return (radius >= inner) & (radius <= outer), affine


def field(of: Field, spacing: tuple[float, float, float], reach: float = 40) -> DoseGrid:
    shape, affine = grid(spacing, np.array([0.3, 0.2, -0.1]), reach)
    return DoseGrid(of(points(shape, affine)), affine)


def inverse_square(place: np.ndarray) -> np.ndarray:
    return np.asarray(1e4 / np.maximum((place**2).sum(-1), 1.0))


def linear(place: np.ndarray) -> np.ndarray:
    return np.asarray(60 + place @ np.array([0.5, -0.3, 0.2]))


def value(measure: str, found: Histogram) -> float:
    (one,) = parse_measures([measure])
    number = one.of(found)
    assert isinstance(number, float), number
    return number


@pytest.mark.parametrize(("inner", "outer"), [(12.0, 18.0), (18.0, 23.0), (6.0, 15.0)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.6, 0.6, 2.0)])
def test_shells_about_a_source(inner: float, outer: float, spacing: tuple[float, float, float]) -> None:
    mask, affine = shell(inner, outer, spacing)
    found = histogram(mask, affine, field(inverse_square, (1, 1, 1)), as_functions(MEASURES, None))
    cubes = inner**3, outer**3
    at = {
        "D90": cubes[0] + 0.9 * (cubes[1] - cubes[0]),
        "D98": cubes[0] + 0.98 * (cubes[1] - cubes[0]),
        "D2cm3": cubes[0] + 2000 * 3 / (4 * np.pi),
    }
    for name, cube in at.items():
        # the last 2 % are thinner than a voxel's stairs
        tolerance = 0.03 if name == "D98" else 0.01
        assert value(name, found) == pytest.approx(1e4 / cube ** (2 / 3), rel=tolerance), name
    assert value("mean", found) == pytest.approx(3e4 * (outer - inner) / (cubes[1] - cubes[0]), rel=0.01)
    assert found.volume == pytest.approx(4 / 3 * np.pi * (cubes[1] - cubes[0]) / 1000, rel=0.01)
    assert found.accuracy is not None
    assert found.accuracy <= ACCURACY


def cap_height(share: float) -> float:
    """Distance from the middle of a unit sphere beyond which `share` of its volume lies."""
    heights = np.linspace(-1, 1, 200001)
    beyond = (2 - 3 * heights + heights**3) / 4
    return float(np.interp(share, beyond[::-1], heights[::-1]))


@pytest.mark.parametrize("radius", [9.0, 20.0])
@pytest.mark.parametrize("coarse", [(1.0, 1.0, 1.0), (4.0, 3.0, 5.0)])
def test_spheres_in_a_linear_field(radius: float, coarse: tuple[float, float, float]) -> None:
    """Linear interpolation is exact here however coarse the dose is."""
    mask, affine = shell(0, radius, (1.0, 1.0, 1.0))
    found = histogram(mask, affine, field(linear, coarse), as_functions(MEASURES, None))
    steep = float(np.linalg.norm([0.5, -0.3, 0.2]))
    volume = 4 / 3 * np.pi * radius**3 / 1000
    for name, share in (("D98", 0.98), ("D90", 0.9), ("D2cm3", 2 / volume), ("D1cm3", 1 / volume)):
        assert value(name, found) == pytest.approx(60 + steep * radius * cap_height(share), rel=0.01), name
    assert value("mean", found) == pytest.approx(60, rel=0.01)


def test_a_dose_that_is_oblique_to_the_image() -> None:
    turned = np.eye(4)
    turned[:3, :3] = [[0.96, -0.2688, 0.0784], [0.28, 0.9216, -0.2688], [0, 0.28, 0.96]]
    shape, affine = grid((2.0, 2.0, 2.0), np.zeros(3), 40)
    affine = turned @ affine
    mask, place = shell(12, 20, (1.0, 1.0, 1.0))
    oblique = histogram(mask, place, DoseGrid(linear(points(shape, affine)), affine), as_functions(MEASURES, None))
    straight = histogram(mask, place, field(linear, (1, 1, 1)), as_functions(MEASURES, None))
    for measure in MEASURES:
        assert measure.of(oblique) == pytest.approx(measure.of(straight), rel=1e-6)


def test_shares_of_voxels_count_by_volume() -> None:
    dose = DoseGrid(np.arange(1.0, 9.0).reshape(2, 2, 2) * 10, np.diag([10.0, 10, 10, 1]))
    shares = np.array([1, 0.5, 0, 0, 0, 0, 0, 0.25]).reshape(2, 2, 2)
    found = sample(shares, dose.affine, dose, (1, 1, 1))
    assert found.volume == pytest.approx(1.75)
    np.testing.assert_allclose(found.dose, [80, 20, 10])
    np.testing.assert_allclose(found.reached, [0.25, 0.75, 1.75])
    assert found.mean == pytest.approx((0.25 * 80 + 0.5 * 20 + 10) / 1.75)
    assert (found.dose_at(0.25), found.dose_at(0.26), found.dose_at(1.75)) == (80, 20, 10)
    assert (found.volume_at(80), found.volume_at(81), found.volume_at(5)) == pytest.approx((0.25, 0, 1.75))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("first", "outside"), [(3, 0.0), (2, 0.25), (11, 0.0), (12, 0.25)])
def test_the_outermost_voxels_of_the_dose_reach_to_their_edge(axis: int, first: int, outside: float) -> None:
    """Voxels of 1 mm; the dose has three of 4 mm, from the edge of voxel 3 to that of voxel 14."""
    mask = np.zeros((20, 20, 20), dtype=bool)
    box: list[int | slice] = [9, 9, 9]
    box[axis] = slice(first, first + 4)
    mask[tuple(box)] = True
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = 4.5
    found = sample(mask, np.eye(4), DoseGrid(np.full((3, 3, 3), 7.0), affine), (2, 2, 2))
    assert found.outside == pytest.approx(outside)
    np.testing.assert_allclose(found.dose, 7)


# what users of dicompyler-core reported


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 3.0, 3.0), (10.0, 7.0, 9.0)])
def test_volume_does_not_depend_on_the_dose_grid(spacing: tuple[float, float, float]) -> None:
    """A small or coarse dose grid, as of brachytherapy, changed the volume of a structure."""
    mask, affine = shell(0, 9, (1.0, 1.0, 1.0))
    whole = histogram(mask, affine, field(linear, spacing), as_functions(MEASURES, None))
    assert whole.volume == pytest.approx(np.count_nonzero(mask) / 1000)
    cut = field(linear, spacing)
    cut = DoseGrid(cut.array[: len(cut.array) // 2], cut.affine)
    small = histogram(mask, affine, cut, as_functions(MEASURES, None))
    assert small.volume == pytest.approx(whole.volume)
    assert small.outside == pytest.approx(0.5, abs=0.4)


def test_a_structure_of_6_42_cm3_on_few_slices_is_not_1_87() -> None:
    """Slices that lie between the planes of the dose were not counted."""
    affine = np.diag([0.5, 0.5, 1.0, 1.0])
    mask = np.zeros((60, 60, 12), dtype=bool)
    mask[10:50, 10:48, 2:10] = True
    mask[10:50, 48:49, 2:10] = True
    mask[10:50, 49, 2:10] = np.arange(40)[:, None] < 30
    dose = DoseGrid(np.full((20, 20, 6), 7.0), np.diag([2.5, 2.5, 5.0, 1.0]))
    found = histogram(mask, affine, dose, as_functions(MEASURES, None))
    assert found.volume == pytest.approx(np.count_nonzero(mask) * 0.25e-3)
    assert value("D98", found) == pytest.approx(7.0)


@pytest.mark.parametrize("side", [2, 4, 7])
def test_structures_below_half_a_cm3_have_no_zeros(side: int) -> None:
    """D97 to D99 of small structures were 0 while D100 was not."""
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[9 : 9 + side, 9 : 9 + side, 9 : 9 + side] = True
    dose = DoseGrid(np.full((10, 10, 10), 76.2), np.diag([3.0, 3.0, 3.0, 1.0]))
    found = histogram(mask, np.diag([1.0, 1.0, 1.0, 1.0]), dose, as_functions(MEASURES, None))
    assert found.volume < 0.5
    for percent in (90, 95, 96, 97, 98, 99, 100):
        assert value(f"D{percent}", found) == pytest.approx(76.2)
    assert value("D0.001cm3", found) == pytest.approx(76.2)


def test_a_truncated_dose_grid_gives_no_volume_at_dose() -> None:
    """V20 was given from a dose that did not cover the structure."""
    mask, affine = shell(0, 20, (1.0, 1.0, 1.0))
    found = histogram(mask, affine, field(linear, (2, 2, 2), reach=15), as_functions(MEASURES, 20.0))
    for name in ("V100", "D90", "D2cm3", "mean"):
        (one,) = parse_measures([name])
        assert str(one.of(found, 20.0)).endswith("of the structure lies outside the dose grid")


def test_holes_are_not_filled() -> None:
    """The hole of a structure was counted with it."""
    mask, affine = shell(12, 20, (1.0, 1.0, 1.0))
    ball, _ = shell(0, 20, (1.0, 1.0, 1.0))
    dose = field(inverse_square, (1, 1, 1))
    found, filled = (histogram(m, affine, dose, as_functions(MEASURES, None)) for m in (mask, ball))
    assert found.volume == pytest.approx(4 / 3 * np.pi * (20**3 - 12**3) / 1000, rel=0.01)
    assert value("D2cm3", filled) > 1.5 * value("D2cm3", found)


def test_halving_ends_at_the_limit_and_says_what_it_reached() -> None:
    mask, affine = shell(0, 20, (2.0, 2.0, 2.0))
    steep = field(lambda p: np.exp(p[..., 0]), (1, 1, 1))
    found = histogram(mask, affine, steep, as_functions([Measure("D2cm3", "volume", 2)], None), most=1)
    assert found.accuracy is not None
    assert found.accuracy > ACCURACY
