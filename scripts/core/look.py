"""How images and classes look everywhere: colours, grey range, and one slice of a case as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle

import numpy as np

# organ and tumour as in the PocketNet paper, the brachytherapy ones as in GynBTNet's Figure 5
COLOURS = {
    "organ": "#3d8bff",
    "tumor": "#ffd500",
    "tumour": "#ffd500",
    "hr-ctv": "#ff4136",
    "uterus": "#3d8bff",
    "sigmoid": "#2ecc40",
    "bladder": "#ffd500",
    "rectum": "#b5773c",
}
# bright enough on grey and on black, and told apart by most people with a colour vision deficiency
PALETTE = (
    "#f781bf",
    "#00c2c7",
    "#ff851b",
    "#b07aff",
    "#9acd32",
    "#aaffc3",
    "#ff4136",
    "#3d8bff",
    "#ffd500",
    "#b5773c",
)
# both spellings of the one class that chooses slices and may lie inside another
TUMOR_NAMES = ("tumor", "tumour")


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour per class as #rrggbb: the papers' where they have one, else the next of a palette that none of them has."""
    known = {name: COLOURS[name.lower()] for name in names if name.lower() in COLOURS}
    free = cycle([colour for colour in PALETTE if colour not in known.values()])
    return {name: known.get(name) or next(free) for name in names}


def label_colors(labels: Mapping[int, str]) -> dict[int, tuple[int, int, int]]:
    """Colour (red, green, blue) of every foreground label, by `colours`."""
    palette = colours([name for value, name in labels.items() if value])
    return {value: _rgb(palette[name]) for value, name in labels.items() if value}


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def grey_range(image: np.ndarray, modality: str) -> tuple[float, float]:
    """What is black and what is white: soft tissue for CT in HU, else the 1st to the 99.8th percentile of the tissue."""
    finite = image[np.isfinite(image)]
    if not finite.size:
        return 0.0, 1.0
    if modality.upper() == "CT" and float(np.percentile(finite, 1)) < -200:
        return -160.0, 240.0
    # air around the patient is not tissue
    tissue = finite[finite > finite.mean() * 0.2]
    low, high = (float(v) for v in np.percentile(tissue if tissue.size else finite, (1, 99.8)))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    return low, high if high > low else low + 1.0


def plain_text(text: str) -> str:
    """A name from outside for matplotlib: no mathematics mode, no characters that a font cannot draw."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text).replace("$", r"\$")


def slice_picture(
    image: np.ndarray, label: np.ndarray | None, spacing: Sequence[float], labels: Mapping[int, str], modality: str = ""
) -> tuple[np.ndarray, float]:
    """Draw the slice with most of the last label in it (the tumour, where there is one), in the finest plane.

    Args:
        image: (L, P, S).
        label: (L, P, S) whole numbers, or None.
        spacing: mm along L, P, S.
        labels: label value to name.
        modality: chooses the grey window.

    Returns:
        (H, W, 3) uint8 as a radiologist looks at it (patient's right on the left, anterior or superior at the top), and
        the height of a pixel divided by its width.
    """
    # the plane across the one coarse axis; axial where there is no such axis
    coarse = int(np.argmax(spacing))
    axis = coarse if all(spacing[coarse] > 1.5 * s for i, s in enumerate(spacing) if i != coarse) else 2
    others = tuple(i for i in range(3) if i != axis)
    index = image.shape[axis] // 2
    if label is not None and label.any():
        values = [value for value in labels if value and (label == value).any()]
        tumor = [value for value in values if labels[value].lower() in TUMOR_NAMES]
        chosen = label == tumor[0] if tumor else label > 0
        index = int(np.argmax(chosen.sum(axis=others)))
    # columns run to the patient's left (or posterior in a sagittal slice), rows to posterior (or inferior)
    flat = image.take(index, axis=axis).T
    mask = None if label is None else label.take(index, axis=axis).T
    rows, columns = others[1], others[0]
    if rows == 2:
        flat, mask = flat[::-1], None if mask is None else mask[::-1]
    flat, mask = _closer(flat, mask, float(spacing[rows]), float(spacing[columns]))
    low, high = grey_range(image[tuple(slice(None, None, max(1, n // 64)) for n in image.shape)], modality)
    finite = np.nan_to_num(flat.astype(np.float32), nan=low, posinf=high, neginf=low)
    grey = np.clip((finite - low) / (high - low), 0, 1) * 255
    picture = np.repeat(grey[..., None], 3, axis=2)
    if mask is not None:
        _overlay(picture, mask, labels)
    return picture.astype(np.uint8), float(spacing[rows] / spacing[columns])


def _closer(
    flat: np.ndarray, mask: np.ndarray | None, row_mm: float, column_mm: float, least: float = 0.3
) -> tuple[np.ndarray, np.ndarray | None]:
    """Cut to a square around the label, so that the label fills at least `least` of the picture's side."""
    if mask is None or not mask.any():
        return flat, mask
    rows, columns = np.nonzero(mask)
    side = max((np.ptp(rows) + 1) * row_mm, (np.ptp(columns) + 1) * column_mm) / least
    cut = []
    for found, mm, length in ((rows, row_mm, flat.shape[0]), (columns, column_mm, flat.shape[1])):
        centre, half = (int(found.min()) + int(found.max())) / 2, side / mm / 2
        cut.append(slice(max(0, int(centre - half)), min(length, int(centre + half) + 1)))
    return flat[cut[0], cut[1]], mask[cut[0], cut[1]]


def _overlay(picture: np.ndarray, mask: np.ndarray, labels: Mapping[int, str]) -> None:
    values = [int(v) for v in np.unique(mask) if v]
    colors = label_colors(labels or {v: f"label {v}" for v in values})
    for value in values:
        color = np.array(colors.get(value, (255, 0, 0)), dtype=np.float32)
        inside = mask == value
        edge = inside & ~_eroded(inside)
        picture[inside] = 0.75 * picture[inside] + 0.25 * color
        picture[edge] = color


def _eroded(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
