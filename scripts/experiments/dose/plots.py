"""Dose-volume histograms of a case as a picture: the manual contour drawn through, the automatic one dashed."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scripts.core.files import atomic_file
from scripts.core.look import colours, plain_text
from scripts.experiments.dose.case import Measured
from scripts.experiments.dose.dvh import Histogram

# offset and lengths of dashes
STYLES: dict[str, tuple[float, tuple[float, ...]]] = {"manual": (0.0, ()), "automatic": (0.0, (4.0, 2.0))}
# points of a curve
POINTS = 400


def plot_dvh(found: Measured, file: Path, prescription: float | None = None) -> bool:
    """Draw the histograms of a case.

    Args:
        found: the case.
        file: PNG or SVG to write.
        prescription: Gy, drawn as a vertical line.

    Returns:
        Whether there was one to draw: structures that leave the dose grid have none.
    """
    palette = colours([one.name for one in found.structures])
    drawn = {one.name: one for one in found.structures if any(map(_whole, one.histograms.values()))}
    if not drawn:
        return False
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        shown = [
            _curve(axes, one, palette[name], STYLES[contour])
            for name, structure in drawn.items()
            for contour, one in structure.histograms.items()
            if one is not None and _whole(one)
        ]
        if prescription is not None:
            axes.axvline(prescription, color="#777777", linewidth=0.9, zorder=1)
            axes.text(prescription, 101, "prescribed", ha="center", va="bottom", color="#555555", fontsize=8)
        # the last tenth of a per cent beside a source has doses that would squeeze everything else
        axes.set(xlabel="Dose (Gy)", ylabel="Volume (%)", xlim=(0, 1.05 * max(shown)), ylim=(0, 105))
        axes.grid(color="#e4e4e4", linewidth=0.8)
        handles = [Line2D([], [], color=palette[name], label=plain_text(name)) for name in drawn]
        handles += [
            Line2D([], [], color="#333333", linestyle=style, label=contour)
            for contour, style in STYLES.items()
            if any(_whole(one.histograms.get(contour)) for one in drawn.values())
        ]
        axes.legend(handles=handles, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.set_title(plain_text(found.case.name), fontsize=10, loc="left")
        with atomic_file(file) as partial:
            figure.savefig(partial)
    return True


def _whole(found: Histogram | None) -> bool:
    return found is not None and not found.outside


def _curve(axes: Axes, found: Histogram, colour: str, style: tuple[float, tuple[float, ...]]) -> float:
    """Draw one curve; returns the dose that its most exposed half per cent has."""
    share = 100 * found.reached / found.volume
    index = np.unique(np.searchsorted(share, np.linspace(0, share[-1], POINTS)).clip(max=len(share) - 1))
    dose, volume = found.dose[index], share[index]
    # the whole structure has at least the lowest dose
    axes.plot([*dose, 0.0], [*volume, 100.0], color=colour, linestyle=style, linewidth=1.5)
    return float(np.interp(0.5, share, found.dose))
