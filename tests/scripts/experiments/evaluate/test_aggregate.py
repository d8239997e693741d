"""What is averaged, what is counted, and how often an interval covers what it should."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scripts.experiments.evaluate.aggregate import (
    CLASS_MEAN,
    METRICS,
    NOTE_FEW,
    add_class_mean,
    cells,
    few_patients,
    never_scored,
    patient_means,
    size_bounds,
    summarise,
    summarise_by_size,
    t_interval,
)

NAN = math.nan
DOCS = Path(__file__).resolve().parents[4] / "docs/evaluation.md"


def test_every_outcome_is_accounted_for(case_table: Any) -> None:
    gone = {"hd95_mm": NAN, "asd_mm": NAN}
    table = case_table(
        [
            {"case": "1", "patient": "a", "dsc": 0.9, "hd95_mm": 2.0},
            {"case": "2", "patient": "a", "dsc": 0.7, "hd95_mm": 6.0},
            {"case": "3", "patient": "b", "dsc": 0.0, "outcome": "missed", **gone},
            {"case": "4", "patient": "c", "dsc": 0.0, "outcome": "no prediction", **gone},
            {"case": "5", "patient": "d", "dsc": 0.0, "outcome": "false positive", **gone},
            {"case": "6", "patient": "e", "dsc": NAN, "outcome": "absent", **gone},
        ]
    )
    rows = summarise(table).set_index("metric")
    dsc, hd95 = rows.loc["dsc"], rows.loc["hd95_mm"]
    assert dsc[["n", "cases", "patients", "missed", "false_positive"]].tolist() == [5, 5, 4, 2, 1]
    assert dsc["mean"] == pytest.approx(0.32)
    assert dsc["mean_by_patient"] == pytest.approx(0.8 / 4)
    assert dsc["sd"] == pytest.approx(np.std([0.9, 0.7, 0, 0, 0], ddof=1))
    assert hd95[["n", "mean", "missed", "patients"]].tolist() == [2, 4, 2, 1]
    assert hd95[["q1", "median", "q3", "min", "max"]].tolist() == [3, 4, 5, 2, 6]
    assert set(rows.index) == set(METRICS)


def test_a_class_never_measured_is_a_dash_not_a_zero(case_table: Any) -> None:
    table = case_table([{"dsc": 0.0, "outcome": "missed", "hd95_mm": NAN, "asd_mm": NAN}])
    hd95 = next(line for line in cells(summarise(table)) if line["metric"] == "HD95 (mm)")
    assert hd95 == {
        "class": "organ",
        "metric": "HD95 (mm)",
        "n": "0 of 1",
        "mean": "-",
        "SD": "-",
        "median": "-",
        "quartiles": "-",
        "patients": "0",
        "mean by patient": "-",
        "95 % interval": "-",
        "missed": "1",
        "false pos.": "0",
    }


def test_interval_is_students_over_patients_not_cases() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(0.8, 0.1, 12)
    values, patients = np.repeat(level, 20), np.repeat([f"p{i}" for i in range(12)], 20).tolist()
    means = patient_means(values, patients)
    assert sorted(means) == pytest.approx(sorted(level))
    expected = stats.t.interval(0.95, 11, level.mean(), stats.sem(level))
    assert t_interval(means) == pytest.approx(expected)
    naive = t_interval(values)
    assert expected[1] - expected[0] > 3 * (naive[1] - naive[0])


def test_summary_takes_the_interval_of_patients(case_table: Any) -> None:
    """Two cases of each of three patients: the three means count."""
    scores = {"a": (0.5, 0.7), "b": (0.8, 0.8), "c": (0.9, 0.7)}
    rows = [{"case": f"{p}{i}", "patient": p, "dsc": s} for p, both in scores.items() for i, s in enumerate(both)]
    dsc = summarise(case_table(rows)).set_index("metric").loc["dsc"]
    means = [0.6, 0.8, 0.8]
    expected = np.clip(stats.t.interval(0.95, 2, np.mean(means), stats.sem(means)), 0, 1)
    assert dsc[["ci_low", "ci_high"]].tolist() == pytest.approx(expected)
    assert dsc["ci_high"] == 1, "no DSC is above 1"


def test_no_interval_from_one_patient() -> None:
    assert all(math.isnan(v) for v in t_interval(np.array([0.5])))
    assert all(math.isnan(v) for v in t_interval(np.array([])))


def coverage(draw: Any, mean: float, patients: int) -> float:
    """How often the interval holds the true mean, over simulated studies."""
    # so many that chance moves the coverage at few patients by less than 0.03 %
    low, high = t_interval(draw((5_000_000 // patients, patients)), 0, 1)
    return float(np.mean((low <= mean) & (mean <= high)))


def simulated(patients: int) -> dict[str, float]:
    rng = np.random.default_rng(patients)
    return {
        "normal": coverage(lambda size: rng.normal(0.8, 0.05, size), 0.8, patients),
        "beta": coverage(lambda size: rng.beta(8, 2, size), 0.8, patients),
        "misses": coverage(lambda size: np.where(rng.random(size) < 0.1, 0, rng.beta(8, 2, size)), 0.72, patients),
    }


@pytest.mark.parametrize("patients", [5, 6, 10, 20, 35])
def test_coverage_is_what_the_docs_say(patients: int) -> None:
    """At least 93 % of normal and Beta(8, 2) scores from five patients on; less with 10 % misses, and the page says so."""
    found = simulated(patients)
    assert found["normal"] >= 0.93
    assert found["beta"] >= 0.93
    said = re.search(rf"^\| {patients} \| (\S+) % \| (\S+) % \| (\S+) % \|$", DOCS.read_text(), re.MULTILINE)
    assert said is not None
    assert [100 * value for value in found.values()] == pytest.approx([float(text) for text in said.groups()], abs=0.15)
    if patients < 20:
        assert found["misses"] < 0.87
    for count, text in ((5, "covers 83 %"), (20, "90 %")):
        if patients == count:
            assert text in NOTE_FEW
            assert float(text.split()[-2]) == pytest.approx(100 * found["misses"], abs=0.7)


def test_the_page_warns_below_twenty_patients(case_table: Any) -> None:
    for patients, warned in ((19, True), (20, False)):
        table = case_table([{"case": f"c{i}", "dsc": 0.5} for i in range(patients)])
        assert few_patients(summarise(table)) is warned


def test_mean_over_classes_is_of_each_case(case_table: Any) -> None:
    gone = {"hd95_mm": NAN, "asd_mm": NAN}
    table = case_table(
        [
            {"name": "a", "case": "1", "dsc": 0.9, "hd95_mm": 2.0},
            {"name": "b", "case": "1", "dsc": 0.5, "hd95_mm": 4.0},
            {"name": "a", "case": "2", "dsc": 0.8, "hd95_mm": 3.0},
            {"name": "b", "case": "2", "dsc": 0.0, "outcome": "missed", **gone},
            {"name": "a", "case": "3", "dsc": 0.6, "hd95_mm": 1.0},
            {"name": "b", "case": "3", "dsc": NAN, "nsd": NAN, "outcome": "absent", **gone},
        ]
    )
    both = add_class_mean(table)
    pd.testing.assert_frame_equal(both.iloc[:6][table.columns], table, check_dtype=False)
    mean = both[both["class"] == CLASS_MEAN].set_index("case")
    assert mean["dsc"].tolist() == pytest.approx([0.7, 0.4, 0.6])
    assert mean["missed"].tolist() == [0, 1, 0]
    assert mean["hd95_mm"].tolist() == pytest.approx([3, NAN, 1], nan_ok=True), "a miss does not improve a distance"
    dsc = summarise(both).set_index(["class", "metric"]).loc[(CLASS_MEAN, "dsc")]
    assert dsc[["n", "missed"]].tolist() == [3, 1]
    assert dsc["mean"] == pytest.approx(1.7 / 3)
    one = table[table["class"] == "a"]
    assert add_class_mean(one) is one


def test_strata_by_true_volume(case_table: Any) -> None:
    volumes = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0]
    table = case_table(
        [{"name": "t", "case": f"{v}", "label_ml": v, "dsc": v / 10} for v in volumes]
        + [{"name": "other", "case": f"{v}", "label_ml": 100.0} for v in volumes]
    )
    assert size_bounds(table, "t") == pytest.approx([8 / 3, 13 / 3])
    assert size_bounds(table[table["label_ml"] < 6], "t") == [], "thirds of five cases say nothing"
    assert size_bounds(table, "t", [4, 2]) == [2, 4]
    strata = summarise_by_size(table, "t", [2, 4])
    dsc = strata[strata["metric"] == "dsc"].set_index("stratum")
    assert dsc["n"].to_dict() == {"under 2.0 ml": 1, "2.0 to 4.0 ml": 2, "from 4.0 ml": 3}
    assert dsc.loc["2.0 to 4.0 ml", "mean"] == pytest.approx(0.25)
    assert set(strata["class"]) == {"t"}
    assert list(cells(strata)[0])[:3] == ["stratum", "class", "metric"]
    assert summarise_by_size(table, "t", []).empty
    assert "from 50.0 ml" not in set(summarise_by_size(table, "t", [2, 50])["stratum"]), "no case, no stratum"


def test_experts_are_a_column_where_there_are_any(case_table: Any) -> None:
    summary = summarise(case_table([{"dsc": 0.8}]))
    assert "experts" not in cells(summary)[0]
    lines = cells(summary, {("organ", "dsc"): "0.780 [1]"})
    assert [line["experts"] for line in lines] == ["0.780 [1]", *[""] * (len(METRICS) - 1)]


def test_classes_that_no_case_has_are_named_once_and_not_listed(case_table: Any) -> None:
    gone = dict.fromkeys(METRICS, NAN) | {"outcome": "absent"}
    table = case_table([{"name": "a", "dsc": 0.5}, *({"name": n, **gone} for n in ("b", "c"))])
    summary = summarise(table)
    assert len(summary) == 3 * len(METRICS)
    assert {row["class"] for row in cells(summary)} == {"a"}
    assert never_scored(summary) == "In no label and no prediction: b, c."
    assert never_scored(summary[summary["class"] == "a"]) == ""
