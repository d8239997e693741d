from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon

from custom_networks.errors import CaseError
from scripts.core.dicom.rasterise import contours_to_mask, fill_even_odd

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


def test_contours_beyond_the_image() -> None:
    inside, outside = at(circle(10, 10, 5), 8), at(circle(10, 10, 5), 12)
    assert (
        "1 of 2 contour planes lie outside" in contours_to_mask("c", [inside, outside], AFFINE, (20, 20, 10)).notes[0]
    )
    with pytest.raises(CaseError, match="lie outside the image"):
        contours_to_mask("c", [outside], AFFINE, (20, 20, 10))
    cut = contours_to_mask("c", [at(circle(1, 10, 5), 8)], AFFINE, (20, 20, 10))
    assert cut.notes == ["contours reach beyond the image's edge and are cut off there"]


def test_contours_of_another_plane_are_refused() -> None:
    tilted = at(circle(10, 10, 5), 3)[:, [0, 2, 1]]
    with pytest.raises(CaseError, match="not drawn in the planes of the series"):
        contours_to_mask("c", [tilted], AFFINE, (20, 20, 10))


def test_contour_smaller_than_a_voxel_is_told() -> None:
    mask = contours_to_mask("c", [at(circle(10.5, 10.5, 0.2), 3)], AFFINE, (20, 20, 10))
    assert not mask.array.any()
    assert "too small to hold a voxel centre" in mask.notes[0]
