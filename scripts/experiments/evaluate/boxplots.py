"""The pictures of an evaluation: which cases are drawn, and the box plots of the PocketNet paper's Figure 4."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from custom_networks import case_name
from scripts.experiments.evaluate.measure import Classes
from scripts.experiments.evaluate.overlay import colours, load, overlay

# more boxes than this do not stand side by side
UPRIGHT = 14


def target_class(classes: Classes) -> str:
    """The class that decides which cases and slices are shown: the tumour, else the HR-CTV, else the last one."""
    by_lower = {name.lower(): name for name in classes}
    return by_lower.get("tumor") or by_lower.get("hr-ctv") or list(classes)[-1]


def choose_cases(table: pd.DataFrame, target: str, count: int) -> list[tuple[str, str]]:
    """Pick cases from best to worst by the target's DSC, evenly spaced in rank, extremes and median included.

    Returns:
        (rank, case): rank is `best`, `median`, `worst` or `rank 2 of 9`.
    """
    part = table[(table["class"] == target) & table["dsc"].notna() & (table["outcome"] != "no prediction")]
    ordered = part.sort_values(["dsc", "case"], ascending=[False, True])["case"].tolist()
    if not ordered or count < 1:
        return []
    last = len(ordered) - 1
    ranks = sorted({i * last // max(1, count - 1) for i in range(count)}) if count > 1 else [last // 2]
    words = {0: "best", last: "worst", **({last // 2: "median"} if last > 1 else {})}
    return [(words.get(r, f"rank {r + 1} of {last + 1}"), ordered[r]) for r in ranks]


def box_plots(tables: Mapping[str, pd.DataFrame], file: Path) -> None:
    """Box plots of DSC and HD95 by class (PocketNet paper, Figure 4), models side by side.

    Box: quartiles and median; whiskers: the last value within 1.5 times the interquartile range; circles: outliers;
    cross: mean. Misses are counted at the HD95 axis, where they have no value. Many boxes lie on their side, below each
    other, without the classes that no case has.

    Args:
        tables: model name -> case table; the first is the model evaluated.
        file: PNG to write.
    """
    first = next(iter(tables.values()))
    classes = list(dict.fromkeys(first["class"]))
    palette = colours(classes)
    lying = len(classes) * len(tables) > UPRIGHT
    if lying:
        present = set(first.loc[first["outcome"] != "absent", "class"])
        classes = [name for name in classes if name in present] or classes
    boxes = len(classes) * len(tables)
    size = (13.0, 1.0 + 0.24 * boxes) if lying else (2 * max(3.6, 1.1 + 0.75 * boxes), 4.2)
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=size, dpi=100 if lying else 150, layout=ConstrainedLayoutEngine(wspace=0.06))
        FigureCanvasAgg(figure)
        for axes, metric, label in zip(
            figure.subplots(1, 2),
            ("dsc", "hd95_mm"),
            ("Dice similarity coefficient", "95th percentile Hausdorff distance (mm)"),
            strict=True,
        ):
            _boxes(axes, tables, classes, palette, metric, lying)
            limits = (-0.02, 1.02) if metric == "dsc" else (0, None)
            axes.set(**({"xlabel": label, "xlim": limits} if lying else {"ylabel": label, "ylim": limits}))
            axes.grid(axis="x" if lying else "y", color="#e4e4e4", linewidth=0.8)
            axes.set_axisbelow(True)
        figure.savefig(file)


def _boxes(
    axes: Axes,
    tables: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
    palette: Mapping[str, str],
    metric: str,
    lying: bool,
) -> None:
    models = len(tables)
    ticks, texts = [], []
    for c, name in enumerate(classes):
        for m, (model, table) in enumerate(tables.items()):
            part = table[(table["class"] == name) & (table["outcome"] != "absent")]
            values = part[metric].dropna().to_numpy(dtype=float)
            position = c * (models + 0.6) + m
            axes.boxplot(
                [values],
                positions=[position],
                widths=0.62,
                orientation="horizontal" if lying else "vertical",
                patch_artist=True,
                showmeans=True,
                manage_ticks=False,
                boxprops={
                    "facecolor": mpl.colors.to_rgba(palette[name], 0.75 if m == 0 else 0.3),
                    "edgecolor": "#222222",
                },
                medianprops={"color": "#111111", "linewidth": 1.6},
                whiskerprops={"color": "#222222"},
                capprops={"color": "#222222"},
                meanprops={"marker": "x", "markeredgecolor": "#111111", "markersize": 5},
                flierprops={"marker": "o", "markerfacecolor": "none", "markeredgecolor": "#555555", "markersize": 4},
            )
            ticks.append(position)
            missed = int(part["missed"].sum())
            lines = [name] if m == 0 or models > 1 else []
            lines += [model] if models > 1 else []
            lines.append(f"n = {len(values)}")
            lines += [f"{missed} missed"] if missed and metric != "dsc" else []
            texts.append((", " if lying else "\n").join(lines))
    limits = (min(ticks) - 0.7, max(ticks) + 0.7)
    if lying:
        axes.set_yticks(ticks, texts, fontsize=8)
        axes.set_ylim(limits[::-1])
    else:
        axes.set_xticks(ticks, texts, fontsize=9 if models == 1 else 7.5)
        axes.set_xlim(limits)


def write_pictures(
    tables: Mapping[str, pd.DataFrame],
    cases: Sequence[Mapping[str, Any]],
    predictions: Path,
    classes: Classes,
    modality: str,
    output: Path,
    count: int,
) -> list[tuple[str, Path]]:
    """Write the box plots and `count` overlays.

    Returns:
        Caption and file of each picture, box plots first.
    """
    output.mkdir(parents=True, exist_ok=True)
    written = [("DSC and HD95 by class", output / "boxplots.png")]
    box_plots(tables, written[0][1])
    table, target = next(iter(tables.values())), target_class(classes)
    by_name = {case_name(case): case for case in cases}
    for rank, name in choose_cases(table, target, count):
        rows = table[table["case"] == name].set_index("class")
        scores = {c: _score(rows.loc[c]) for c in classes}
        file = output / f"{rank.replace(' ', '_')}_{name}.png"
        title = f"{name}: {rank} by DSC of {target}" if len(table["case"].unique()) > 1 else name
        overlay(load(by_name[name], predictions), classes, target, modality, title, scores, file)
        written.append((title, file))
    return written


def _score(row: Any) -> str:
    if row["outcome"] != "found":
        return str(row["outcome"])
    hd95 = "" if math.isnan(row["hd95_mm"]) else f", HD95 {row['hd95_mm']:.1f} mm, ASD {row['asd_mm']:.1f} mm"
    return f"DSC {row['dsc']:.2f}{hd95}, {row['label_ml']:.1f} ml (predicted {row['pred_ml']:.1f})"
