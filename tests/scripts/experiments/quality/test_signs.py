"""Each sign against a value worked out by hand."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest

from scripts.experiments.quality.places import Place, usual
from scripts.experiments.quality.signs import METAL_HU, Signs, agreement, agreements, border_mm, metal_ml, signs

SPACING = np.array([1.0, 2.0, 5.0])


def test_agreement_is_the_mean_over_pairs() -> None:
    a, b = np.zeros(10, bool), np.zeros(10, bool)
    a[:4], b[2:6] = True, True
    assert agreement([a, b, a]) == pytest.approx((0.5 + 1.0 + 0.5) / 3, abs=1e-4)
    assert agreement([np.zeros(3, bool)] * 2) is None
    assert agreement([a]) is None


def test_agreements_are_those_of_whole_masks() -> None:
    rng = np.random.default_rng(0)
    maps = [np.where(rng.uniform(size=(9, 8, 7)) < 0.1, rng.integers(0, 4, (9, 8, 7)), 0) for _ in range(3)]
    classes = {"a": [1], "ab": [1, 2], "none": [7]}
    found = agreements(maps, classes)
    assert found == {name: agreement([np.isin(one, values) for one in maps]) for name, values in classes.items()}
    assert found["none"] is None


def test_the_border_is_told_in_millimetres_along_the_nearest_axis() -> None:
    shape = (30, 20, 10)
    assert border_mm((slice(10, 20), slice(3, 10), slice(4, 6)), shape, SPACING) == 6
    assert border_mm((slice(10, 20), slice(3, 10), slice(1, 6)), shape, SPACING) == 5
    assert border_mm((slice(10, 30), slice(3, 10), slice(4, 6)), shape, SPACING) == 0


def test_metal_counts_within_reach_alone() -> None:
    label = np.zeros((80, 40, 10), np.uint8)
    box = (slice(20, 30), slice(10, 20), slice(4, 6))
    label[box] = 2
    ct = np.zeros(label.shape, np.float32)

    def found() -> float:
        return metal_ml(label, [2], box, ct, SPACING)

    assert found() == 0
    # voxels of 0.01 ml at 20 and 21 mm; dense bone is none
    ct[49:51, 15, 5] = METAL_HU + 1
    ct[31, 15, 5] = METAL_HU
    assert found() == pytest.approx(0.01)
    ct[25, 15, 5] = 3071
    assert found() == pytest.approx(0.02)


def test_signs_of_a_label_map() -> None:
    label = np.zeros((30, 20, 10), np.uint8)
    label[10:20, 5:10, 4:6], label[12:14, 6:8, 4] = 1, 2
    affine = np.diag([1.0, 2.0, 5.0, 1.0])
    training = usual([{"organ": Place(v, (0.0, 0.0, 0.0)), "tumor": None} for v in (0.5, 1, 2, 1, 1)])
    entropy = {1: (0.2, 96.0), 2: (0.6, 4.0)}
    classes = {"organ": [1, 2], "tumor": [2], "third": [3]}
    organ, tumor, third = signs(label, affine, classes, training, entropy=entropy, agreed={"organ": 0.9})
    assert (organ.structure, organ.ml, organ.border_mm) == ("organ", pytest.approx(1.0), 10)
    assert organ.volume_z == pytest.approx(0)
    assert organ.entropy == pytest.approx((0.2 * 96 + 0.6 * 4) / 100)
    assert organ.fold_agreement == 0.9
    assert math.isnan(organ.metal_ml), "of MR nobody knows"
    assert tumor.entropy == 0.6
    assert math.isnan(tumor.volume_z), "no training label has one"
    assert third.empty
    assert third.row() == dict.fromkeys((f.name for f in fields(Signs)), None) | {"structure": "third", "ml": 0.0}
    with_ct = signs(label, affine, classes, ct=np.zeros(label.shape))
    assert [one.metal_ml for one in with_ct[:2]] == [0, 0]
