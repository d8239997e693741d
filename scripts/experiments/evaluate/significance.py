"""Are models different? The tests of the papers, and beside them one that knows which cases share a patient.

GynBTNet's preprint, section 3.2: one-way ANOVA over the models, Tukey's HSD between pairs, and a paired permutation test.
Its journal version (Med Phys 2025;52(8):e18067): Friedman's test and paired permutation tests under Benjamini-Hochberg.
All of them take cases for independent. Several time points of one patient are not, and treating them so makes p too small;
the last test exchanges whole patients.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from scripts.experiments.evaluate.aggregate import CLASS_MEAN, METRICS

EXACT_UP_TO = 15
# a volume error has a sign: a difference of its means says which model draws larger, not which is better
COMPARED = ("dsc", "nsd", "hd95_mm", "asd_mm")

# column of the comparison -> heading, and what its p does not know
TESTS = {
    "p_anova": (
        "ANOVA",
        "one-way, over all models (preprint). Ignores that the models saw the same cases, and so misses differences that "
        "are small beside those between cases; ignores that cases share a patient.",
    ),
    "p_tukey": (
        "Tukey HSD",
        "between the two models, corrected for the number of models (preprint). Ignores the same as ANOVA.",
    ),
    "p_friedman": (
        "Friedman",
        "ranks of three or more models within each case (journal version). Ignores how large differences are, and that "
        "cases share a patient.",
    ),
    "p_permutation": (
        "permutation",
        "paired, of the mean difference, exchanging cases (both). Ignores that cases share a patient: p is too small where "
        "patients have several cases.",
    ),
    "q_permutation": (
        "permutation BH",
        "the same under Benjamini-Hochberg over all classes and pairs of models of this metric (journal version): the false "
        "discovery rate, to read where many classes are compared.",
    ),
    "p_permutation_by_patient": (
        "by patient",
        "paired permutation that exchanges whole patients: the one to trust. With n patients it cannot fall below 2 / 2^n: "
        "fewer than six never reach 0.05.",
    ),
    "q_permutation_by_patient": ("by patient BH", "the same under Benjamini-Hochberg."),
}

NOTE = (
    "* p < 0.05, † p < 0.01. No p knows that several metrics were tried; only the columns BH know of the number of classes. "
    "n: cases with a value for every model; (-k): k cases left out because one has none, such as HD95 of a miss."
)


def sign_flip_test(
    differences: Sequence[float] | np.ndarray, clusters: Sequence[str] | None = None, draws: int = 9999, seed: int = 0
) -> float:
    """Two-sided paired permutation test of the mean difference.

    Under the hypothesis that the models are exchangeable, each cluster's differences may all change sign together. Up to
    15 clusters every assignment is tried; above, `draws` random ones, the observed one counted among them.

    Args:
        differences: model A minus model B, one per case.
        clusters: the patient of each case; None makes each case its own cluster (the papers' paired test).
        draws: random assignments.
        seed: of the draws.

    Returns:
        p; NaN without differences.
    """
    values = np.asarray(differences, dtype=float)
    if not len(values):
        return math.nan
    index = np.arange(len(values)) if clusters is None else np.unique(np.asarray(clusters, str), return_inverse=True)[1]
    sums = np.bincount(index, weights=values)
    observed = abs(sums.sum())
    # a relative margin, so that assignments equal to the observed one count as equal despite rounding
    limit = observed - 1e-12 * max(float(np.abs(sums).sum()), 1e-300)
    if len(sums) <= EXACT_UP_TO:
        signs = 1 - 2 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1)
        return float(np.mean(np.abs(signs @ sums) >= limit))
    rng = np.random.default_rng(seed)
    hits = 1
    for start in range(0, draws, 1000):
        signs = rng.integers(0, 2, size=(min(1000, draws - start), len(sums))) * 2 - 1
        hits += int(np.count_nonzero(np.abs(signs @ sums) >= limit))
    return hits / (draws + 1)


def false_discovery(p_values: pd.Series) -> pd.Series:
    """Benjamini-Hochberg's adjusted p values of those that are not NaN."""
    adjusted = p_values.astype(float).copy()
    known = p_values.notna()
    if known.any():
        adjusted[known] = stats.false_discovery_control(p_values[known], method="bh")
    return adjusted


def compare(
    tables: Mapping[str, pd.DataFrame],
    draws: int = 9999,
    seed: int = 0,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> pd.DataFrame:
    """Compare models class by class and metric by metric, on the cases that all of them have a value for.

    Args:
        tables: model name -> its case table from `measure`; at least two.
        draws: of the permutation tests.
        seed: of the permutation tests.
        pairs: of models, in the order of the rows; default every pair.

    Returns:
        One row per class, metric and pair: cases and patients compared, cases left out because a model has no value
        (HD95 and ASD of a miss), the two means, their difference, and the columns of `TESTS`: ANOVA's and Friedman's over
        all models, the others of the pair. Benjamini-Hochberg is over all classes and pairs of one metric; the mean over
        classes is a family of its own.
    """
    names = list(tables)
    wanted = list(itertools.combinations(names, 2)) if pairs is None else pairs
    first = next(iter(tables.values()))
    rows: list[dict[str, Any]] = []
    questions = list(itertools.product(dict.fromkeys(first["class"]), COMPARED))
    for name, metric in tqdm(questions, desc="compare", unit="test", disable=None):
        columns = [
            table[table["class"] == name].set_index("case")[metric].rename(model) for model, table in tables.items()
        ]
        joined = pd.concat(columns, axis=1)
        complete = joined.dropna()
        patients = first[first["class"] == name].set_index("case")["patient"].reindex(complete.index).tolist()
        groups = [complete[model].to_numpy(dtype=float) for model in names]
        anova, tukey, friedman = _paper_tests(groups)
        for a, b in ((names.index(one), names.index(other)) for one, other in wanted):
            difference = groups[a] - groups[b]
            rows.append(
                {
                    "class": name,
                    "metric": metric,
                    "model_a": names[a],
                    "model_b": names[b],
                    "cases": len(complete),
                    "patients": len(set(patients)),
                    "left_out": len(joined.dropna(how="all")) - len(complete),
                    "mean_a": groups[a].mean() if len(complete) else math.nan,
                    "mean_b": groups[b].mean() if len(complete) else math.nan,
                    "difference": difference.mean() if len(complete) else math.nan,
                    "p_anova": anova,
                    "p_tukey": float(tukey[a, b]),
                    "p_friedman": friedman,
                    "p_permutation": sign_flip_test(difference, None, draws, seed),
                    "p_permutation_by_patient": sign_flip_test(difference, patients, draws, seed),
                }
            )
    comparison = pd.DataFrame(rows)
    family = [comparison["metric"], comparison["class"] == CLASS_MEAN]
    for test in ("permutation", "permutation_by_patient"):
        comparison[f"q_{test}"] = comparison.groupby(family)[f"p_{test}"].transform(false_discovery)
    return comparison


def _paper_tests(groups: Sequence[np.ndarray]) -> tuple[float, np.ndarray, float]:
    """ANOVA's p, Tukey's p per pair, Friedman's p; NaN where they do not exist: no variance, too few cases or models."""
    anova, tukey, friedman = math.nan, np.full((len(groups), len(groups)), math.nan), math.nan
    if len(groups[0]) >= 2 and any(np.ptp(g) > 0 for g in groups):
        anova, tukey = float(stats.f_oneway(*groups).pvalue), np.asarray(stats.tukey_hsd(*groups).pvalue)
    if len(groups) >= 3 and len(groups[0]) >= 2 and any(np.any(g != groups[0]) for g in groups):
        friedman = float(stats.friedmanchisquare(*groups).pvalue)
    return anova, tukey, friedman


def cells(comparison: pd.DataFrame) -> list[dict[str, str]]:
    """The comparison as text: rows, each heading -> text; none where no case could be compared."""
    lines = []
    for row in comparison[(comparison["cases"] > 0) | (comparison["left_out"] > 0)].to_dict("records"):
        digits = METRICS[row["metric"]].digits
        means = [f"{row[key]:{sign}.{digits}f}" for key, sign in (("mean_a", ""), ("mean_b", ""), ("difference", "+"))]
        line = {
            "class": str(row["class"]),
            "metric": METRICS[row["metric"]].heading,
            "A": str(row["model_a"]),
            "B": str(row["model_b"]),
            "n": str(row["cases"]) + (f" (-{row['left_out']})" if row["left_out"] else ""),
            "patients": str(row["patients"]),
        }
        line |= zip(("mean A", "mean B", "A - B"), means if row["cases"] else "---", strict=True)
        lines.append(line | {heading: _p(row[column]) for column, (heading, _) in TESTS.items()})
    return lines


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    stars = "†" if value < 0.01 else "*" if value < 0.05 else ""
    return ("<0.001" if value < 0.001 else f"{value:.3f}") + stars
