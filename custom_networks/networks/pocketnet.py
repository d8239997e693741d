"""PocketNet: an encoder-decoder with the same number of features at every resolution level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_act_layer, get_norm_layer
from monai.utils import ensure_tuple_rep
from torch import nn
from torch.nn import functional

from custom_networks.networks.base import Network

BLOCKS = ("residual", "dense", "plain")


class PartsConv(nn.Module):
    """Convolution of several feature maps as if they were concatenated along the channels, without concatenating them.

    A decoder joins two full-resolution maps; keeping the joined copy for the backward pass is what costs a
    constant-width network most of its memory.

    Args:
        spatial_dims: 2 or 3.
        parts: channels of each feature map.
        out_channels: channels of the result.
        kernel_size: per axis.
        stride: per axis.
    """

    def __init__(
        self,
        spatial_dims: int,
        parts: Sequence[int],
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
    ) -> None:
        super().__init__()
        padding = tuple(k // 2 for k in kernel_size)
        conv = Conv[Conv.CONV, spatial_dims]
        # no bias: a norm follows, or the other branch of a sum that a norm has centred
        self.parts = nn.ModuleList(
            conv(channels, out_channels, tuple(kernel_size), tuple(stride), padding, bias=False) for channels in parts
        )
        fan_in = sum(parts) * math.prod(kernel_size)
        for part in self.parts:
            assert isinstance(part.weight, nn.Parameter)
            nn.init.normal_(part.weight, std=(2.0 / fan_in) ** 0.5)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Args: maps: feature maps (B, C_i, *S). Returns: (B, out_channels, *S / stride)."""
        total = maps[0]
        for i, part in enumerate(self.parts):
            out = part(maps[i])
            total = out if i == 0 else total.add_(out)
        return total


class NormAct(nn.Module):
    """Norm and activation that follow a convolution.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the feature map.
        norm: MONAI norm specification.
        act: MONAI activation specification.
    """

    def __init__(self, spatial_dims: int, channels: int, norm: str | tuple, act: str | tuple) -> None:
        super().__init__()
        self.norm = get_norm_layer(name=norm, spatial_dims=spatial_dims, channels=channels)
        self.act = get_act_layer(act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Args: x: (B, C, *S). Returns: the same shape."""
        return self.act(self.norm(x))


class PocketBlock(nn.Module):
    """Two convolutions with norm and activation, joined in one of three ways.

    `residual` adds a 1x1 projection of the input before the last activation; `dense` feeds every layer with the
    outputs of all before it and fuses them with a 1x1 convolution (Fig. 2 of the PocketNet cervix paper); `plain`
    does neither.

    Args:
        spatial_dims: 2 or 3.
        parts: channels of each input map.
        features: channels of the result.
        kernel_size: of the convolutions, per axis.
        stride: of the first convolution, per axis.
        block: residual, dense or plain.
        norm: MONAI norm specification.
        act: MONAI activation specification.
    """

    # constants, so that torch.jit.script leaves out the branches that a block does not have
    __constants__ = ("dense", "projects", "residual")

    def __init__(
        self,
        spatial_dims: int,
        parts: Sequence[int],
        features: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        block: str,
        norm: str | tuple,
        act: str | tuple,
    ) -> None:
        super().__init__()
        one = (1,) * spatial_dims
        same = tuple(stride) == one and list(parts) == [features]
        self.dense = block == "dense"
        self.residual = block == "residual"
        self.projects = self.dense or (self.residual and not same)
        self.conv1 = PartsConv(spatial_dims, parts, features, kernel_size, stride)
        self.norm_act1 = NormAct(spatial_dims, features, norm, act)
        self.shortcut = PartsConv(spatial_dims, parts, features, one, stride) if self.projects else nn.Identity()
        layers = [features, features] if self.dense else [features]
        self.conv2 = PartsConv(spatial_dims, layers, features, kernel_size, one)
        self.norm2 = get_norm_layer(name=norm, spatial_dims=spatial_dims, channels=features)
        self.act2 = get_act_layer(act)
        self.fuse = PartsConv(spatial_dims, [features] * 3, features, one, one) if self.dense else nn.Identity()

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Args: maps: feature maps (B, C_i, *S). Returns: (B, features, *S / stride)."""
        first = self.norm_act1(self.conv1(maps))
        if self.dense:
            projected = self.shortcut(maps)
            second = self.act2(self.norm2(self.conv2([projected, first])))
            return self.fuse([projected, first, second])
        second = self.norm2(self.conv2([first]))
        if self.projects:
            second = second.add_(self.shortcut(maps))
        elif self.residual:
            second = second.add_(maps[0])
        return self.act2(second)


class PocketNet(Network):
    """Encoder-decoder whose feature count does not grow with depth (PocketNet cervix paper, Network architecture).

    The input may have any size: it is padded at the end of each axis, by replication, to the next multiple of the
    product of the strides, and the output is cropped to the input's size.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes, background included.
        levels: resolution levels, the bottleneck included.
        features: feature maps at every level. A sequence gives one count per level (the conventional network of the
            same shape, for comparison).
        block: `residual`, `dense` or `plain`, see `PocketBlock`.
        norm: MONAI norm specification.
        act: MONAI activation specification.
        kernel_sizes: per level, a number or one per axis; default 3 everywhere.
        strides: of each step down (`levels - 1` of them), a number or one per axis; default 2 everywhere.
        deep_supervision: number of extra heads, at the levels below full resolution (MIST: 2). They exist in
            training only and add nothing to inference.
        channels_last: compute in PyTorch's channels-last layout, which is faster on most hardware.
        settings: see `Network`.

    Raises:
        ValueError: an argument does not fit the others.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        levels: int = 4,
        features: int | Sequence[int] = 32,
        block: str = "residual",
        norm: str | tuple = "batch",
        act: str | tuple = ("relu", {"inplace": True}),
        kernel_sizes: Sequence[int | Sequence[int]] | None = None,
        strides: Sequence[int | Sequence[int]] | None = None,
        deep_supervision: int = 0,
        channels_last: bool = True,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(settings)
        if block not in BLOCKS:
            raise ValueError(f"block is {block!r}; choose one of {', '.join(BLOCKS)}.")
        widths = [features] * levels if isinstance(features, int) else list(features)
        kernels = _per_level(kernel_sizes, 3, levels, spatial_dims, "kernel_sizes")
        steps = _per_level(strides, 2, levels - 1, spatial_dims, "strides")
        if len(widths) != levels:
            raise ValueError(f"features has {len(widths)} entries for {levels} levels.")
        if any(k % 2 == 0 for kernel in kernels for k in kernel):
            raise ValueError(f"kernel_sizes must be odd, not {kernels}.")
        if not 0 <= deep_supervision < levels - 1:
            raise ValueError(
                f"deep_supervision is {deep_supervision}; {levels} levels allow 0 to {levels - 2} extra heads."
            )
        self.multiple = [math.prod(s[a] for s in steps) for a in range(spatial_dims)]
        self.memory_format = (
            {2: torch.channels_last, 3: torch.channels_last_3d}[spatial_dims] if channels_last else None
        )
        self.extra_heads = deep_supervision

        one = (1,) * spatial_dims
        shape = (block, norm, act)
        self.encoder = nn.ModuleList()
        for level in range(levels):
            parts = [in_channels] if level == 0 else [widths[level - 1]]
            stride = one if level == 0 else steps[level - 1]
            self.encoder.append(PocketBlock(spatial_dims, parts, widths[level], kernels[level], stride, *shape))
        # from the deepest level upwards
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in reversed(range(levels - 1)):
            deconv = Conv[Conv.CONVTRANS, spatial_dims]
            self.up.append(deconv(widths[level + 1], widths[level], steps[level], steps[level]))
            parts = [widths[level], widths[level]]
            self.decoder.append(PocketBlock(spatial_dims, parts, widths[level], kernels[level], one, *shape))
        conv = Conv[Conv.CONV, spatial_dims]
        self.head = conv(widths[0], out_channels, 1)
        self.extra = nn.ModuleList(conv(widths[1 + i], out_channels, 1) for i in range(deep_supervision))
        if self.memory_format is not None:
            for weight in self.parameters():
                if weight.ndim == spatial_dims + 2:  # not `.to`, which fails under FakeTensorMode
                    weight.data = weight.data.contiguous(memory_format=self.memory_format)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment an image.

        Args:
            x: image (B, in_channels, *S), any size.

        Returns:
            Logits (B, out_channels, *S). In training with extra heads a list instead: the full-resolution logits
            first, then those of each level below, smaller by the strides (its padding not cropped when S is not a
            multiple of the strides).
        """
        size = x.shape[2:]
        pad: list[int] = []
        for i in range(len(self.multiple)):
            axis = len(self.multiple) - 1 - i
            pad.extend([0, (self.multiple[axis] - size[axis] % self.multiple[axis]) % self.multiple[axis]])
        padded = max(pad) > 0
        if padded:
            x = functional.pad(x, pad, mode="replicate")
        if not torch.jit.is_scripting():  # noqa: SIM102  (torch.jit compiles the condition away only if it stands alone)
            if self.memory_format is not None:
                x = x.contiguous(memory_format=self.memory_format)
        skips: list[torch.Tensor] = []
        for block in self.encoder:
            x = block([x])
            skips.append(x)
        decoded: list[torch.Tensor] = []
        for i, (up, block) in enumerate(zip(self.up, self.decoder)):  # noqa: B905  (torch.jit knows no strict)
            x = block([up(x), skips[len(skips) - 2 - i]])
            decoded.append(x)
        logits = self.head(x)
        if padded:
            for axis in range(len(self.multiple)):
                logits = logits.narrow(axis + 2, 0, size[axis])
        if not torch.jit.is_scripting():  # noqa: SIM102  (torch.jit compiles the condition away only if it stands alone)
            if self.training and self.extra_heads:
                heads = [head(decoded[-2 - i]) for i, head in enumerate(self.extra)]
                return [logits, *heads]  # type: ignore[return-value]
        return logits


def _per_level(
    given: Sequence[int | Sequence[int]] | None, default: int, count: int, spatial_dims: int, name: str
) -> list[tuple[int, ...]]:
    values = [default] * count if given is None else list(given)
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} entries; {count} are needed.")
    return [tuple(int(v) for v in ensure_tuple_rep(value, spatial_dims)) for value in values]
