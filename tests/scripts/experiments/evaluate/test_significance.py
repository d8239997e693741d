"""Tests against textbooks, brute force, scipy and simulation."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scripts.experiments.evaluate.aggregate import add_class_mean
from scripts.experiments.evaluate.significance import NOTE, TESTS, cells, compare, false_discovery, sign_flip_test

# Darwin's maize: crossed minus self-fertilised heights in eighths of an inch (Fisher, The Design of Experiments, 1935)
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
# NIST/SEMATECH e-Handbook 7.4.3.4: three levels, ANOVA's F is 9.59 at 2 and 12 degrees of freedom, p = 0.00325
LEVELS = ([6.9, 5.4, 5.8, 4.6, 4.0], [8.3, 6.8, 7.8, 9.2, 6.5], [8.0, 10.5, 8.1, 6.9, 9.3])
# running times of 22 players by three ways of rounding first base (Hollander and Wolfe 1973, table 7.1)
BASES = (
    *((5.40, 5.50, 5.55), (5.85, 5.70, 5.75), (5.20, 5.60, 5.50), (5.55, 5.50, 5.40), (5.90, 5.85, 5.70)),
    *((5.45, 5.55, 5.60), (5.40, 5.40, 5.35), (5.45, 5.50, 5.35), (5.25, 5.15, 5.00), (5.85, 5.80, 5.70)),
    *((5.25, 5.20, 5.10), (5.65, 5.55, 5.45), (5.60, 5.35, 5.45), (5.05, 5.00, 4.95), (5.50, 5.50, 5.40)),
    *((5.45, 5.55, 5.50), (5.55, 5.55, 5.35), (5.45, 5.50, 5.55), (5.50, 5.45, 5.25), (5.65, 5.60, 5.40)),
    *((5.70, 5.65, 5.55), (6.30, 6.30, 6.25)),
)


@pytest.fixture
def table(case_table: Any) -> Any:
    """A case table from DSC values, each of its own patient unless patients are given."""

    def build(dsc: list[float], patients: list[str] | None = None, name: str = "organ") -> pd.DataFrame:
        owners = patients or [f"p{i}" for i in range(len(dsc))]
        return case_table(
            [
                {"name": name, "case": f"c{i}", "patient": p, "dsc": v, "nsd": v, "asd_mm": math.nan}
                for i, (v, p) in enumerate(zip(dsc, owners, strict=True))
            ]
        )

    return build


def brute_force(differences: list[float], clusters: list[str]) -> float:
    """All assignments of signs to patients, written out."""
    names = sorted(set(clusters))
    sums = []
    for signs in itertools.product((1, -1), repeat=len(names)):
        sign = dict(zip(names, signs, strict=True))
        sums.append(abs(sum(sign[c] * d for c, d in zip(clusters, differences, strict=True))))
    observed = abs(sum(differences))
    return sum(s >= observed - 1e-9 for s in sums) / len(sums)


def test_fishers_exact_test_of_darwins_maize() -> None:
    """Of 32768 assignments 1726 are as extreme: Fisher's count, two-sided."""
    assert sign_flip_test(MAIZE) == 1726 / 32768


def test_exact_at_ten_and_clustered_equal_brute_force_and_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        difference = rng.normal(0.4, 1, 10)
        expected = stats.permutation_test(
            (difference, np.zeros(10)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
        )
        assert sign_flip_test(difference) == pytest.approx(expected.pvalue, abs=1e-12)
        assert sign_flip_test(difference) == brute_force(difference.tolist(), [str(i) for i in range(10)])
        clusters = [f"p{c}" for c in rng.integers(0, 6, 10)]
        assert sign_flip_test(difference, clusters) == brute_force(difference.tolist(), clusters)


def test_random_test_agrees_with_the_exact_one_and_is_seeded() -> None:
    difference = np.random.default_rng(1).normal(0.4, 1, 17)
    exact = brute_force(difference.tolist(), [f"{i:02}" for i in range(17)])
    random = sign_flip_test(difference, draws=9999)
    assert random == pytest.approx(exact, abs=4 * math.sqrt(exact / 9999))
    assert random == sign_flip_test(difference, draws=9999)
    assert random != sign_flip_test(difference, draws=9999, seed=1)


def test_counts_that_can_be_done_by_hand() -> None:
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


def test_textbook_anova_and_tukey(table: Any) -> None:
    rows = compare({f"m{i}": table(list(level)) for i, level in enumerate(LEVELS)}, draws=99)
    rows = rows[rows["metric"] == "dsc"].set_index(["model_a", "model_b"])
    assert rows["p_anova"].tolist() == pytest.approx([0.00325] * 3, abs=5e-6)
    # Tukey's intervals there: levels 1 and 2 differ by 0.18 to 4.58, 1 and 3 by 1.02 to 5.42, 2 and 3 by -1.36 to 3.04
    assert rows.loc[("m0", "m1"), "p_tukey"] < 0.05
    assert rows.loc[("m0", "m2"), "p_tukey"] < 0.01
    assert rows.loc[("m1", "m2"), "p_tukey"] > 0.05
    # the studentised range by its own definition, of the pair that is asked for
    within = sum(np.array(v).var(ddof=1) for v in LEVELS) / 3
    for a, b in ((0, 1), (0, 2), (1, 2)):
        q = abs(np.mean(LEVELS[a]) - np.mean(LEVELS[b])) / math.sqrt(within / 5)
        p = stats.studentized_range.sf(q, 3, 12)
        assert rows.loc[(f"m{a}", f"m{b}"), "p_tukey"] == pytest.approx(p, rel=1e-6)


def test_textbook_friedman(table: Any) -> None:
    """Hollander and Wolfe 1973, rounding first base: with ties, chi-squared is 11.14 at two degrees, p = 0.003805."""
    rows = compare({f"m{i}": table(list(column)) for i, column in enumerate(zip(*BASES, strict=True))}, draws=99)
    assert rows.loc[rows["metric"] == "dsc", "p_friedman"].tolist() == pytest.approx([0.003805] * 3, abs=5e-7)
    two = compare({f"m{i}": table([row[i] for row in BASES]) for i in range(2)}, draws=99)
    assert two["p_friedman"].isna().all(), "two models are the paired test's"


def test_textbook_benjamini_hochberg() -> None:
    """Benjamini and Hochberg 1995, section 4: of fifteen p values four are rejected at 0.05."""
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1,
    ]
    q = false_discovery(pd.Series([*p, math.nan]))
    assert (q < 0.05).sum() == 4
    # by definition: the least p m / rank of all that are as large
    expected = [min(p[j] * 15 / (j + 1) for j in range(i, 15)) for i in range(15)]
    assert q[:15].tolist() == pytest.approx(expected)
    assert math.isnan(q.iloc[15])
    assert false_discovery(pd.Series([math.nan])).isna().all()


def test_false_discovery_is_controlled_over_classes_and_pairs_of_one_metric(table: Any) -> None:
    rng = np.random.default_rng(6)
    level = rng.normal(0.8, 0.05, 12)
    tables = {}
    for m in range(3):
        classes = [table((level + rng.normal(0.02 * m * (c == 0), 0.02, 12)).tolist(), name=f"k{c}") for c in range(8)]
        tables[f"m{m}"] = add_class_mean(pd.concat(classes, ignore_index=True))
    rows = compare(tables, draws=99)
    for test in ("permutation", "permutation_by_patient"):
        single = rows[(rows["metric"] == "dsc") & (rows["class"] != "mean over classes")]
        assert len(single) == 24
        assert single[f"q_{test}"].tolist() == pytest.approx(
            stats.false_discovery_control(single[f"p_{test}"]).tolist()
        )
        mean = rows[(rows["metric"] == "dsc") & (rows["class"] == "mean over classes")]
        assert mean[f"q_{test}"].tolist() == pytest.approx(stats.false_discovery_control(mean[f"p_{test}"]).tolist())
        assert (single[f"q_{test}"] > single[f"p_{test}"]).any()


def test_patients_are_exchanged_whole_in_a_comparison(table: Any) -> None:
    """Nine cases of three patients: by case 2 / 512, by patient 2 / 8."""
    patients = [f"p{i // 3}" for i in range(9)]
    row = compare({"a": table([0.9] * 9, patients), "b": table([0.8] * 9, patients)}).set_index("metric").loc["dsc"]
    assert row["p_permutation"] == pytest.approx(2 / 512)
    assert row["p_permutation_by_patient"] == pytest.approx(2 / 8)
    assert (row["cases"], row["patients"]) == (9, 3)


def test_anova_is_blind_to_pairing_and_the_page_says_so(table: Any) -> None:
    rng = np.random.default_rng(7)
    level = rng.uniform(0.3, 0.95, 14)
    tables = {"a": table((level + 0.02).tolist()), "b": table((level + rng.normal(0, 0.004, 14)).tolist())}
    row = compare(tables).set_index("metric").loc["dsc"]
    assert row["p_anova"] > 0.5
    assert row["p_tukey"] > 0.5
    assert row["p_permutation"] < 0.001
    assert "misses differences that are small beside those between cases" in TESTS["p_anova"][1]


def test_cases_are_paired_by_name_and_incomplete_ones_counted(table: Any) -> None:
    a, b = table([0.9, 0.8, 0.7, 0.6]), table([0.8, 0.7, 0.6, 0.5]).iloc[::-1]
    b.loc[b["case"] == "c3", "dsc"] = math.nan
    row = compare({"a": a, "b": b}).set_index("metric").loc["dsc"]
    assert (row["cases"], row["left_out"]) == (3, 1)
    assert row["difference"] == pytest.approx(0.1)
    assert row["p_permutation"] == pytest.approx(2 / 8)


def test_nothing_to_compare_says_so(table: Any) -> None:
    result = compare({"a": table([0.9]), "b": table([0.8])}).set_index("metric")
    assert math.isnan(result.loc["dsc", "p_anova"])
    assert math.isnan(result.loc["asd_mm", "p_permutation"])
    same = compare({m: table([0.9, 0.8]) for m in "abc"}).set_index("metric").loc["dsc"]
    assert same["p_permutation"].tolist() == [1, 1, 1]
    assert same["p_friedman"].isna().all()
    assert {line["metric"] for line in cells(result.reset_index())} == {"DSC", "NSD", "HD95 (mm)"}, "no case has an ASD"
    one = table([0.9]).assign(asd_mm=1.0)
    apart = cells(compare({"a": one, "b": table([0.9])}))
    line = next(line for line in apart if line["metric"] == "ASD (mm)")
    assert [line[key] for key in ("n", "mean A", "A - B", "ANOVA", "permutation")] == ["0 (-1)", *"----"]


def test_what_is_printed(table: Any) -> None:
    rows = compare({"a": table([0.9] * 9), "b": table([0.8] * 8 + [0.9])})
    (line,) = (line for line in cells(rows) if line["metric"] == "DSC")
    assert line == {
        "class": "organ",
        "metric": "DSC",
        "A": "a",
        "B": "b",
        "n": "9",
        "patients": "9",
        "mean A": "0.900",
        "mean B": "0.811",
        "A - B": "+0.089",
        "ANOVA": "<0.001†",
        "Tukey HSD": "<0.001†",
        "Friedman": "-",
        "permutation": "0.008†",
        "permutation BH": "0.008†",
        "by patient": "0.008†",
        "by patient BH": "0.008†",
    }


def test_stars(table: Any) -> None:
    rows = compare({"a": table([0.9] * 3), "b": table([0.8] * 3)}).iloc[:1]
    for p, shown in (
        (0.2, "0.200"),
        (0.0999, "0.100"),
        (0.0501, "0.050"),
        (0.0499, "0.050*"),
        (0.0101, "0.010*"),
        (0.0099, "0.010†"),
        (0.0004, "<0.001†"),
        (math.nan, "-"),
    ):
        assert cells(rows.assign(p_anova=p))[0]["ANOVA"] == shown
    assert "* p < 0.05, † p < 0.01" in NOTE


def test_every_p_says_what_it_ignores() -> None:
    for column in ("p_anova", "p_tukey", "p_friedman", "p_permutation"):
        assert "gnores" in TESTS[column][1]
    assert "fewer than six never reach 0.05" in TESTS["p_permutation_by_patient"][1]
    assert "No p knows that several metrics were tried" in NOTE
