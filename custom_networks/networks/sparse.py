"""Active voxels: which cells are visible, their rows, and the convolution that uses nothing else, in two backends.

A row holds the features of one active voxel; rows are ordered by linear index (B, D, H, W). Both backends of the
encoder compute on rows, so that they differ in the 3x3x3 convolution alone.
"""

import importlib.metadata
import warnings
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from custom_networks.errors import CaseError

REMEDY = "install spconv as requirements.txt names it, or set the backend to masked_dense"


class ActiveGrid(NamedTuple):
    """Active voxels of one resolution level.

    Args:
        shape: (B, D, H, W) of the level.
        voxels: linear indices of the n active voxels, ascending, (n,) int64.
        inverse: row of every voxel, n where it is not active, (B * D * H * W,) int64.
    """

    shape: list[int]
    voxels: Tensor
    inverse: Tensor


def random_cells(batch: int, grid: list[int], ratio: float, generator: torch.Generator | None = None) -> Tensor:
    """Draw which cells stay visible, the same exact number in every sample.

    Args:
        batch: number of samples.
        grid: cells per axis, for example (7, 8, 8).
        ratio: part of the cells to mask; rounded to a whole number of cells (269 of 448 at 0.6).
        generator: CPU generator; default torch's global one, so that `set_determinism` seeds it.

    Returns:
        Active cells (B, 1, d, h, w), bool, on the CPU. At least one cell per sample stays active.

    Raises:
        ValueError: the ratio is not in [0, 1].
    """
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"mask ratio {ratio} is not between 0 and 1")
    cells = int(torch.Size(grid).numel())
    kept = max(cells - round(cells * ratio), 1)
    order = torch.rand(batch, cells, generator=generator).argsort(dim=1)
    active = torch.zeros(batch, cells, dtype=torch.bool).scatter_(1, order[:, :kept], True)
    return active.view(batch, 1, *grid)


def fixed_cells(batch: int, grid: list[int], ratio: float, device: torch.device) -> Tensor:
    """Visible cells (B, 1, d, h, w) that depend on the grid alone, for evaluation; the count as in `random_cells`."""
    cells = grid[0] * grid[1] * grid[2]
    kept = max(cells - int(round(cells * ratio)), 1)  # noqa: RUF046 - TorchScript's round gives a float
    mixed = torch.arange(1, cells + 1, device=device)
    for _ in range(3):
        mixed = ((mixed ^ (mixed >> 16)) * 73244475) % 4294967296
    active = torch.zeros(cells, dtype=torch.bool, device=device)
    active[mixed.argsort()[:kept]] = True
    return active.view(1, 1, grid[0], grid[1], grid[2]).repeat(batch, 1, 1, 1, 1)


def upsample_cells(active: Tensor, size: list[int]) -> Tensor:
    """Repeat cells (B, 1, d, h, w) to `size` voxels, a multiple of (d, h, w); keeps the dtype."""
    for axis in range(3):
        active = active.repeat_interleave(size[axis] // active.shape[axis + 2], dim=axis + 2)
    return active


def active_grid(active: Tensor, size: list[int]) -> ActiveGrid:
    """Active voxels of a level of `size` voxels under the cells (B, 1, d, h, w)."""
    flat = upsample_cells(active, size).flatten()
    index = flat.nonzero().squeeze(1)
    inverse = torch.full(flat.shape, index.shape[0], dtype=torch.int64, device=flat.device)
    inverse[index] = torch.arange(index.shape[0], device=flat.device)
    return ActiveGrid([active.shape[0], size[0], size[1], size[2]], index, inverse)


def _channels_last(dense: Tensor) -> Tensor:
    return dense.permute(0, 2, 3, 4, 1).reshape(-1, dense.shape[1])


def _spread(rows: Tensor, fill: Tensor, grid: ActiveGrid) -> Tensor:
    table = torch.cat([rows, fill.to(rows.dtype).view(1, -1)])
    b, d, h, w = grid.shape
    return table.index_select(0, grid.inverse).view(b, d, h, w, rows.shape[1]).permute(0, 4, 1, 2, 3)


class _Gather(torch.autograd.Function):
    # autograd's own backward of index_select accumulates row by row; rows are unique, so a lookup does
    @staticmethod
    def forward(ctx, dense: Tensor, grid: ActiveGrid) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.grid = grid
        return _channels_last(dense).index_select(0, grid.voxels)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        return _spread(grad, grad.new_zeros(grad.shape[1]), ctx.grid), None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, fill: Tensor, grid: ActiveGrid) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.grid, ctx.fill_type = grid, fill.dtype
        return _spread(rows, fill, grid)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:  # type: ignore[no-untyped-def]
        flat = _channels_last(grad)
        rows = flat.index_select(0, ctx.grid.voxels)
        fill = None
        if ctx.needs_input_grad[1]:
            fill = (flat.sum(0, dtype=torch.float32) - rows.sum(0, dtype=torch.float32)).to(ctx.fill_type)
        return rows, fill, None


def gather(dense: Tensor, grid: ActiveGrid) -> Tensor:
    """Rows (n, C) of the active voxels of (B, C, D, H, W)."""
    if torch.jit.is_scripting():
        return _channels_last(dense).index_select(0, grid.voxels)
    else:
        return _Gather.apply(dense, grid)


def scatter(rows: Tensor, grid: ActiveGrid, fill: Tensor) -> Tensor:
    """Features (B, C, D, H, W), channels last in memory: rows (n, C) where active, `fill` (C,) elsewhere."""
    if torch.jit.is_scripting():
        return _spread(rows, fill, grid)
    else:
        return _Scatter.apply(rows, fill, grid)


def strided_rows(rows: Tensor, stride: int, source: ActiveGrid, target: ActiveGrid) -> Tensor:
    """Rows (n, C) of `source` at the voxels that a 1x1x1 convolution with this stride reads for `target`."""
    if stride == 1:
        return rows
    _, depth, height, width = target.shape
    x = target.voxels % width
    y = target.voxels // width % height
    z = target.voxels // (width * height) % depth
    b = target.voxels // (width * height * depth)
    _, depth, height, width = source.shape
    fine = ((b * depth + z * stride) * height + y * stride) * width + x * stride
    return rows.index_select(0, source.inverse.index_select(0, fine))


def masked_convolve(
    weight: Tensor, bias: Tensor | None, stride: int, rows: Tensor, source: ActiveGrid, target: ActiveGrid
) -> Tensor:
    """The submanifold 3x3x3 convolution by a dense one: zeros where not active, outputs taken where active.

    Args:
        weight: (O, C, 3, 3, 3).
        bias: (O,), or None.
        stride: 1 or 2.
        rows: (n, C) of `source`.
        source: active voxels of the input.
        target: active voxels of the output; those of `source`, or at stride 2 of the downsampled mask.

    Returns:
        Rows (m, O) of `target`.
    """
    dense = scatter(rows, source, rows.new_zeros(rows.shape[1]))
    return gather(F.conv3d(dense, weight, bias, stride=stride, padding=1), target)


def import_spconv() -> Any:
    """The module `spconv.pytorch`.

    Raises:
        CaseError: it is not installed, cannot be imported, or is the CPU wheel.
    """
    try:
        # measured: with more than one OpenMP thread that wheel's sums are wrong
        version = importlib.metadata.version("spconv")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        raise CaseError("backend spconv", f"the CPU wheel spconv {version} gives wrong results", REMEDY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import spconv.pytorch as spconv
    except Exception as error:  # a missing library surfaces as ImportError, OSError or RuntimeError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CaseError("backend spconv", f"spconv cannot be imported ({reason})", REMEDY) from error
    return spconv


class SpconvConvolution:
    """3x3x3 submanifold convolution on rows, with the signature of `custom_networks.networks.sparse.masked_convolve`.

    spconv's strided convolution also fills voxels whose cell is masked; those rows are dropped, and the rest put
    into the order of `ActiveGrid`. It runs in float32, on CUDA under autocast in float16 (it has no bfloat16).

    Raises:
        CaseError: spconv cannot run here.
    """

    def __init__(self) -> None:
        self._spconv = import_spconv()
        self._modules: dict[tuple[int, int, int], Any] = {}
        # neighbour tables by active grid: all convolutions of a level share one, and it dies with the grid
        self._tables: Any = WeakIdKeyDictionary()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return SpconvConvolution, ()

    def __call__(
        self, weight: Tensor, bias: Tensor | None, stride: int, rows: Tensor, source: ActiveGrid, target: ActiveGrid
    ) -> Tensor:
        """Rows (n, C) of `source` to rows (m, O) of `target`; see `masked_convolve`."""
        values = rows.float() if rows.dtype == torch.bfloat16 else rows
        try:
            # on CPU autocast would hand its matrix products bfloat16
            with nullcontext() if rows.is_cuda else torch.autocast("cpu", enabled=False):
                sparse = self._module(weight, stride, rows.is_cuda)(self._tensor(values, source))
        except torch.cuda.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CaseError("backend spconv", f"spconv failed on {rows.device} ({reason})", REMEDY) from error
        out = sparse.features
        if stride != 1:
            out = out.index_select(0, _order(sparse.indices, target))
        # spconv refuses a bias in eval mode
        return out if bias is None else out + bias.to(out.dtype)

    def _module(self, weight: Tensor, stride: int, cuda: bool) -> Any:
        key = (weight.shape[1], weight.shape[0], stride)
        if key not in self._modules:
            algo = None if cuda else self._spconv.ConvAlgo.Native
            # on meta: the weight is the encoder's own, set at every call
            with torch.device("meta"):
                if stride == 1:
                    module = self._spconv.SubMConv3d(*key[:2], 3, padding=1, bias=False, indice_key="level", algo=algo)
                else:
                    module = self._spconv.SparseConv3d(
                        *key[:2], 3, stride=stride, padding=1, bias=False, indice_key="down", algo=algo
                    )
            del module.weight
            self._modules[key] = module
        module = self._modules[key]
        module.weight = weight.permute(0, 2, 3, 4, 1).contiguous()
        return module

    def _tensor(self, rows: Tensor, grid: ActiveGrid) -> Any:
        if grid.voxels not in self._tables:
            _, depth, height, width = grid.shape
            v = grid.voxels
            places = [v // (depth * height * width), v // (height * width) % depth, v // width % height, v % width]
            self._tables[grid.voxels] = (torch.stack(places, 1).int(), {})
        indices, tables = self._tables[grid.voxels]
        tensor = self._spconv.SparseConvTensor(rows, indices, grid.shape[1:], grid.shape[0])
        tensor.indice_dict = tables
        return tensor


def _order(indices: Tensor, target: ActiveGrid) -> Tensor:
    """Where spconv put each active voxel of `target`; `indices` (k, 4) are its output's places."""
    batch, depth, height, width = target.shape
    b, z, y, x = indices.long().unbind(1)
    row = torch.empty(batch * depth * height * width, dtype=torch.int64, device=indices.device)
    row[((b * depth + z) * height + y) * width + x] = torch.arange(len(indices), device=indices.device)
    return row.index_select(0, target.voxels)
