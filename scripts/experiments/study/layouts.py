"""The tables of the two papers, from the summaries of a study."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from scripts.experiments.evaluate.aggregate import METRICS
from scripts.experiments.evaluate.significance import TESTS
from scripts.experiments.study.typeset import Cell, Table

SHOWN = ("dsc", "hd95_mm", "asd_mm")
HIGH_IS_GOOD = frozenset(["dsc", "nsd"])
NOTE = "Mean ± SD over cases; bold: best mean. Distances are of the cases that have one: read them with the misses."


@dataclass(frozen=True)
class Value:
    """Mean and SD over cases, and how many cases have a value."""

    mean: float
    sd: float
    n: int


# by arm, class and metric
Values = Mapping[tuple[str, str, str], Value]


def values_of(summaries: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str, str], Value]:
    """Means and SDs of summaries.

    Args:
        summaries: arm to what `summarise` returned.
    """
    return {
        (arm, str(row["class"]), str(row["metric"])): Value(float(row["mean"]), float(row["sd"]), int(row["n"]))
        for arm, summary in summaries.items()
        for row in summary.to_dict("records")
    }


def by_structure(
    values: Values,
    classes: Sequence[str],
    arms: Sequence[str],
    title: str,
    heading: str = "structure",
    stars: Mapping[tuple[str, str, str], str] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """Arms below each other within each structure: Table 1 of the GynBTNet paper.

    Args:
        values: of each arm, class and metric; what is missing is a dash.
        classes: in the order of the rows.
        arms: in the order of the rows.
        title: of the table.
        heading: of the first column.
        stars: of single values, from `stars_of`.
        notes: below it.
    """
    rows = []
    for name in classes:
        best = {metric: _best(values, name, metric, arms) for metric in SHOWN}
        for arm in arms:
            cells = [
                _cell(
                    values.get((arm, name, metric)),
                    metric,
                    _fine,
                    arm in best[metric],
                    (stars or {}).get((arm, name, metric)),
                )
                for metric in SHOWN
            ]
            rows.append([Cell(name), Cell(arm), *cells])
    return Table(title, [heading, "model", *(METRICS[m].heading for m in SHOWN)], rows, [NOTE, *notes])


def two_arms(
    values: Values,
    classes: Sequence[str],
    arms: Sequence[str],
    title: str,
    heading: str = "structure",
    stars: Mapping[tuple[str, str, str], str] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """Two arms beside each other for each structure, a row for each metric: Table 2 of the GynBTNet paper. See `by_structure`."""
    rows = []
    for metric in SHOWN:
        row = [Cell(METRICS[metric].heading)]
        for name in classes:
            best = _best(values, name, metric, arms)
            row += [
                _cell(
                    values.get((arm, name, metric)),
                    metric,
                    _coarse,
                    arm in best,
                    (stars or {}).get((arm, name, metric)),
                )
                for arm in arms
            ]
        rows.append(row)
    head = [heading, *(f"{name}: {arm}" for name in classes for arm in arms)]
    return Table(title, head, rows, [NOTE, *notes])


def by_data_set(
    sets: Mapping[str, Values], classes: Sequence[str], arms: Sequence[str], title: str, notes: Sequence[str] = ()
) -> Table:
    """Data sets below each other, mean and SD in columns of their own: Table 2 of the PocketNet paper.

    Args:
        sets: heading of a data set to its values.
        classes: in the order of the rows.
        arms: in the order of the rows; named where there are several.
        title: of the table.
        notes: below it.
    """
    rows = []
    for heading, values in sets.items():
        for arm in arms:
            for name in classes:
                cells = [Cell(f"{heading}, {arm}" if len(arms) > 1 else heading), Cell(name)]
                for metric, scale, unit in (("dsc", 100.0, "%"), ("hd95_mm", 1.0, " mm")):
                    value = values.get((arm, name, metric), Value(math.nan, math.nan, 0))
                    cells += [Cell(_number(scale * part, 2, unit)) for part in (value.mean, value.sd)]
                    cells.append(Cell(str(value.n)))
                rows.append(cells)
    head = ["data set", "class"]
    for name in ("DSC", "HD95"):
        head += [f"{name} mean", f"{name} SD", f"{name} n"]
    return Table(title, head, rows, ["SD over cases; n: cases with a value, a missed class has no distance.", *notes])


def stars_of(
    comparison: pd.DataFrame, reference: str, arms: Sequence[str], test: str
) -> dict[tuple[str, str, str], str]:
    """Where one arm is better than every other one, as the paper stars it: * p < 0.05, † p < 0.01 in all comparisons.

    Args:
        comparison: from `compare`, with the reference against every other arm.
        reference: the arm that stars belong to.
        arms: of the table.
        test: column of p.

    Returns:
        Arm, class and metric to stars; nothing where a comparison is missing.
    """
    found = {}
    others = [arm for arm in arms if arm != reference]
    for (name, metric), rows in comparison.groupby(["class", "metric"], sort=False):
        p_values: list[float] = []
        for other in others:
            pair = rows[
                ((rows["model_a"] == reference) & (rows["model_b"] == other))
                | ((rows["model_a"] == other) & (rows["model_b"] == reference))
            ]
            if pair.empty:
                p_values = []
                break
            line = pair.iloc[0]
            gain = line["difference"] * (1 if line["model_a"] == reference else -1)
            better = gain > 0 if metric in HIGH_IS_GOOD else gain < 0
            p_values.append(float(line[test]) if better else 1.0)
        worst = max(p_values, default=math.nan)
        if worst < 0.05:
            found[reference, str(name), str(metric)] = "†" if worst < 0.01 else "*"
    return found


def star_note(reference: str, test: str) -> str:
    """What the stars of a table say."""
    heading, text = TESTS[test]
    return f"* p < 0.05, † p < 0.01: {reference} against every other model by {heading} ({text.split(':')[0].split('.')[0]})."


def _best(values: Values, name: str, metric: str, arms: Sequence[str]) -> set[str]:
    """Arms whose mean is the best of a table, where there is something to compare."""
    means = {arm: values[arm, name, metric].mean for arm in arms if (arm, name, metric) in values}
    known = {arm: mean for arm, mean in means.items() if not math.isnan(mean)}
    if len(known) < 2:
        return set()
    wanted = max(known.values()) if metric in HIGH_IS_GOOD else min(known.values())
    return {arm for arm, mean in known.items() if mean == wanted}


def _cell(value: Value | None, metric: str, form: Callable[[float, str], str], best: bool, stars: str | None) -> Cell:
    if value is None or math.isnan(value.mean):
        return Cell("-")
    return Cell(f"{form(value.mean, metric)} ± {form(value.sd, metric)}", best, stars or "")


def _fine(number: float, metric: str) -> str:
    """Three decimals of DSC; one of millimetres, two below 1 mm."""
    return _number(number, 3 if metric in HIGH_IS_GOOD else 1 if number >= 1 or number == 0 else 2)


def _coarse(number: float, metric: str) -> str:
    return _number(number, 2 if metric in HIGH_IS_GOOD else 1)


def _number(number: float, digits: int, unit: str = "") -> str:
    return "-" if math.isnan(number) else f"{number:.{digits}f}{unit}"
