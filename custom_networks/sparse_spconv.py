"""The submanifold convolution of GynBTNet's encoder by the package spconv; imported only when this backend is chosen."""

import importlib.metadata
import warnings
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from custom_networks.errors import CaseError
from custom_networks.sparse import ActiveGrid

REMEDY = "install spconv as requirements.txt names it, or set the backend to masked_dense"


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
    """3x3x3 submanifold convolution on rows, with the signature of `custom_networks.sparse.masked_convolve`.

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
