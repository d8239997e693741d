"""The numbers of an `evaluate` report for a release: a table for people, eval_metrics for programs."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

from custom_networks.errors import CaseError

# column of the table -> how its mean is written
SHOWN = {"dsc": ("DSC", 3), "nsd": ("NSD", 3), "hd95_mm": ("HD95 (mm)", 1), "asd_mm": ("ASD (mm)", 1)}


def read_report(folder: str | Path) -> list[dict[str, str]]:
    """Rows of a report's summary.csv, one per class and metric.

    Raises:
        CaseError: it is none of `evaluate`.
    """
    file = Path(folder) / "summary.csv"
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise CaseError(
            f"report {folder}", f"{file} cannot be read ({error.strerror})", "give the output of `evaluate`"
        ) from error
    if not rows or not {"class", "metric", "mean", "sd", "n", "cases", "missed"} <= set(rows[0]):
        raise CaseError(f"report {folder}", "its summary.csv is not one of `evaluate`", "give the output of `evaluate`")
    return rows


def eval_metrics(rows: list[dict[str, str]]) -> dict[str, float]:
    """Mean of each metric and class that was measured, such as `dsc_tumor`."""
    named = {f"{row['metric']}_{_word(row['class'])}": _number(row["mean"]) for row in rows if row["metric"] in SHOWN}
    return {name: round(value, 4) for name, value in named.items() if math.isfinite(value)}


def performance_table(rows: list[dict[str, str]]) -> str:
    """Markdown: a line per class, mean and standard deviation over the cases that were measured."""
    lines = ["| class | cases | missed | " + " | ".join(title for title, _ in SHOWN.values()) + " |"]
    lines.append("|---" * (3 + len(SHOWN)) + "|")
    for name in dict.fromkeys(row["class"] for row in rows):
        of = {row["metric"]: row for row in rows if row["class"] == name}
        first = next(iter(of.values()))
        cells = [_cell(of.get(metric), digits) for metric, (_, digits) in SHOWN.items()]
        lines.append(f"| {name} | {first['cases']} | {first['missed']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: dict[str, str] | None, digits: int) -> str:
    if row is None or not math.isfinite(_number(row["mean"])):
        return "not measured"
    spread = _number(row["sd"])
    shown = f"{_number(row['mean']):.{digits}f}" + (f" ± {spread:.{digits}f}" if math.isfinite(spread) else "")
    return shown if row["n"] == row["cases"] else f"{shown} (n = {row['n']})"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _word(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()
