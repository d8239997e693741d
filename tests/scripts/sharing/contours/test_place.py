"""A label map on the grid of a series, whatever order its axes have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.source import SourceSeries, read_source
from scripts.sharing.contours.place import RAS_TO_LPS, on_series

SHAPE = (24, 18, 7)


@pytest.fixture
def source(dicom: Any, tmp_path: Path) -> SourceSeries:
    written = dicom.series(tmp_path / "mr", np.zeros(SHAPE, np.int16), dicom.affine("oblique"))
    return read_source(written.files, "case")


def labels() -> np.ndarray:
    found = np.zeros(SHAPE, np.int32)
    found[4:15, 3:10, 2:6] = 1
    found[6:9, 5:8, 3:5] = 2
    found[20, 16, 6] = 3
    return found


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flipped", [(), (0,), (1, 2)])
def test_any_order_of_axes_is_copied_exactly(
    source: SourceSeries, order: tuple[int, ...], flipped: tuple[int, ...]
) -> None:
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for new, old in enumerate(order):
        turn[old, new] = -1 if old in flipped else 1
        turn[old, 3] = SHAPE[old] - 1 if old in flipped else 0
    stored = np.flip(labels(), flipped).transpose(order)
    np.testing.assert_array_equal(on_series("case", stored, RAS_TO_LPS @ source.affine @ turn, source), labels())


def test_a_crop_is_put_back_where_it_was(source: SourceSeries) -> None:
    shift = np.eye(4)
    shift[:3, 3] = (3, 2, 1)
    np.testing.assert_array_equal(
        on_series("case", labels()[3:21, 2:17, 1:], RAS_TO_LPS @ source.affine @ shift, source), labels()
    )


def test_another_grid_is_resampled_without_gaps_between_labels(source: SourceSeries) -> None:
    fine = np.diag([0.5, 0.5, 0.5, 1.0])
    fine[:3, 3] = -0.25
    stored = labels().repeat(2, 0).repeat(2, 1).repeat(2, 2)
    stored[stored == 3] = 0
    placed = on_series("case", stored, RAS_TO_LPS @ source.affine @ fine, source)
    expected = labels()
    expected[expected == 3] = 0
    np.testing.assert_array_equal(placed, expected)


def test_a_label_map_of_another_series_is_refused(source: SourceSeries) -> None:
    away = RAS_TO_LPS @ source.affine
    away[0, 3] += 20
    with pytest.raises(CaseError, match="outside the series"):
        on_series("case", labels(), away, source)
