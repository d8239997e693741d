from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon

from custom_networks.errors import CaseError
from scripts.core.dicom.rasterise import contours_to_mask, fill_contours, fill_even_odd

AFFINE = np.diag([0.5, 0.7, 3.0, 1.0])


def circle(x: float, y: float, radius: float, points: int = 200) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])


def disc(shape: tuple[int, int], x: float, y: float, radius: float) -> np.ndarray:
    columns, rows = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(columns - x, rows - y) < radius


def at(polygon: np.ndarray, z: float) -> np.ndarray:
    """Index coordinates to LPS mm."""
    return np.column_stack([polygon, np.full(len(polygon), z)]) @ AFFINE[:3, :3]


@given(st.lists(st.tuples(st.floats(-4, 20), st.floats(-4, 14)), min_size=3, max_size=9))
# an edge at 45 degrees that runs through voxel centres
@example([(0.0, 0.0), (8.0, 8.0), (0.0, 8.0)])
def test_fill_agrees_with_a_point_in_polygon_test(vertices: list[tuple[float, float]]) -> None:
    # no vertex on a row of centres, where a difference of rounding would move a whole edge
    polygon = np.round(np.array(vertices), 3) + 0.0004321
    columns, rows = np.mgrid[:16, :10]
    centres = np.column_stack([columns.ravel(), rows.ravel()]).astype(float)
    crossings, on_edge = np.zeros(len(centres), dtype=int), np.zeros(len(centres), dtype=bool)
    for (x, y), (x_end, y_end) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        spans = (y > centres[:, 1]) != (y_end > centres[:, 1])
        if y != y_end:
            at_row = x + (centres[:, 1] - y) / (y_end - y) * (x_end - x)
            crossings += spans & (centres[:, 0] > at_row)
            on_edge |= spans & (np.abs(centres[:, 0] - at_row) < 1e-5)
    found = fill_even_odd([polygon], (16, 10)).ravel()
    # a centre on an edge may count either way; the next test but one says which
    np.testing.assert_array_equal(found[~on_edge], (crossings % 2 == 1)[~on_edge])


def test_fill_of_a_convex_polygon_agrees_with_matplotlib() -> None:
    polygon = circle(7.3, 5.1, 4.6, 17)
    columns, rows = np.mgrid[:20, :12]
    inside = Polygon(polygon).contains_points(np.column_stack([columns.ravel(), rows.ravel()])).reshape(20, 12)
    np.testing.assert_array_equal(fill_even_odd([polygon], (20, 12)), inside)


def test_neighbouring_polygons_share_no_voxel_and_leave_none_out() -> None:
    # the common edge runs through voxel centres
    left = np.array([[1, 1], [5, 1], [5, 8], [1, 8]], dtype=float)
    right = np.array([[5, 1], [9, 1], [9, 8], [5, 8]], dtype=float)
    a, b = fill_even_odd([left], (12, 10)), fill_even_odd([right], (12, 10))
    assert not (a & b).any()
    assert (a | b).sum() == 8 * 7
    np.testing.assert_array_equal(
        a | b, fill_even_odd([np.array([[1, 1], [9, 1], [9, 8], [1, 8]], dtype=float)], (12, 10))
    )


def test_hole_island_and_keyhole() -> None:
    shape = (40, 32)
    rings = [circle(18.2, 15.7, 14), circle(18.2, 15.7, 9), circle(18.2, 15.7, 3)]
    expected = disc(shape, 18.2, 15.7, 14) & ~disc(shape, 18.2, 15.7, 9) | disc(shape, 18.2, 15.7, 3)
    np.testing.assert_array_equal(fill_even_odd(rings, shape), expected)
    # the same ring as one contour that runs inwards and back along a slit
    keyhole = np.concatenate([rings[0], rings[0][:1], rings[1][:1], rings[1][::-1], rings[0][:1]])
    assert (fill_even_odd([keyhole], shape) ^ (disc(shape, 18.2, 15.7, 14) & ~disc(shape, 18.2, 15.7, 9))).sum() <= 1


@pytest.mark.parametrize("diameter", [12, 15, 24])
def test_circle_on_a_non_square_grid_at_sub_voxel_position(diameter: int) -> None:
    shape = (48, 30, 3)
    mask = contours_to_mask("c", [at(circle(20.37, 14.81, diameter / 2), 1)], AFFINE, shape)
    truth = disc(shape[:2], 20.37, 14.81, diameter / 2)
    assert mask.notes == []
    assert not mask.array[:, :, [0, 2]].any()
    assert 2 * (mask.array[:, :, 1] & truth).sum() / (mask.array[:, :, 1].sum() + truth.sum()) > 0.99


def test_contours_half_a_slice_off_keep_the_volume_and_are_reported() -> None:
    polygon = circle(10, 10, 5)
    mask = contours_to_mask("c", [at(polygon, z + 0.4) for z in range(2, 6)], AFFINE, (20, 20, 10))
    assert mask.array.any(axis=(0, 1)).nonzero()[0].tolist() == [2, 3, 4, 5]
    assert "1.20 mm off" in mask.notes[0]


def test_contours_on_every_second_slice_fill_between_but_not_beyond() -> None:
    mask = contours_to_mask("c", [at(circle(10, 10, 5), z) for z in (2, 4, 6)], AFFINE, (20, 20, 10))
    assert mask.array.any(axis=(0, 1)).nonzero()[0].tolist() == [2, 3, 4, 5, 6]
    assert "2 slices between them" in mask.notes[0]


def test_contours_finer_than_slices_are_not_xored_together() -> None:
    mask = contours_to_mask("c", [at(circle(10.2, 9.9, 5.1), z / 4) for z in range(8, 21)], AFFINE, (20, 20, 10))
    areas = mask.array.sum(axis=(0, 1))
    assert areas.nonzero()[0].tolist() == [2, 3, 4, 5]
    assert set(areas[2:6]) == {int(disc((20, 20), 10.2, 9.9, 5.1).sum())}
    assert any("closer together" in note for note in mask.notes)


def test_a_gap_between_two_lesions_stays_empty_and_is_told() -> None:
    mask = contours_to_mask("c", [at(circle(10, 10, 5), z) for z in (1, 2, 3, 6, 7)], AFFINE, (20, 20, 10))
    assert mask.array.any(axis=(0, 1)).nonzero()[0].tolist() == [1, 2, 3, 6, 7]
    assert mask.notes == ["2 slices between contours have none and stay empty"]


def test_contour_planes_beyond_the_image_are_refused_with_their_count() -> None:
    inside, outside = at(circle(10, 10, 5), 8), at(circle(10, 10, 5), 12)
    with pytest.raises(CaseError, match="1 of 2 contour planes lie outside the image"):
        contours_to_mask("c", [inside, outside], AFFINE, (20, 20, 10))
    with pytest.raises(CaseError, match="all contour planes lie outside the image"):
        contours_to_mask("c", [outside], AFFINE, (20, 20, 10))
    cut = contours_to_mask("c", [at(circle(1, 10, 5), 8)], AFFINE, (20, 20, 10))
    assert cut.notes == ["contours reach beyond the image's edge and are cut off there"]


def test_a_contour_covers_exactly_the_centres_it_encloses_along_every_axis() -> None:
    """A grid that is half a voxel off, along any axis, would take other columns, rows or slices."""
    affine = np.array([[0, 0.7, 0, -20], [-0.5, 0, 0, 33], [0, 0, 3.0, 7], [0, 0, 0, 1]])
    corners = np.array([[2.6, 4.7], [6.4, 4.7], [6.4, 8.3], [2.6, 8.3]])
    points = np.column_stack([corners, np.full(4, 3.0), np.ones(4)]) @ affine.T
    mask = contours_to_mask("c", [points[:, :3]], affine, (12, 14, 6)).array
    assert [axis.tolist() for axis in map(np.unique, np.nonzero(mask))] == [[3, 4, 5, 6], [5, 6, 7, 8], [3]]


def square(x: float, y: float, size: float, height: float | None = None) -> np.ndarray:
    high = size if height is None else height
    return np.array([[x, y], [x + size, y], [x + size, y + high], [x, y + high]], dtype=float)


def test_overlapping_contours_of_one_plane_are_united() -> None:
    shape = (40, 32)
    left, right = circle(14.2, 15.7, 9), circle(22.9, 15.1, 9)
    found = fill_contours([left, right], shape)
    np.testing.assert_array_equal(found.array, disc(shape, 14.2, 15.7, 9) | disc(shape, 22.9, 15.1, 9))
    assert (found.united, found.repeated) == (1, 0)
    mask = contours_to_mask("c", [at(left, 2), at(right, 2)], AFFINE, (40, 32, 5))
    assert mask.array.sum() == found.array.sum()
    assert mask.notes == ["contours overlap on 1 slices and were united"]


def test_a_contour_drawn_twice_counts_once() -> None:
    shape, once = (40, 32), circle(18.2, 15.7, 9)
    again = np.roll(once[::-1] + 0.1, 7, axis=0)
    found = fill_contours([once, again], shape)
    np.testing.assert_array_equal(found.array, disc(shape, 18.2, 15.7, 9))
    mask = contours_to_mask("c", [at(once, 2), at(again, 2), at(once, 3)], AFFINE, (40, 32, 5))
    assert mask.array[:, :, 2].sum() == mask.array[:, :, 3].sum() > 0
    assert mask.notes == ["1 contours are drawn twice and were taken once"]


def test_a_hole_in_overlapping_contours_and_one_that_touches_the_edge() -> None:
    shape = (60, 40)
    left, right, hole = circle(18.2, 19.7, 15), circle(34.6, 19.7, 15), circle(26.4, 19.9, 4)
    expected = disc(shape, 18.2, 19.7, 15) | disc(shape, 34.6, 19.7, 15)
    np.testing.assert_array_equal(
        fill_contours([left, right, hole], shape).array, expected & ~disc(shape, 26.4, 19.9, 4)
    )
    # the hole shares an edge with its surroundings, up to rounding beyond it
    touching = fill_contours([square(4.5, 4.5, 20), square(4.4, 8.5, 6)], shape).array
    assert touching.sum() == 20 * 20 - 6 * 6
    assert not touching[5:10, 9:14].any()


def test_nested_contours_equal_the_even_odd_rule() -> None:
    shape = (40, 32)
    rings = [circle(18.2, 15.7, r) for r in (3, 14, 9)] + [circle(35, 5, 3), circle(18.2, 15.7, 1.4)]
    np.testing.assert_array_equal(fill_contours(rings, shape).array, fill_even_odd(rings, shape))


def test_contours_of_the_exclusive_or_type_are_combined_by_it() -> None:
    left, right = at(square(4.5, 4.5, 10), 2), at(square(9.5, 4.5, 10), 2)
    united = contours_to_mask("c", [left, right], AFFINE, (40, 32, 5)).array
    exclusive = contours_to_mask("c", [left, right], AFFINE, (40, 32, 5), even_odd=True).array
    assert (united.sum(), exclusive.sum()) == (150, 100)


@pytest.mark.parametrize("noise", [0.0, 0.004, -0.004, 0.02])
def test_contours_half_way_between_slices_keep_their_number_of_slices(noise: float) -> None:
    """Rounded positions must not decide whether eleven contours fill ten, eleven or twelve slices."""
    rng = np.random.default_rng(0)
    heights = np.arange(2, 13) + 0.5 + noise * rng.choice([-1, 1], 11)
    mask = contours_to_mask("c", [at(circle(10, 10, 5), z) for z in heights], AFFINE, (20, 20, 16)).array
    assert mask.any(axis=(0, 1)).nonzero()[0].tolist() == list(range(2, 13))


def test_contours_far_finer_than_slices_do_not_become_one_plane() -> None:
    contours = [at(circle(10.2, 9.9, 3 + z / 2), z) for z in np.arange(2, 6, 0.08)]
    mask = contours_to_mask("c", contours, AFFINE, (20, 20, 10)).array
    areas = mask.sum(axis=(0, 1))
    assert areas.nonzero()[0].tolist() == [2, 3, 4, 5, 6]
    assert (np.diff(areas[2:7]) > 0).all()


def test_contours_of_another_plane_are_refused() -> None:
    tilted = at(circle(10, 10, 5), 3)[:, [0, 2, 1]]
    with pytest.raises(CaseError, match="not drawn in the planes of the series"):
        contours_to_mask("c", [tilted], AFFINE, (20, 20, 10))


def test_contour_smaller_than_a_voxel_is_told() -> None:
    mask = contours_to_mask("c", [at(circle(10.5, 10.5, 0.2), 3)], AFFINE, (20, 20, 10))
    assert not mask.array.any()
    assert "too small to hold a voxel centre" in mask.notes[0]
