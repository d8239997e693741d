"""Where a structure lies, in patient space, and what is usual."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scripts.experiments.quality.places import LEAST_LOG_ML, LEAST_MM, Place, Usual, places, usual


def box(start: tuple[int, int, int], size: tuple[int, int, int], value: int = 1) -> np.ndarray:
    found = np.zeros((20, 16, 12), np.uint8)
    found[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = value
    return found


def test_volume_and_offsets_in_patient_space_whatever_the_storage() -> None:
    label = box((2, 3, 4), (4, 6, 2)) + box((12, 9, 8), (2, 2, 2), 2)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = 7, -5, 100
    place = places(label, affine, {"a": [1], "b": [2], "both": [1, 2], "none": [3]})
    assert place["none"] is None
    a = place["a"]
    assert a is not None
    assert a.ml == pytest.approx(48 * 24 / 1000)
    # centroid (3.5, 5.5, 4.5) against the centre (9.5, 7.5, 5.5) and against b's (12.5, 9.5, 8.5)
    assert a.from_image == pytest.approx((-12, -6, -4))
    assert a.from_others == pytest.approx((-18, -12, -16))
    assert place["both"].from_others is None
    # the same anatomy stored the other way round
    turned = affine @ np.array([[-1.0, 0, 0, 19], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    again = places(label[::-1], turned, {"a": [1]})["a"]
    assert again.from_image == pytest.approx(a.from_image)


def test_usual_is_told_in_standard_deviations_and_against_others_where_nearly_all_have_them() -> None:
    volumes, xs = [10.0, 20.0, 40.0, 20.0, 20.0], [0.0, 4.0, -4.0, 0.0, 0.0]
    found = [{"a": Place(v, (x, 0.0, 0.0), (x + 10, 1.0, 2.0))} for v, x in zip(volumes, xs, strict=True)]
    one = usual(found)["a"]
    assert (one.labels, one.present, one.against) == (5, 5, "others")
    sd = float(np.std(np.log(volumes), ddof=1))
    assert one.volume_z(Place(40.0, (0, 0, 0), (10, 1, 2))) == pytest.approx(math.log(2) / sd)
    # one axis off by 2 sd, the spread of the others is held up at a millimetre
    off = 10 + 2 * float(np.std(xs, ddof=1))
    assert one.position_z(Place(20.0, (0, 0, 0), (off, 1, 2))) == pytest.approx(2 / math.sqrt(3))
    assert one.mm_sd[1:] == (LEAST_MM, LEAST_MM)
    assert math.isnan(one.position_z(Place(20.0, (0, 0, 0), None)))
    assert Usual.of(one.written()) == one
    alone = [{"a": Place(20.0, (x, 0.0, 0.0))} for x in xs]
    assert usual(alone)["a"].against == "image"
    assert usual(alone)["a"].log_ml[1] == LEAST_LOG_ML


def test_fewer_than_five_labels_tell_nothing() -> None:
    found = [{"a": Place(1.0, (0.0, 0.0, 0.0))}] * 4 + [{"a": None}] * 10
    assert usual(found) == {}
