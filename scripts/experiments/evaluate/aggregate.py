"""The summary of an evaluation: what is averaged, what is counted, and how it is printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

# column of the case table -> its heading
METRICS = {"dsc": "DSC", "hd95_mm": "HD95 (mm)", "asd_mm": "ASD (mm)"}

NOTE = (
    "DSC counts a missed or falsely found class as 0. HD95 and ASD do not exist there: n is the number measured; read it "
    "with the misses. A class absent from label and prediction is not scored. The interval is a 95 % bootstrap by patient."
)


def bootstrap_interval(
    values: np.ndarray, patients: Sequence[str], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean over cases, drawing whole patients, because cases of one patient are not independent.

    Args:
        values: one per case, none NaN.
        patients: the patient of each.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        Lower and upper bound; NaN for fewer than two patients.
    """
    _, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    groups = int(index.max()) + 1 if len(index) else 0
    if groups < 2:
        return math.nan, math.nan
    sums, counts = np.bincount(index, weights=values), np.bincount(index)
    drawn = np.random.default_rng(seed).integers(groups, size=(draws, groups))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def summarise(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Summarise a case table.

    Args:
        table: from `comparison.measure`.
        seed: of the bootstrap.

    Returns:
        One row per class and metric: n measured, mean, sd (n - 1), 95 % interval of the mean, median, quartiles, minimum,
        maximum, and per class the cases and patients in which it was scored, misses and false positives.
    """
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(table["class"]):
        part = table[table["class"] == name]
        scored = part[part["outcome"] != "absent"]
        for metric in METRICS:
            present = scored[scored[metric].notna()]
            values = present[metric].to_numpy(dtype=float)
            low, high = bootstrap_interval(values, present["patient"].tolist(), seed=seed)
            q1, median, q3 = np.percentile(values, [25, 50, 75]) if len(values) else [math.nan] * 3
            rows.append(
                {
                    "class": name,
                    "metric": metric,
                    "n": len(values),
                    "mean": values.mean() if len(values) else math.nan,
                    "sd": values.std(ddof=1) if len(values) > 1 else math.nan,
                    "ci_low": low,
                    "ci_high": high,
                    "median": median,
                    "q1": q1,
                    "q3": q3,
                    "min": values.min() if len(values) else math.nan,
                    "max": values.max() if len(values) else math.nan,
                    "cases": len(scored),
                    "patients": scored["patient"].nunique(),
                    "missed": int(scored["missed"].sum()),
                    "false_positive": int(scored["false_positive"].sum()),
                }
            )
    return pd.DataFrame(rows)


def cells(summary: pd.DataFrame) -> list[list[str]]:
    """The summary as text, heading first: what the terminal and the report show."""
    heading = ["class", "metric", "n", "mean", "SD", "95 % interval", "median", "quartiles", "missed", "false pos."]
    lines = [heading]
    for row in summary.to_dict("records"):
        digits = 3 if row["metric"] == "dsc" else 1
        show = [
            f"{row[k]:.{digits}f}" if not math.isnan(row[k]) else "-"
            for k in ("mean", "sd", "ci_low", "ci_high", "median", "q1", "q3")
        ]
        interval, quartiles = (f"{a} to {b}" if a != "-" else "-" for a, b in (show[2:4], show[5:7]))
        lines.append(
            [
                row["class"],
                METRICS[row["metric"]],
                f"{row['n']} of {row['cases']}",
                show[0],
                show[1],
                interval,
                show[4],
                quartiles,
                str(row["missed"]),
                str(row["false_positive"]),
            ]
        )
    return lines


def as_text(lines: Sequence[Sequence[str]], left: int = 2) -> str:
    """Align rows of cells, the first `left` columns to the left, under a heading that is underlined."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])
