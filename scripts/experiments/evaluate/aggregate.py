"""What is averaged, what is counted, and how sure an average is: from a case table to the lines of a result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats


class Metric(NamedTuple):
    """How a metric is written, and the values it can have."""

    heading: str
    digits: int
    low: float
    high: float


# column of the case table -> how it is shown
METRICS = {
    "dsc": Metric("DSC", 3, 0, 1),
    "nsd": Metric("NSD", 3, 0, 1),
    "hd95_mm": Metric("HD95 (mm)", 1, 0, math.inf),
    "asd_mm": Metric("ASD (mm)", 1, 0, math.inf),
    "volume_error_ml": Metric("volume error (ml)", 1, -math.inf, math.inf),
    "volume_error_percent": Metric("volume error (%)", 1, -100, math.inf),
}
CLASS_MEAN = "mean over classes"
# fewer patients than this, and misses make the interval narrower than it says
FEW_PATIENTS = 20

NOTE = (
    "DSC and NSD count a missed or falsely found class as 0. HD95 and ASD do not exist there: n is the number measured; "
    "read it with the misses. A class absent from label and prediction is not scored. Volume error: predicted minus true "
    "volume. Mean, SD, median and quartiles are over cases; the mean by patient first averages each patient's cases, and "
    "its interval is Student's t over those means."
)
NOTE_FEW = (
    f"Fewer than {FEW_PATIENTS} patients: the interval holds for scores without misses (at 5 patients it covers the true "
    "mean in 93 to 95 % of studies). Where a tenth of the patients is missed, it covers 83 % at 5 to 10 patients and 90 % "
    "at 20: it is optimistic."
)


def patient_means(values: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Mean of each patient's cases, in the order of the patients' names."""
    _, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    return np.bincount(index, weights=values) / np.bincount(index) if len(index) else np.empty(0)


def t_interval(means: np.ndarray, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
    """95 % interval of a mean over patients by Student's t, cut at the values that are possible.

    Args:
        means: one per patient; over the last axis where there are several.
        low: the least possible value.
        high: the largest possible value.

    Returns:
        Lower and upper bound; NaN for fewer than two patients.
    """
    count = means.shape[-1]
    if count < 2:
        return math.nan, math.nan
    half = stats.t.ppf(0.975, count - 1) * means.std(axis=-1, ddof=1) / math.sqrt(count)
    centre = means.mean(axis=-1)
    return np.clip(centre - half, low, high), np.clip(centre + half, low, high)


def add_class_mean(table: pd.DataFrame) -> pd.DataFrame:
    """Append to a case table, for each case, the mean over the classes scored in it.

    HD95 and ASD are means only where every scored class was measured: a miss would otherwise improve them. Misses and false
    positives are the number of classes missed or falsely found.

    Args:
        table: from `measure`.

    Returns:
        The table with one row more per case, of the class `CLASS_MEAN`; unchanged where there is one class.
    """
    if table["class"].nunique() < 2:
        return table
    rows: list[dict[str, Any]] = []
    for case, lines in table.groupby("case", sort=False):
        scored = lines[lines["outcome"] != "absent"]
        row: dict[str, Any] = dict.fromkeys(table.columns, math.nan)
        row |= {"case": case, "patient": lines["patient"].iloc[0], "class": CLASS_MEAN}
        row |= {name: float(scored[name].mean()) if scored[name].notna().all() else math.nan for name in METRICS}
        row |= {name: int(scored[name].sum()) for name in ("missed", "false_positive")}
        rows.append(row | {"outcome": "found" if len(scored) else "absent"})
    return pd.concat([table, pd.DataFrame(rows, columns=table.columns)], ignore_index=True)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise a case table.

    Args:
        table: from `measure`, or `add_class_mean` of it.

    Returns:
        One row per class and metric: n measured, mean, sd (n - 1), median, quartiles, minimum, maximum over cases; the
        patients measured, the mean over their means and its 95 % interval; and per class the cases scored, misses and
        false positives.
    """
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(table["class"]):
        lines = table[(table["class"] == name) & (table["outcome"] != "absent")]
        for metric, how in METRICS.items():
            present = lines[lines[metric].notna()]
            values = present[metric].to_numpy(dtype=float)
            means = patient_means(values, present["patient"].tolist())
            low, high = t_interval(means, how.low, how.high)
            q1, median, q3 = np.percentile(values, [25, 50, 75]) if len(values) else [math.nan] * 3
            rows.append(
                {
                    "class": name,
                    "metric": metric,
                    "n": len(values),
                    "mean": values.mean() if len(values) else math.nan,
                    "sd": values.std(ddof=1) if len(values) > 1 else math.nan,
                    "median": median,
                    "q1": q1,
                    "q3": q3,
                    "min": values.min() if len(values) else math.nan,
                    "max": values.max() if len(values) else math.nan,
                    "patients": len(means),
                    "mean_by_patient": means.mean() if len(means) else math.nan,
                    "ci_low": low,
                    "ci_high": high,
                    "cases": len(lines),
                    "missed": int(lines["missed"].sum()),
                    "false_positive": int(lines["false_positive"].sum()),
                }
            )
    return pd.DataFrame(rows)


def size_bounds(table: pd.DataFrame, target: str, wanted: Sequence[float] | None = None) -> list[float]:
    """Volumes in ml that separate the strata of size: those wanted, else the thirds of this data set.

    Args:
        table: the case table.
        target: the class whose true volume counts.
        wanted: bounds in ml; none, or thirds of at least six cases, by default.

    Returns:
        Ascending bounds; empty where there are too few cases for thirds.
    """
    volumes = table.loc[(table["class"] == target) & (table["label_ml"] > 0), "label_ml"].to_numpy(dtype=float)
    if wanted is not None:
        return sorted(wanted)
    return [float(v) for v in np.percentile(volumes, [100 / 3, 200 / 3])] if len(volumes) >= 6 else []


def summarise_by_size(table: pd.DataFrame, target: str, bounds: Sequence[float]) -> pd.DataFrame:
    """Summarise one class in strata of its true volume; cases without it are in none.

    Args:
        table: the case table.
        target: the class.
        bounds: from `size_bounds`.

    Returns:
        Rows as of `summarise`, each with `stratum`, such as `5.0 to 20.0 ml`; a bound belongs to the stratum above it. Empty
        without bounds.
    """
    if not bounds:
        return pd.DataFrame()
    lines = table[(table["class"] == target) & (table["label_ml"] > 0)]
    edges = [0.0, *bounds, math.inf]
    found = []
    for low, high in pairwise(edges):
        name = (
            f"under {high:.1f} ml"
            if low == 0
            else f"from {low:.1f} ml"
            if high == math.inf
            else f"{low:.1f} to {high:.1f} ml"
        )
        part = lines[(lines["label_ml"] >= low) & (lines["label_ml"] < high)]
        if len(part):
            found.append(summarise(part).assign(stratum=name))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def cells(summary: pd.DataFrame, yardstick: Mapping[tuple[str, str], str] | None = None) -> list[dict[str, str]]:
    """A summary as text: what the terminal and the page show.

    Args:
        summary: from `summarise` or `summarise_by_size`.
        yardstick: (class, metric) -> how far experts differ; a column where there is any.

    Returns:
        Rows, each heading -> text; none of a class that no case has, see `never_scored`.
    """
    lines = []
    for row in summary[summary["cases"] > 0].to_dict("records"):
        metric = METRICS[row["metric"]]

        def number(key: str, row: Mapping[Any, Any] = row, digits: int = metric.digits) -> str:
            return "-" if math.isnan(row[key]) else f"{row[key]:.{digits}f}"

        def span(low: str, high: str) -> str:
            return "-" if "-" in (low, high) else f"{low} to {high}"

        line = {"stratum": str(row["stratum"])} if "stratum" in row else {}
        line |= {
            "class": str(row["class"]),
            "metric": metric.heading,
            "n": f"{row['n']} of {row['cases']}",
            "mean": number("mean"),
            "SD": number("sd"),
            "median": number("median"),
            "quartiles": span(number("q1"), number("q3")),
            "patients": str(row["patients"]),
            "mean by patient": number("mean_by_patient"),
            "95 % interval": span(number("ci_low"), number("ci_high")),
            "missed": str(row["missed"]),
            "false pos.": str(row["false_positive"]),
        }
        if yardstick:
            line["experts"] = yardstick.get((row["class"], row["metric"]), "")
        lines.append(line)
    return lines


def never_scored(summary: pd.DataFrame) -> str:
    """A sentence that names the classes which no label and no prediction has; empty where there are none."""
    names = list(dict.fromkeys(summary.loc[summary["cases"] == 0, "class"]))
    return f"In no label and no prediction: {', '.join(names)}." if names else ""


def few_patients(summary: pd.DataFrame) -> bool:
    """Whether some interval rests on so few patients that misses make it optimistic."""
    return bool((summary.loc[summary["cases"] > 0, "patients"] < FEW_PATIENTS).any())
