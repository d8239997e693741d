"""Permutation tests against scipy and exact counts; the paper's tests against scipy; clustering against simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scripts.experiments.evaluate.measure import COLUMNS
from scripts.experiments.evaluate.significance import cells, compare, sign_flip_test


def table(dsc: list[float], patients: list[str] | None = None) -> pd.DataFrame:
    rows = []
    for i, value in enumerate(dsc):
        row = dict.fromkeys(COLUMNS, 0.0) | {
            "case": f"c{i}",
            "patient": patients[i] if patients else f"p{i}",
            "class": "organ",
        }
        rows.append(row | {"dsc": value, "hd95_mm": 10 * (1 - value), "asd_mm": math.nan, "outcome": "found"})
    return pd.DataFrame(rows)


def test_exact_test_equals_scipys() -> None:
    difference = np.random.default_rng(0).normal(0.5, 1, 9)
    expected = stats.permutation_test(
        (difference, np.zeros(9)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_test(difference) == pytest.approx(expected.pvalue)


def test_random_test_agrees_with_the_exact_one_and_is_seeded() -> None:
    difference = np.random.default_rng(1).normal(0.4, 1, 16)
    exact = stats.permutation_test(
        (difference, np.zeros(16)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
        batch=50000,
    ).pvalue
    first = sign_flip_test(difference, draws=20000, seed=3)
    assert first == pytest.approx(exact, abs=0.012)
    assert first == sign_flip_test(difference, draws=20000, seed=3)
    assert first != sign_flip_test(difference, draws=20000, seed=4)


def test_smallest_possible_p() -> None:
    assert sign_flip_test([1, 1, 1, 1]) == pytest.approx(2 / 16)
    assert sign_flip_test([1, 1, 1, 1], ["a", "a", "b", "b"]) == pytest.approx(2 / 4)
    assert sign_flip_test([1, 1, 1], ["a", "a", "a"]) == 1
    assert sign_flip_test([0, 0, 0]) == 1
    assert sign_flip_test(np.ones(40), draws=999) == pytest.approx(1 / 1000)
    assert math.isnan(sign_flip_test([]))


def test_by_patient_keeps_its_level_where_the_paired_test_does_not() -> None:
    """Two equal models, ten patients with six similar cases each: the nominal 5 % must hold."""
    rng = np.random.default_rng(2)
    patients = np.repeat([f"p{i}" for i in range(10)], 6).tolist()
    naive, clustered = [], []
    for _ in range(200):
        difference = np.repeat(rng.normal(0, 1, 10), 6) + rng.normal(0, 0.3, 60)
        naive.append(sign_flip_test(difference, None, draws=199) <= 0.05)
        clustered.append(sign_flip_test(difference, patients) <= 0.05)
    assert np.mean(naive) > 0.2
    assert np.mean(clustered) < 0.09


def test_the_papers_tests() -> None:
    rng = np.random.default_rng(3)
    scores = [np.clip(rng.normal(m, 0.08, 29), 0, 1) for m in (0.84, 0.81, 0.76)]
    result = compare({f"m{i}": table(s.tolist()) for i, s in enumerate(scores)}, draws=199)
    rows = result[result["metric"] == "dsc"].set_index(["model_a", "model_b"])
    assert len(rows) == 3
    assert rows["p_anova"].unique().tolist() == pytest.approx([stats.f_oneway(*scores).pvalue])
    tukey = stats.tukey_hsd(*scores).pvalue
    assert rows.loc[("m0", "m2"), "p_tukey"] == pytest.approx(tukey[0, 2])
    assert rows.loc[("m1", "m2"), "difference"] == pytest.approx(scores[1].mean() - scores[2].mean())


def test_cases_are_paired_by_name_and_incomplete_ones_counted() -> None:
    a, b = table([0.9, 0.8, 0.7, 0.6]), table([0.8, 0.7, 0.6, 0.5]).iloc[::-1]
    b.loc[b["case"] == "c3", "dsc"] = math.nan
    row = compare({"a": a, "b": b}).set_index("metric").loc["dsc"]
    assert (row["cases"], row["left_out"]) == (3, 1)
    assert row["difference"] == pytest.approx(0.1)
    assert row["p_permutation"] == pytest.approx(2 / 8)


def test_nothing_to_compare_says_so() -> None:
    result = compare({"a": table([0.9]), "b": table([0.8])}).set_index("metric")
    assert math.isnan(result.loc["dsc", "p_anova"])
    assert math.isnan(result.loc["asd_mm", "p_permutation"])
    same = compare({"a": table([0.9, 0.8]), "b": table([0.9, 0.8])}).set_index("metric").loc["dsc"]
    assert same["p_permutation"] == 1
    assert cells(result.reset_index())[0][0] == "class"
