"""Box plots of scores by class, as in the PocketNet paper's Figure 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from scripts.core.files import atomic_file
from scripts.core.look import colours, plain_text

# more boxes than this do not stand side by side
UPRIGHT = 14


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
        with atomic_file(file) as partial:
            figure.savefig(partial)


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
            lines = [plain_text(name), *([plain_text(model)] if models > 1 else [])]
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
