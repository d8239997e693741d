"""The encoder of GynBTNet: sparse on the active voxels of a mask, dense without one, one set of parameters."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from custom_networks.networks.base import Network
from custom_networks.networks.norms import FeatureNorm
from custom_networks.networks.sparse import (
    ActiveGrid,
    active_grid,
    gather,
    masked_convolve,
    scatter,
    strided_rows,
)

# of the first block of every stage but the first; one number for all axes, or one per axis
Stride = int | Sequence[int]
STRIDES: tuple[Stride, ...] = (2, 2, 2, 2, 1)


def per_axis(stride: Stride) -> tuple[int, int, int]:
    """A stride for each of the three axes.

    Raises:
        ValueError: it is neither a number nor three, or one is below 1.
    """
    steps = (stride,) * 3 if isinstance(stride, int) else tuple(int(s) for s in stride)
    if len(steps) != 3 or min(steps) < 1:
        raise ValueError(f"stride {stride} is neither a number nor three of them, at least 1")
    return steps


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.01, inplace=True)


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions, each normalised, LeakyReLU after the first and after the addition (paper 2.3.1).

    Args:
        in_channels: features of the input.
        out_channels: features of the output.
        stride: of the first convolution and the shortcut, one number or one per axis.
        norm: `instance` or `batch`, see `FeatureNorm`.
        shortcut: force a 1x1x1 convolution on the shortcut; it is there anyway when shapes change.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: Stride = 1, norm: str = "instance", shortcut: bool = False
    ) -> None:
        super().__init__()
        steps = per_axis(stride)
        # for `rows`, which the encoder calls only where every axis has the same
        self.stride = steps[0]
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, stride=steps, padding=1)
        self.norm1 = FeatureNorm(out_channels, norm)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        self.norm2 = FeatureNorm(out_channels, norm)
        self.shortcut: nn.Conv3d | None = None
        if shortcut or max(steps) > 1 or in_channels != out_channels:
            self.shortcut = nn.Conv3d(in_channels, out_channels, 1, stride=steps)
        self.convolve: Callable[..., Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, O, D / stride, H / stride, W / stride), rounded up."""
        h = _activate(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        if self.shortcut is not None:
            x = self.shortcut(x)
        return _activate(h + x)

    def rows(self, rows: Tensor, source: ActiveGrid, target: ActiveGrid) -> Tensor:
        """The same on active voxels alone: rows (n, C) of `source` to rows (m, O) of `target`."""
        h = self._convolve(self.conv1.weight, self.conv1.bias, self.stride, rows, source, target)
        h = _activate(self.norm1.rows(h))
        h = self._convolve(self.conv2.weight, self.conv2.bias, 1, h, target, target)
        h = self.norm2.rows(h)
        rows = strided_rows(rows, self.stride, source, target)
        if self.shortcut is not None:
            rows = F.linear(rows, self.shortcut.weight.flatten(1), self.shortcut.bias)
        return _activate(h + rows)

    def _convolve(
        self, weight: Tensor, bias: Tensor | None, stride: int, rows: Tensor, source: ActiveGrid, target: ActiveGrid
    ) -> Tensor:
        if not torch.jit.is_scripting() and self.convolve is not None:
            return self.convolve(weight, bias, stride, rows, source, target)
        return masked_convolve(weight, bias, stride, rows, source, target)


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    norms = [m for m in block.modules() if isinstance(m, FeatureNorm)]
    for norm in norms:
        norm.frozen = True
    try:
        yield
    finally:
        for norm in norms:
            norm.frozen = False


def checkpointed(block: nn.Module, function: Callable[..., Tensor], *inputs: object) -> Tensor:
    """Call `function` of `block` without keeping its activations; they are computed again for the gradient."""
    return checkpoint(
        function, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _frozen_statistics(block))
    )


class GynBTEncoder(Network):
    """The encoder of GynBTNet, dense, or sparse on the active voxels of a mask, with one set of parameters.

    Args:
        in_channels: channels of the image.
        widths: features of each stage.
        depth: residual blocks per stage.
        strides: of the first block of every stage but the first, each a number or one per axis; with a mask a number.
        norm: `instance` (fine-tuning) or `batch` (pretraining; needed with a mask).
        backend: how masked convolutions are computed: `masked_dense` anywhere, `spconv` with that package. Both give
            the same result and share the `state_dict`.
        checkpointing: keep only the outputs of blocks and compute the rest again for the gradient.

    Raises:
        ValueError: unknown backend or norm, or strides that do not fit the widths.
        CaseError: the backend `spconv` is asked for and cannot run here.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        depth: int,
        strides: Sequence[Stride] = STRIDES,
        norm: str = "instance",
        backend: str = "masked_dense",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if len(strides) != len(widths) - 1:
            raise ValueError(f"{len(widths)} stages need {len(widths) - 1} strides, not {len(strides)}")
        steps = [per_axis(stride) for stride in strides]
        self.widths, self.norm, self.checkpointing = list(widths), norm, checkpointing
        self.isotropic = all(len(set(step)) == 1 for step in steps)
        self.strides = [1, *(step[0] for step in steps)]
        self.cell = math.prod(self.strides)
        self.stages = nn.ModuleList()
        channels = in_channels
        for width, stride in zip(widths, [1, *strides], strict=True):
            first = ResidualBlock(channels, width, stride, norm, shortcut=True)
            self.stages.append(
                nn.ModuleList([first, *(ResidualBlock(width, width, 1, norm) for _ in range(depth - 1))])
            )
            channels = width
        self.set_backend(backend)

    @torch.jit.unused
    def set_backend(self, backend: str) -> None:
        """Choose `masked_dense` or `spconv` for the masked convolutions from now on."""
        if backend not in {"masked_dense", "spconv"}:
            raise ValueError(f"backend '{backend}' is neither 'masked_dense' nor 'spconv'")
        convolve = None
        if backend == "spconv":
            from custom_networks.networks.sparse import SpconvConvolution

            convolve = SpconvConvolution()
        self.backend = backend
        for block in self.modules():
            if isinstance(block, ResidualBlock):
                block.convolve = convolve

    def forward(self, x: Tensor, active: Tensor | None = None) -> list[Tensor]:
        """Features of every stage.

        Args:
            x: image (B, C, D, H, W). Without a mask any size will do.
            active: visible cells (B, 1, d, h, w), bool, where (d, h, w) is the size of the deepest features, (D, H, W)
                divided by the product of the strides without remainder. What `x` holds elsewhere is never read.

        Returns:
            One tensor (B, widths[i], …) per stage, from full resolution down; with a mask, 0 where not active.

        Raises:
            ValueError: the sizes of image and mask do not fit, or with a mask the norm is not `batch` or a stride differs
                between axes.
        """
        features: list[Tensor] = []
        if active is not None:
            rows, grids = self.encode_rows(x, active)
            for values, grid in zip(rows, grids):  # noqa: B905 - TorchScript has no strict
                features.append(scatter(values, grid, values.new_zeros(values.shape[1])))
            return features
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x = block(x) if torch.jit.is_scripting() else self._run(block, block, x)
            features.append(x)
        return features

    @torch.jit.export
    def encode_rows(self, x: Tensor, active: Tensor) -> tuple[list[Tensor], list[ActiveGrid]]:
        """Features of the active voxels of every stage, as rows, and where they belong; arguments as in `forward`."""
        if self.norm != "batch":
            raise ValueError("an active mask needs norm='batch'")
        if not self.isotropic:
            raise ValueError("an active mask needs strides that are the same along every axis")
        size = [x.shape[2], x.shape[3], x.shape[4]]
        for axis in range(3):
            if size[axis] != active.shape[axis + 2] * self.cell:
                raise ValueError(f"image {size} is not {self.cell} times the mask {active.shape[2:]} in every axis")
        outputs: list[Tensor] = []
        grids: list[ActiveGrid] = []
        source = active_grid(active, size)
        rows = gather(x, source)
        for i, stage in enumerate(self.stages):
            target = source
            if self.strides[i] != 1:
                size = [n // self.strides[i] for n in size]
                target = active_grid(active, size)
            for block in stage:  # type: ignore[attr-defined]
                if torch.jit.is_scripting():
                    rows = block.rows(rows, source, target)
                else:
                    rows = self._run(block, block.rows, rows, source, target)
                source = target
            outputs.append(rows)
            grids.append(target)
        return outputs, grids

    def _run(self, block: nn.Module, function: Callable[..., Tensor], *inputs: object) -> Tensor:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpointed(block, function, *inputs)
        return function(*inputs)
