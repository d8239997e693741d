"""What the charts of an evaluation show."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from scripts.experiments.evaluate import figures


def test_every_case_of_every_model_is_a_point(case_table: Any) -> None:
    ours = case_table([{"case": "a", "dsc": 0.9}, {"case": "b", "dsc": 0.0, "outcome": "missed", "hd95_mm": math.nan}])
    dsc, hd95 = figures.distributions({"ours": ours, "theirs": ours[:1]}, ["organ"])
    assert [(row.name, row.values, row.note) for row in dsc.rows] == [
        ("organ, ours", [0.9, 0.0], "n = 2, 1 missed"),
        ("organ, theirs", [0.9], "n = 1"),
    ]
    assert hd95.rows[0].note == "n = 1, 1 missed"
    assert dsc.rows[0].names == ["a, organ: DSC 0.900", "b, organ: DSC 0.000"]


def test_size_and_agreement_of_volumes(case_table: Any) -> None:
    errors = [1.0, -3.0, 5.0]
    rows = [
        {"case": f"c{i}", "label_ml": 10.0, "pred_ml": 10.0 + e, "volume_error_ml": e, "dsc": 0.5}
        for i, e in enumerate(errors)
    ]
    rows.append({"case": "none", "label_ml": 0.0, "pred_ml": 0.0, "dsc": math.nan, "volume_error_ml": math.nan})
    (size,) = figures.sizes(case_table(rows), ["organ"])
    assert [(dot.x, dot.y) for dot in size.dots] == [(10, 0.5)] * 3
    (volumes,) = figures.volume_agreement(case_table(rows), ["organ"])
    assert [(dot.x, dot.y) for dot in volumes.dots] == [(10.5, 1), (8.5, -3), (12.5, 5)]
    half = 1.96 * np.std(errors, ddof=1)
    assert [rule.y for rule in volumes.rules] == pytest.approx([1, 1 + half, 1 - half])
    assert all(volumes.y.low < rule.y < volumes.y.high for rule in volumes.rules)
    assert len(figures.limits_of_agreement([1.0, 2.0])) == 1


def test_of_many_classes_the_target_and_the_lowest(case_table: Any) -> None:
    table = case_table([{"name": f"k{i}", "dsc": i / 10} for i in range(9)])
    assert figures.classes_shown(table, "k8") == ["k8", "k0", "k1", "k2", "k3", "k4"]


def test_a_curve_per_training() -> None:
    charts = figures.learning_curves({"fold0": {"val_dice": {2: 0.5, 1: 0.1}, "train_loss": {1: 0.9}}, "fold1": {}})
    assert [chart.title for chart in charts] == ["Training: val_dice", "Training: train_loss"]
    assert charts[0].curves[0].points == [(1, 0.1), (2, 0.5)]
    assert (charts[0].y.low, charts[0].y.high) == (0, 1)
