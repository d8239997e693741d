"""Overlays as a radiologist reads them: image, truth and prediction side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from scripts.core.classes import Classes
from scripts.core.datalist import Case
from scripts.core.files import atomic_file
from scripts.core.look import colours, grey_range, plain_text
from scripts.core.predictions import read_with_image, region

# so many classes have a name and a colour of their own in one picture; the rest is grey
MOST, GREY = 10, "#8a8a8a"
LEGEND_COLUMNS = 6
MARGIN_MM = 30.0
READABLE = [withStroke(linewidth=2.0, foreground="black")]
NAMES = {0: "sagittal", 1: "coronal", 2: "axial"}


@dataclass
class DisplayedCase:
    """Image, truth and prediction with axes towards the patient's left, posterior and superior (LPS)."""

    image: np.ndarray
    truth: np.ndarray
    pred: np.ndarray
    spacing: np.ndarray
    plane: int  # axis across the slices the scanner made


def load(case: Case, predictions: Path) -> DisplayedCase:
    """Read a case for display, its axes turned (never resampled) to LPS.

    Raises:
        CaseError: see `read_with_image`.
    """
    return displayed(*read_with_image(case, predictions))


def displayed(image: np.ndarray, truth: np.ndarray, pred: np.ndarray, affine: np.ndarray) -> DisplayedCase:
    """Turn a case's arrays (X, Y, Z) on one grid to LPS, without resampling; the affine is in RAS+ mm."""
    current = nib.orientations.io_orientation(affine)
    turn = nib.orientations.ornt_transform(current, nib.orientations.axcodes2ornt(("L", "P", "S")))
    voxels = [nib.orientations.apply_orientation(array, turn) for array in (image, truth, pred)]
    spacing = np.empty(3)
    spacing[turn[:, 0].astype(int)] = nib.affines.voxel_sizes(affine)
    # nearly isotropic volumes are read in axial slices
    plane = int(np.argmax(spacing)) if spacing.max() > 1.2 * np.median(spacing) else 2
    return DisplayedCase(voxels[0].astype(np.float32), voxels[1], voxels[2], spacing, plane)


def _cut(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """One slice as (rows, columns); rows towards posterior (axial) or superior."""
    return np.take(volume, index, axis=axis).T


def _best_slice(truth: np.ndarray, pred: np.ndarray, axis: int) -> int:
    mask = truth if truth.any() else pred
    area = mask.sum(axis=tuple(a for a in range(3) if a != axis))
    return int(np.argmax(area)) if area.any() else mask.shape[axis] // 2


def _extent(volume: DisplayedCase, axis: int) -> tuple[list[float], bool]:
    """Edges in mm (left, right, bottom, top) for imshow with rows as `_cut` gives them, and whether row 0 is at the top."""
    columns, rows = (a for a in range(3) if a != axis)
    width, height = (volume.spacing[a] * volume.image.shape[a] for a in (columns, rows))
    upper = axis == 2
    return ([0.0, width, height, 0.0] if upper else [0.0, width, 0.0, height]), upper


def _letters(axes: Axes, axis: int) -> None:
    left, right = ("A", "P") if axis == 0 else ("R", "L")
    top, bottom = ("A", "P") if axis == 2 else ("S", "I")
    style: dict[str, Any] = {
        "transform": axes.transAxes,
        "color": "white",
        "fontsize": 9,
        "fontweight": "bold",
        "path_effects": READABLE,
    }
    for x, y, text, h, v in (
        (0.02, 0.5, left, "left", "center"),
        (0.98, 0.5, right, "right", "center"),
        (0.5, 0.98, top, "center", "top"),
        (0.5, 0.02, bottom, "center", "bottom"),
    ):
        axes.text(x, y, text, ha=h, va=v, **style)


def _draw(axes: Axes, volume: DisplayedCase, axis: int, index: int, grey: tuple[float, float]) -> None:
    extent, upper = _extent(volume, axis)
    axes.imshow(
        _cut(volume.image, axis, index),
        cmap="gray",
        vmin=grey[0],
        vmax=grey[1],
        interpolation="bilinear",
        extent=(extent[0], extent[1], extent[2], extent[3]),
        origin="upper" if upper else "lower",
        aspect="equal",
    )
    axes.set(xticks=[], yticks=[], facecolor="black")
    for spine in axes.spines.values():
        spine.set_visible(False)
    _letters(axes, axis)


def _outline(
    axes: Axes,
    mask: np.ndarray,
    volume: DisplayedCase,
    axis: int,
    colour: str,
    fill: float = 0.22,
    style: str = "solid",
) -> None:
    if not mask.any():
        return
    columns, rows = (a for a in range(3) if a != axis)
    # a rim of background closes contours of masks that touch the edge
    padded = np.pad(mask.astype(np.float32), 1)
    x = (np.arange(-1, mask.shape[1] + 1) + 0.5) * volume.spacing[columns]
    y = (np.arange(-1, mask.shape[0] + 1) + 0.5) * volume.spacing[rows]
    if fill:
        axes.contourf(x, y, padded, levels=[0.5, 1.5], colors=[colour], alpha=fill)
    axes.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=1.5 if fill else 1.0, linestyles=[style])


def _zoom(volume: DisplayedCase, axis: int) -> tuple[float, float, float, float]:
    """Limits in mm around truth and prediction of the whole volume, at least 120 mm wide, inside the image."""
    limits = []
    mask = (volume.truth > 0) | (volume.pred > 0)
    for a in (a for a in range(3) if a != axis):
        full = volume.spacing[a] * volume.image.shape[a]
        hit = np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != a)))
        low, high = (hit[0] * volume.spacing[a], (hit[-1] + 1) * volume.spacing[a]) if hit.size else (0.0, full)
        half = min(max(high - low + 2 * MARGIN_MM, 120.0), full) / 2
        centre = min(max((low + high) / 2, half), full - half)
        limits += [centre - half, centre + half]
    return limits[0], limits[1], limits[2], limits[3]


def overlay(
    volume: DisplayedCase,
    classes: Classes,
    target: str,
    modality: str,
    title: str,
    scores: Mapping[str, str],
    file: Path,
    headings: Sequence[str] = ("image", "truth", "prediction"),
) -> None:
    """Draw image, truth and prediction side by side, in the scanner's slices and across them, where the target is largest.

    Radiological convention: the patient's right is at the left of the picture. Pixels are square in mm. The dashed line
    in the prediction's panel is the truth.

    Args:
        volume: from `load`.
        classes: name -> label values.
        target: the class that chooses the slices.
        modality: `mr` or `ct`.
        title: first line.
        scores: of each class, below it, two to a line. Of more than ten classes those largest in the slices are named.
        file: PNG to write.
        headings: of the three panels, where truth and prediction are something else.
    """
    grey = grey_range(volume.image, modality)
    planes = (volume.plane, 0 if volume.plane != 0 else 2)
    target_masks = region(volume.truth, classes[target]), region(volume.pred, classes[target])
    slices = {axis: _best_slice(*target_masks, axis) for axis in planes}
    named = _named(volume, classes, slices)
    palette = dict.fromkeys(classes, GREY) | colours(named)
    limits = [_zoom(volume, axis) for axis in planes]
    heights = [(top - bottom) / (right - left) for left, right, bottom, top in limits]
    width = 3.6
    text = [plain_text(f"{name}: {scores[name]}") for name in named]
    if len(named) < len(classes):
        text.append(f"and {len(classes) - len(named)} more classes, grey: see cases.csv")
    legend_rows = math.ceil((len(named) + 1) / LEGEND_COLUMNS)
    top_inches, bottom_inches = 0.52 + 0.2 * math.ceil(len(text) / 2), 0.08 + 0.2 * legend_rows
    total = width * sum(heights) + top_inches + bottom_inches
    figure = Figure(figsize=(3 * width + 0.1, total), facecolor="black", dpi=130)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2,
        3,
        height_ratios=heights,
        left=0.005,
        right=0.995,
        top=1 - top_inches / total,
        bottom=bottom_inches / total,
        wspace=0.02,
        hspace=0.03,
    )
    for row, (axis, (left, right, bottom, top)) in enumerate(zip(planes, limits, strict=True)):
        index = slices[axis]
        for column, heading in enumerate(headings):
            axes = figure.add_subplot(grid[row, column])
            _draw(axes, volume, axis, index, grey)
            for name, values in classes.items():
                truth, pred = (region(_cut(m, axis, index), values) for m in (volume.truth, volume.pred))
                if column:
                    _outline(axes, truth if column == 1 else pred, volume, axis, palette[name])
                if column == 2:
                    _outline(axes, truth, volume, axis, palette[name], fill=0, style="dashed")
            axes.set(xlim=(left, right), ylim=(top, bottom) if axis == 2 else (bottom, top))
            if row == 0:
                axes.set_title(plain_text(heading), color="white", fontsize=11, pad=4)
            if column == 0:
                axes.text(
                    0.02,
                    0.98,
                    f"{NAMES[axis]} {index + 1}/{volume.image.shape[axis]}",
                    transform=axes.transAxes,
                    color="white",
                    fontsize=8,
                    va="top",
                    path_effects=READABLE,
                )
                _scale_bar(axes, axis)
    figure.text(0.008, 1 - 0.06 / total, plain_text(title), color="white", fontsize=12, fontweight="bold", va="top")
    for start, x in ((0, 0.008), (1, 0.504)):
        figure.text(
            x, 1 - 0.30 / total, "\n".join(text[start::2]), color="#dddddd", fontsize=8, va="top", linespacing=1.6
        )
    handles: list[Any] = [Patch(facecolor=palette[n], label=plain_text(n)) for n in named]
    over = plain_text(f"{headings[1]}, over the {headings[2]}")
    handles.append(Line2D([], [], color="#dddddd", linestyle="dashed", linewidth=1, label=over))
    figure.legend(
        handles=handles,
        loc="lower right",
        ncols=min(len(handles), LEGEND_COLUMNS),
        frameon=False,
        labelcolor="white",
        fontsize=9,
        bbox_to_anchor=(0.998, -0.002),
        borderaxespad=0.1,
    )
    with atomic_file(file) as partial:
        figure.savefig(partial)


def _named(volume: DisplayedCase, classes: Classes, slices: Mapping[int, int]) -> list[str]:
    """The classes that are named: all, or the largest in the slices drawn, in the order of the data set."""
    if len(classes) <= MOST:
        return list(classes)
    cuts = [_cut(mask, axis, index) for axis, index in slices.items() for mask in (volume.truth, volume.pred)]
    area = {name: sum(int(region(cut, values).sum()) for cut in cuts) for name, values in classes.items()}
    largest = sorted(classes, key=lambda name: -area[name])[:MOST]
    return [name for name in classes if name in largest]


def _scale_bar(axes: Axes, axis: int, length: float = 20.0) -> None:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = left + 0.04 * (right - left), bottom + 0.05 * (top - bottom)
    outline = [withStroke(linewidth=4.0, foreground="black")]
    axes.plot([x, x + length], [y, y], color="white", linewidth=2, solid_capstyle="butt", path_effects=outline)
    axes.text(
        x + length / 2,
        y + 0.015 * (top - bottom),
        f"{length:.0f} mm",
        color="white",
        fontsize=8,
        ha="center",
        va="bottom",
        path_effects=READABLE,
    )
