"""The charts of an evaluation: every case of every class, size against DSC, agreement of volumes, learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from scripts.core.look import colours
from scripts.core.page.charts import Axis, Chart, Curve, Dot, Rule, Spread, Spreads
from scripts.experiments.evaluate.aggregate import CLASS_MEAN, METRICS
from scripts.experiments.evaluate.curves import History

# classes that have charts of their own
MOST_CLASSES = 6


def classes_shown(table: pd.DataFrame, target: str) -> list[str]:
    """The target, then the classes of the lowest mean DSC, as many as have charts of their own."""
    means = table[table["class"] != CLASS_MEAN].groupby("class", sort=False)["dsc"].mean().dropna().sort_values()
    return list(dict.fromkeys([*([target] if target in means else []), *map(str, means.index)]))[:MOST_CLASSES]


def distributions(tables: Mapping[str, pd.DataFrame], order: Sequence[str]) -> list[Spreads]:
    """DSC and HD95 of every case by class, models below each other.

    Args:
        tables: model name -> case table; the first is the model evaluated.
        order: the classes, from the top.
    """
    palette = colours([name for name in order if name != CLASS_MEAN]) | {CLASS_MEAN: "#8a94a0"}
    charts = []
    for metric, title in (("dsc", "DSC by class"), ("hd95_mm", "HD95 by class")):
        rows = []
        for name in order:
            for model, table in tables.items():
                part = table[(table["class"] == name) & (table["outcome"] != "absent")]
                there = part[part[metric].notna()]
                missed = int(part["missed"].sum())
                heading = METRICS[metric].heading.split()[0]
                said = [
                    f"{row['case']}, {name}: {heading} {row[metric]:.{METRICS[metric].digits}f}"
                    for row in there.to_dict("records")
                ]
                note = f"n = {len(there)}" + (f", {missed} missed" if missed else "")
                label = name if len(tables) == 1 else f"{name}, {model}"
                rows.append(Spread(label, there[metric].astype(float).tolist(), said, palette[name], note))
        values = [value for row in rows for value in row.values]
        axis = Axis("DSC", 0, 1) if metric == "dsc" else Axis.around(METRICS[metric].heading, values, low=0)
        charts.append(Spreads(title, axis, rows))
    return charts


def sizes(table: pd.DataFrame, names: Sequence[str]) -> list[Chart]:
    """DSC against true volume, a chart per class; cases without the class are in none."""
    palette, charts = colours(names), []
    for name in names:
        rows = table[(table["class"] == name) & (table["label_ml"] > 0) & table["dsc"].notna()].to_dict("records")
        if not rows:
            continue
        dots = [
            Dot(
                row["label_ml"],
                row["dsc"],
                f"{row['case']}: {row['label_ml']:.1f} ml, DSC {row['dsc']:.3f}",
                palette[name],
            )
            for row in rows
        ]
        axis = Axis.around("true volume (ml)", [dot.x for dot in dots], log=True)
        charts.append(Chart(f"Size and DSC: {name}", axis, Axis("DSC", 0, 1), dots))
    return charts


def volume_agreement(table: pd.DataFrame, names: Sequence[str]) -> list[Chart]:
    """Bland and Altman's plot of volumes, a chart per class: difference against mean, with the limits of agreement."""
    palette, charts = colours(names), []
    for name in names:
        rows = table[(table["class"] == name) & table["volume_error_ml"].notna()].to_dict("records")
        if not rows:
            continue
        dots = [
            Dot(
                (row["label_ml"] + row["pred_ml"]) / 2,
                row["volume_error_ml"],
                f"{row['case']}: true {row['label_ml']:.1f} ml, predicted {row['pred_ml']:.1f} ml",
                palette[name],
            )
            for row in rows
        ]
        rules = limits_of_agreement([dot.y for dot in dots])
        x = Axis.around("mean of both (ml)", [dot.x for dot in dots])
        y = Axis.around("predicted − true (ml)", [*(dot.y for dot in dots), *(rule.y for rule in rules), 0.0])
        charts.append(Chart(f"Volumes: {name}", x, y, dots, rules=rules))
    return charts


def limits_of_agreement(differences: Sequence[float]) -> list[Rule]:
    """Mean difference, and mean ± 1.96 SD where there are three differences or more."""
    values = pd.Series(differences, dtype=float)
    mean, sd = float(values.mean()), float(values.std())
    rules = [Rule(mean, f"mean {mean:+.1f}")]
    if len(values) >= 3 and sd > 0:
        rules += [Rule(mean + sign * 1.96 * sd, f"{mean + sign * 1.96 * sd:+.1f}", dashed=True) for sign in (1, -1)]
    return rules


def learning_curves(histories: Mapping[str, History]) -> list[Chart]:
    """A chart per metric: its values by epoch in every training."""
    palette = colours(histories)
    charts = []
    for metric in dict.fromkeys(name for history in histories.values() for name in history):
        curves = [
            Curve(sorted(history[metric].items()), training, palette[training])
            for training, history in histories.items()
            if metric in history
        ]
        points = [point for curve in curves for point in curve.points if math.isfinite(point[1])]
        if not points:
            continue
        bounds = (0.0, 1.0) if metric == "val_dice" else (None, None)
        x, y = Axis.around("epoch", [p[0] for p in points]), Axis.around(metric, [p[1] for p in points], *bounds)
        charts.append(Chart(f"Training: {metric}", x, y, curves=curves))
    return charts
