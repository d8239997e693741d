"""What is averaged and what is counted."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from scripts.experiments.evaluate.aggregate import as_text, bootstrap_interval, cells, summarise
from scripts.experiments.evaluate.measure import COLUMNS


def row(dsc: float, hd95: float, outcome: str, patient: str) -> dict[str, object]:
    return dict.fromkeys(COLUMNS, 0.0) | {
        "case": f"{patient}{dsc}{outcome}",
        "patient": patient,
        "class": "tumor",
        "dsc": dsc,
        "hd95_mm": hd95,
        "asd_mm": hd95 / 4,
        "missed": int(outcome in {"missed", "no prediction"}),
        "false_positive": int(outcome == "false positive"),
        "outcome": outcome,
    }


def test_every_outcome_is_accounted_for() -> None:
    nan = math.nan
    table = pd.DataFrame(
        [
            row(0.9, 2, "found", "a"),
            row(0.7, 6, "found", "a"),
            row(0.0, nan, "missed", "b"),
            row(0.0, nan, "no prediction", "c"),
            row(0.0, nan, "false positive", "d"),
            row(nan, nan, "absent", "e"),
        ]
    )
    dsc, hd95, _ = summarise(table).to_dict("records")
    assert (dsc["n"], dsc["cases"], dsc["patients"], dsc["missed"], dsc["false_positive"]) == (5, 5, 4, 2, 1)
    assert dsc["mean"] == pytest.approx(0.32)
    assert dsc["sd"] == pytest.approx(np.std([0.9, 0.7, 0, 0, 0], ddof=1))
    assert (hd95["n"], hd95["mean"], hd95["missed"]) == (2, 4, 2)
    assert (hd95["q1"], hd95["median"], hd95["q3"]) == (3, 4, 5)
    text = as_text(cells(summarise(table)))
    assert "2 of 5" in text
    assert len({len(line) for line in text.splitlines()}) == 1, "columns are aligned"


def test_a_class_never_measured_is_a_dash_not_a_zero() -> None:
    table = pd.DataFrame([row(0.0, math.nan, "missed", "a")])
    lines = cells(summarise(table))
    assert lines[2][2:4] == ["0 of 1", "-"]


def test_interval_draws_patients_not_cases() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(0.8, 0.1, 12)
    values = np.repeat(level, 20)
    patients = np.repeat([f"p{i}" for i in range(12)], 20).tolist()
    low, high = bootstrap_interval(values, patients)
    expected = level.std() / math.sqrt(12)
    assert (high - low) / (2 * 1.96) == pytest.approx(expected, rel=0.1)
    naive = bootstrap_interval(values, [str(i) for i in range(240)])
    assert high - low > 3 * (naive[1] - naive[0])
    assert all(math.isnan(v) for v in bootstrap_interval(np.array([1.0]), ["a"]))
