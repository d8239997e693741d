"""Are two models different? The paper's tests, and beside them one that knows which cases share a patient.

GynBTNet paper, section 3.2: one-way ANOVA over the models, Tukey's HSD between pairs; and a paired permutation test. All
three take cases for independent. Several time points of one patient are not, and treating them so makes p too small; the
last test exchanges whole patients.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scripts.experiments.evaluate.aggregate import METRICS

EXACT_UP_TO = 14

NOTE = (
    "p of: one-way ANOVA over all models, Tukey's HSD, a paired permutation test over cases (the paper's tests), and the "
    "same exchanging whole patients (by patient), which is the one to trust when patients have several cases. "
    "* p < 0.05, † p < 0.01, not corrected for the number of classes and metrics. n: cases with a value for every model; "
    "(-k): k cases left out because one has none."
)


def sign_flip_test(
    differences: Sequence[float] | np.ndarray, clusters: Sequence[str] | None = None, draws: int = 9999, seed: int = 0
) -> float:
    """Two-sided paired permutation test of the mean difference.

    Under the hypothesis that the models are exchangeable, each cluster's differences may all change sign together. Up to
    14 clusters every assignment is tried; above, `draws` random ones, the observed one counted among them.

    Args:
        differences: model A minus model B, one per case.
        clusters: the patient of each case; None makes each case its own cluster (the paper's paired test).
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
        signs = np.array(list(itertools.product((1, -1), repeat=len(sums))))
        return float(np.mean(np.abs(signs @ sums) >= limit))
    rng = np.random.default_rng(seed)
    hits = 1
    for start in range(0, draws, 1000):
        signs = rng.integers(0, 2, size=(min(1000, draws - start), len(sums))) * 2 - 1
        hits += int(np.count_nonzero(np.abs(signs @ sums) >= limit))
    return hits / (draws + 1)


def compare(tables: Mapping[str, pd.DataFrame], draws: int = 9999, seed: int = 0) -> pd.DataFrame:
    """Compare models class by class and metric by metric, on the cases that all of them have a value for.

    Args:
        tables: model name -> its case table from `comparison.measure`; at least two.
        draws: of the permutation tests.
        seed: of the permutation tests.

    Returns:
        One row per class, metric and pair: cases and patients compared, cases left out because a model has no value
        (HD95 and ASD of a miss), the two means, their difference, and the p of ANOVA (over all models), Tukey's HSD, the
        paired permutation test, and the one clustered by patient.
    """
    names = list(tables)
    first = tables[names[0]]
    rows: list[dict[str, Any]] = []
    for name, metric in itertools.product(dict.fromkeys(first["class"]), METRICS):
        columns = {
            model: table[table["class"] == name].set_index("case")[metric].rename(model)
            for model, table in tables.items()
        }
        joined = pd.concat(columns.values(), axis=1)
        complete = joined.dropna()
        scored = joined.dropna(how="all")
        patients = first[first["class"] == name].set_index("case")["patient"].reindex(complete.index).tolist()
        groups = [complete[model].to_numpy(dtype=float) for model in names]
        anova, tukey = _paper_tests(groups)
        for a, b in itertools.combinations(range(len(names)), 2):
            difference = groups[a] - groups[b]
            rows.append(
                {
                    "class": name,
                    "metric": metric,
                    "model_a": names[a],
                    "model_b": names[b],
                    "cases": len(complete),
                    "patients": len(set(patients)),
                    "left_out": len(scored) - len(complete),
                    "mean_a": groups[a].mean() if len(complete) else math.nan,
                    "mean_b": groups[b].mean() if len(complete) else math.nan,
                    "difference": difference.mean() if len(complete) else math.nan,
                    "p_anova": anova,
                    "p_tukey": float(tukey[a, b]),
                    "p_permutation": sign_flip_test(difference, None, draws, seed),
                    "p_permutation_by_patient": sign_flip_test(difference, patients, draws, seed),
                }
            )
    return pd.DataFrame(rows)


def _paper_tests(groups: Sequence[np.ndarray]) -> tuple[float, np.ndarray]:
    """ANOVA's p and Tukey's p per pair; NaN where there is no variance or fewer than two cases to take one from."""
    nothing = np.full((len(groups), len(groups)), math.nan)
    if len(groups[0]) < 2 or all(np.ptp(g) == 0 for g in groups):
        return math.nan, nothing
    return float(stats.f_oneway(*groups).pvalue), np.asarray(stats.tukey_hsd(*groups).pvalue)


def cells(comparison: pd.DataFrame) -> list[list[str]]:
    """The comparison as text, heading first."""
    heading = [
        "class",
        "metric",
        "A",
        "B",
        "n",
        "patients",
        "mean A",
        "mean B",
        "A - B",
        "ANOVA",
        "Tukey HSD",
        "permutation",
        "by patient",
    ]
    lines = [heading]
    for row in comparison.to_dict("records"):
        digits = 3 if row["metric"] == "dsc" else 1
        means = [f"{row[k]:.{digits}f}" for k in ("mean_a", "mean_b")] + [f"{row['difference']:+.{digits}f}"]
        p_values = [_p(row[k]) for k in ("p_anova", "p_tukey", "p_permutation", "p_permutation_by_patient")]
        count = str(row["cases"]) + (f" (-{row['left_out']})" if row["left_out"] else "")
        lines.append(
            [
                row["class"],
                METRICS[row["metric"]],
                row["model_a"],
                row["model_b"],
                count,
                str(row["patients"]),
                *means,
                *p_values,
            ]
        )
    return lines


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    stars = "†" if value < 0.01 else "*" if value < 0.05 else ""
    return ("<0.001" if value < 0.001 else f"{value:.3f}") + stars
