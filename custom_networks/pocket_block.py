"""The blocks of PocketNet: convolutions of several feature maps at once, joined as residual, dense or plain block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_act_layer, get_norm_layer
from torch import nn
from torch.nn import functional

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
        self.single = list(parts) == [1]
        padding = tuple(k // 2 for k in kernel_size)
        conv = Conv[Conv.CONV, spatial_dims]
        # no bias: a norm follows, or the other branch of a sum that a norm has centred
        self.parts = nn.ModuleList(
            conv(channels, out_channels, tuple(kernel_size), tuple(stride), padding, bias=False) for channels in parts
        )
        fan_in = sum(parts) * int(torch.tensor(kernel_size).prod())
        for part in self.parts:
            nn.init.normal_(
                part.weight,  # type: ignore[arg-type]
                std=(2.0 / fan_in) ** 0.5,
            )

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Args: maps: feature maps (B, C_i, *S). Returns: (B, out_channels, *S / stride)."""
        total = maps[0]
        for i, part in enumerate(self.parts):
            out = _single_channel(part, maps[i]) if self.single and not torch.jit.is_scripting() else part(maps[i])
            total = out if i == 0 else total.add_(out)
        return total


def _single_channel(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A convolution of one channel as one of two channels, the second zero, where that is faster.

    On the CPU PyTorch takes its slow path for one channel and leaves the channels-last layout.
    """
    if x.device.type != "cpu" or torch.jit.is_tracing() or not isinstance(part, nn.Conv3d):
        return part(x)
    both = torch.cat([x, torch.zeros_like(x)], dim=1).contiguous(memory_format=torch.channels_last_3d)
    weight = torch.cat([part.weight, torch.zeros_like(part.weight)], dim=1)
    return functional.conv3d(both, weight, None, part.stride, part.padding)


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
