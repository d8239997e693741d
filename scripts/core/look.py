"""One slice of a case as a picture: grey image, labels filled lightly and outlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
# told apart on grey, and by most people with a colour vision deficiency
PALETTE = (
    (230, 85, 60),
    (64, 176, 166),
    (240, 190, 70),
    (120, 94, 240),
    (220, 38, 127),
    (100, 200, 90),
    (0, 158, 255),
    (255, 140, 200),
    (170, 120, 70),
    (150, 220, 230),
)


def label_colors(labels: Mapping[int, str]) -> dict[int, tuple[int, int, int]]:
    """Colour of every foreground label: the papers' where they have one, else a palette."""
    colors: dict[int, tuple[int, int, int]] = {}
    for value, name in labels.items():
        if value:
            known = COLOURS.get(name.lower())
            colors[value] = _rgb(known) if known else PALETTE[(value - 1) % len(PALETTE)]
    return colors


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def window(image: np.ndarray, modality: str) -> tuple[float, float]:
    """Grey window: soft tissue for CT in HU, else the 1st to the 99th percentile."""
    low, high = (float(v) for v in np.percentile(image[np.isfinite(image)], (1, 99)))
    if modality.upper() == "CT" and low < -200:
        return -160.0, 240.0
    return low, high if high > low else low + 1.0


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
        tumor = [value for value in values if labels[value].lower() in {"tumor", "tumour"}]
        chosen = label == tumor[0] if tumor else label > 0
        index = int(np.argmax(chosen.sum(axis=others)))
    # columns run to the patient's left (or posterior in a sagittal slice), rows to posterior (or inferior)
    flat = image.take(index, axis=axis).T
    mask = None if label is None else label.take(index, axis=axis).T
    rows, columns = others[1], others[0]
    if rows == 2:
        flat, mask = flat[::-1], None if mask is None else mask[::-1]
    flat, mask = _closer(flat, mask, float(spacing[rows]), float(spacing[columns]))
    low, high = window(image[tuple(slice(None, None, max(1, n // 64)) for n in image.shape)], modality)
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
