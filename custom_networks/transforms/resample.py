"""Interpolation one axis at a time, of images by splines and of label maps class by class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from custom_networks.transforms.grid import Axis

# weights below this are rounding of float32; without them a spline's weights are a narrow band
NEGLIGIBLE = 1e-8
# output planes computed together: wide enough for fast products, thin enough to be small beside the volume
PLANES = 32
# shares of classes closer than this are the same but for rounding
TIE = 1e-5


@lru_cache(maxsize=16)
def axis_weights(axis: Axis, order: int) -> Tensor:
    """Weights of a spline interpolation along one axis, prefilter included; voxels beyond the edge repeat the edge.

    Args:
        axis: sizes and positions.
        order: of the spline, 0 to 5.

    Returns:
        Float32 (new size, size): a resampled line is `weights @ line`; for order 0 int64 (new size,), the voxels taken.
    """
    if order == 0:
        # half-way between two voxels the later one is taken, whatever rounding has done to the position
        nearest = np.floor(np.arange(axis.new_size) * axis.scale + axis.offset + 0.501).clip(0, axis.size - 1)
        return torch.from_numpy(nearest.astype(np.int64))
    lines = ndimage.affine_transform(
        np.eye(axis.size),
        [axis.scale, 1.0],
        [axis.offset, 0.0],
        output_shape=(axis.new_size, axis.size),
        order=order,
        mode="nearest",
    )
    lines[np.abs(lines) < NEGLIGIBLE] = 0
    return torch.from_numpy(lines.astype(np.float32))


def resample_axes(image: Tensor, axes: Sequence[Axis], order: int) -> Tensor:
    """Resample along the axes of the array, slab by slab.

    Args:
        image: (C, D, H, W) or (C, H, W), any number type.
        axes: one per spatial axis.
        order: of the spline, 0 to 5.

    Returns:
        Float32 (C, D', H', W'). Beside it and the input no array of a volume's size exists at any time.
    """
    out = torch.empty((image.shape[0], *(axis.new_size for axis in axes)), dtype=torch.float32, device=image.device)
    # what shrinks comes first, so that the other products are small
    first, *others = sorted(range(len(axes)), key=lambda i: axes[i].new_size / axes[i].size)
    for rows, columns, weights in _bands(axes[first], order, image.device, PLANES):
        slab = _product(weights, image.narrow(first + 1, columns.start, columns.stop - columns.start), first + 1)
        for i in others:
            slab = _along(slab, i + 1, axes[i], order)
        out.narrow(first + 1, rows.start, rows.stop - rows.start).copy_(slab)
    return out


def resample_labels(labels: Tensor, axes: Sequence[Axis]) -> Tensor:
    """Resample a label map as its classes: each one linearly, and the largest share wins, at a tie the larger label.

    This is how nnU-Net resamples segmentations. Nearest neighbour, by contrast, moves every boundary by up to half a
    voxel.

    Args:
        labels: (1, D, H, W) or (1, H, W), whole numbers; 0 is background.
        axes: one per spatial axis.

    Returns:
        Float32 (1, D', H', W'). Each class is resampled in its bounding box, one after the other: beside input and output
        there are two volumes at a time, however many classes there are.
    """
    size = [axis.new_size for axis in axes]
    out, best, total = (torch.zeros(size, dtype=torch.float32, device=labels.device) for _ in range(3))
    values, index = labels[0].unique(return_inverse=True)
    boxes = ndimage.find_objects(index.cpu().numpy() + 1)
    for value, number, box in zip(values.tolist(), range(len(values)), boxes, strict=True):
        if value == 0:
            continue
        share = (index[box] == number).float()[None]
        place = []
        for dim, (axis, part) in enumerate(zip(axes, box, strict=True), start=1):
            if axis.unchanged:
                place.append(part)
                continue
            weights = axis_weights(axis, 1)[:, part]
            rows = weights.any(1).nonzero()
            taken = slice(int(rows.min()), int(rows.max()) + 1) if len(rows) else slice(0, 0)
            share = _product(weights[taken].to(share.device), share, dim)
            place.append(taken)
        where = tuple(place)
        total[where] += share[0]
        keep_larger(out[where], best[where], share[0], value)
    # what the classes leave is the background's share
    out[1 - total > best + TIE] = 0
    return out[None]


def keep_larger(out: Tensor, best: Tensor, share: Tensor, value: float) -> None:
    """Give a class the voxels where its share is the largest so far; in place."""
    wins = (share > best - TIE) & (share > 0)
    out[wins] = value
    torch.maximum(best, share, out=best)


def _along(slab: Tensor, dim: int, axis: Axis, order: int) -> Tensor:
    """Resample one whole axis."""
    if axis.unchanged:
        return slab
    parts = []
    for _, columns, weights in _bands(axis, order, slab.device, max(PLANES, axis.new_size // 4)):
        parts.append(_product(weights, slab.narrow(dim, columns.start, columns.stop - columns.start), dim))
    return torch.cat(parts, dim)


def _bands(axis: Axis, order: int, device: torch.device, planes: int) -> Iterator[tuple[slice, slice, Tensor | None]]:
    """Blocks of output planes, the input planes that they need, and the weights (None: they are the input planes)."""
    weights = None if axis.unchanged else axis_weights(axis, order)
    for start in range(0, axis.new_size, planes):
        rows = slice(start, min(start + planes, axis.new_size))
        if weights is None:
            yield rows, rows, None
            continue
        part = weights[rows]
        used = part if order == 0 else part.any(0).nonzero()
        columns = slice(int(used.min()), int(used.max()) + 1)
        yield rows, columns, (part - columns.start if order == 0 else part[:, columns]).to(device)


def _product(weights: Tensor | None, part: Tensor, dim: int) -> Tensor:
    """`weights @ part` along one axis of (C, …)."""
    if weights is None:
        return part
    if weights.ndim == 1:
        return part.index_select(dim, weights)
    part = part.to(torch.float32)
    if dim == part.ndim - 1:
        return part @ weights.T
    before, after = part.shape[:dim], part.shape[dim + 1 :]
    return (weights @ part.reshape(-1, part.shape[dim], math.prod(after))).reshape(*before, -1, *after)
