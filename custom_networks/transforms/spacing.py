"""`Spacingd` one axis at a time: what MONAI's gives, in the memory of input and output, and much faster."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import Spacing, Spacingd, SpatialResample
from monai.transforms.inverse import TraceableTransform
from monai.utils import TraceKeys
from scipy import ndimage
from torch import Tensor

ORDERS: dict[str | int, int] = {"nearest": 0, "bilinear": 1, **{order: order for order in range(6)}}
EDGE = ("border", "nearest")
# weights below this are rounding of float32; without them a spline's weights are a narrow band
NEGLIGIBLE = 1e-8
# output planes computed together: wide enough for fast products, thin enough to be small beside the volume
PLANES = 32


class Axis(NamedTuple):
    """One axis of a resampling: output voxel `i` lies at input position `scale * i + offset`."""

    size: int
    new_size: int
    scale: float
    offset: float

    @property
    def unchanged(self) -> bool:
        return self.size == self.new_size and self.scale == 1 and self.offset == 0


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
        nearest = np.floor(np.arange(axis.new_size) * axis.scale + axis.offset + 0.500001).clip(0, axis.size - 1)
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


class SeparableResample(SpatialResample):
    """`SpatialResample` that works along the axes where the new grid is parallel to the old one.

    MONAI evaluates a spline at a list of float64 positions, which takes over ten volumes of memory. On parallel grids
    the same spline is a product of three: a small matrix per axis. Values differ by rounding alone. Any other case (grids
    that are not parallel, lazy execution, another padding mode or aligned corners) is MONAI's. It needs no cupy on a GPU.
    """

    def __call__(
        self,
        img: Tensor,
        dst_affine: Tensor | None = None,
        spatial_size: Any = None,
        mode: Any = None,
        padding_mode: Any = None,
        align_corners: bool | None = None,
        dtype: Any = None,
        lazy: bool | None = None,
    ) -> Tensor:
        """See `SpatialResample`."""
        chosen = self.mode if mode is None else mode
        edge = self.padding_mode if padding_mode is None else padding_mode
        chosen, edge = getattr(chosen, "value", chosen), getattr(edge, "value", edge)
        corners = self.align_corners if align_corners is None else align_corners
        eager = not corners and not (self.lazy if lazy is None else lazy) and not getattr(img, "pending_operations", [])
        if eager and isinstance(img, MetaTensor) and chosen in ORDERS and edge in EDGE and spatial_size is not None:
            size = [int(s) for s in torch.as_tensor(spatial_size).reshape(-1)]
            source = to_affine_nd(len(size), img.affine).to(torch.float64).cpu()
            target = source if dst_affine is None else to_affine_nd(len(size), dst_affine).to(source)
            axes = parallel_axes(source, target, img.shape[1:], size)
            if axes is not None:
                info = {
                    "dtype": "float64",
                    "mode": chosen,
                    "padding_mode": edge,
                    "align_corners": TraceKeys.NONE,
                    "src_affine": source,
                }
                return self._resample(img, axes, torch.linalg.solve(source, target), ORDERS[chosen], info)
        return super().__call__(img, dst_affine, spatial_size, mode, padding_mode, align_corners, dtype, lazy)

    def _resample(self, img: MetaTensor, axes: list[Axis], xform: Tensor, order: int, info: dict[str, Any]) -> Tensor:
        same = all(axis.unchanged for axis in axes)
        meta = TraceableTransform.track_transform_meta(
            img,
            sp_size=[axis.new_size for axis in axes],
            affine=None if same else xform,
            extra_info=info,
            orig_size=tuple(img.shape[1:]),
            transform_info=self.get_transform_info(),
            lazy=False,
        )
        array = img.as_tensor()
        out = array.to(torch.float32) if same else resample_axes(array, axes, order)
        return MetaTensor(out).copy_meta_from(meta)

    def inverse(self, data: Tensor) -> Tensor:
        """Take data back to the grid they came from; see `SpatialResample`."""
        done = self.pop_transform(data)
        info = done[TraceKeys.EXTRA_INFO]
        with self.trace_transform(False):
            return self(
                data,
                info["src_affine"],
                done[TraceKeys.ORIG_SIZE],
                mode=info["mode"],
                padding_mode=info["padding_mode"],
                align_corners=False,
                dtype=torch.float64,
            )


def parallel_axes(source: Tensor, target: Tensor, size: Sequence[int], new_size: Sequence[int]) -> list[Axis] | None:
    """What a change of grid is along each axis, or None if it is not a scaling along the axes.

    Args:
        source: (d + 1, d + 1) affine of the old grid.
        target: of the new one.
        size: d voxel counts of the old one.
        new_size: of the new one.
    """
    if len(size) != len(new_size):
        return None
    steps = torch.linalg.solve(source, target).numpy()
    matrix, offset = steps[:-1, :-1], steps[:-1, -1]
    # how far, in voxels, the other axes' share carries a voxel over the whole volume
    drift = np.abs(matrix - np.diag(np.diag(matrix))) @ np.asarray(new_size, dtype=float)
    if drift.max() > 1e-3 or (np.diag(matrix) <= 0).any():
        return None
    axes = []
    for i, (old, new) in enumerate(zip(size, new_size, strict=True)):
        scale, start = float(matrix[i, i]), float(offset[i])
        # nothing moves by a thousandth of a voxel: the grid is the same along this axis
        if old == new and abs(scale - 1) * new < 1e-3 and abs(start) < 1e-3:
            scale, start = 1.0, 0.0
        axes.append(Axis(int(old), int(new), scale, start))
    return axes


class SeparableSpacing(Spacing):
    """`Spacing` by `SeparableResample`; same arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        old = self.sp_resample
        self.sp_resample = SeparableResample(old.mode, old.padding_mode, old.align_corners, old.dtype, old.lazy)


class SeparableSpacingd(Spacingd):
    """`Spacingd` by `SeparableResample`; same arguments, same result, invertible.

    In a bundle: `{"_target_": "custom_networks.SeparableSpacingd", "keys": ["image", "label"], "pixdim": "@spacing",
    "mode": [3, "nearest"]}`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        old = self.spacing_transform
        self.spacing_transform = SeparableSpacing(
            old.pixdim,
            old.diagonal,
            recompute_affine=old.recompute_affine,
            min_pixdim=old.min_pixdim,
            max_pixdim=old.max_pixdim,
            lazy=old.lazy,
        )
