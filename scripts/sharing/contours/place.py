"""A label map on the grid of the series that its contours are to refer to."""

from __future__ import annotations

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.source import SourceSeries

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# in voxels: below it two grids are one
SAME = 0.02
# of the labelled volume that may lie outside the series, by rounding at its border
LOST = 0.01


def on_series(case: str, labels: np.ndarray, affine: np.ndarray, source: SourceSeries) -> np.ndarray:
    """Bring a label map onto a series.

    Args:
        case: name for messages.
        labels: whole numbers (X, Y, Z).
        affine: 4x4 voxel-to-world matrix in RAS+ mm.
        source: the series.

    Returns:
        The labels (columns, rows, slices). The same grid in another order of axes is copied voxel by voxel; another grid is
        resampled linearly, label by label, and every voxel takes the label with most weight.

    Raises:
        CaseError: more than 1 % of the labelled volume lies outside the series.
    """
    _check_loss(case, labels, affine, source)
    to_label = np.linalg.inv(RAS_TO_LPS @ affine) @ source.affine
    whole = np.rint(to_label)
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in source.shape])).reshape(3, -1)
    drift = (to_label - whole)[:3, :3] @ corners + (to_label - whole)[:3, 3:]
    turned = np.abs(whole[:3, :3])
    one_to_one = (turned.sum(axis=0) == 1).all() and (turned.sum(axis=1) == 1).all()
    if one_to_one and np.abs(drift).max() < SAME:
        return _copied(labels, whole.astype(np.int64), source.shape)
    return _resampled(labels, to_label, source.shape)


def _copied(labels: np.ndarray, to_label: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Another order of axes, flips and a shift by whole voxels."""
    axes = np.abs(to_label[:3, :3]).argmax(axis=0)
    turned = labels.transpose(axes)
    wanted, found = [], []
    for axis, count in enumerate(shape):
        index = to_label[axes[axis], axis] * np.arange(count) + to_label[axes[axis], 3]
        inside = (index >= 0) & (index < turned.shape[axis])
        wanted.append(np.flatnonzero(inside))
        found.append(index[inside])
    placed = np.zeros(shape, dtype=labels.dtype)
    placed[np.ix_(*wanted)] = turned[np.ix_(*found)]
    return placed


def _resampled(labels: np.ndarray, to_label: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    from scipy.ndimage import affine_transform

    placed, most = np.zeros(shape, dtype=labels.dtype), np.full(shape, -1.0, dtype=np.float32)
    # background first: where weights are equal it stays
    for value in [0, *np.unique(labels[labels != 0])]:
        weight = affine_transform(
            (labels == value).astype(np.float32),
            to_label[:3, :3],
            to_label[:3, 3],
            output_shape=shape,
            order=1,
            mode="grid-constant",
            cval=float(value == 0),
        )
        wins = weight > most
        placed[wins], most[wins] = value, weight[wins]
    return placed


def _check_loss(case: str, labels: np.ndarray, affine: np.ndarray, source: SourceSeries) -> None:
    """Refuse a label map whose voxels lie outside the series (it belongs to another one)."""
    to_series = np.linalg.inv(source.affine) @ RAS_TO_LPS @ affine
    high = np.array(source.shape)[:, None] - 0.5 + SAME
    total = lost = 0
    for x, plane in enumerate(labels):
        where = np.argwhere(plane != 0).T
        index = to_series[:3, :1] * x + to_series[:3, 1:3] @ where + to_series[:3, 3:]
        lost += int(np.count_nonzero(((index < -0.5 - SAME) | (index > high)).any(axis=0)))
        total += where.shape[1]
    if lost > LOST * total:
        raise CaseError(
            case,
            f"{lost / total:.0%} of the labelled voxels lie outside the series",
            "give the series that was segmented",
        )
