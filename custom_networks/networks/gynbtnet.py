"""GynBTNet: a scalable residual encoder-decoder for large segmentation models, after STU-Net's layout."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_networks.networks.base import Network
from custom_networks.networks.encoder import STRIDES, GynBTEncoder, ResidualBlock, Stride, checkpointed, per_axis

# first width and blocks per stage: compound scaling of width and depth, and `tiny` below the paper's smallest
VARIANTS = {"tiny": (8, 1), "small": (16, 1), "base": (32, 1), "large": (64, 2), "huge": (96, 3)}


def stage_widths(first: int, stages: int = 6) -> list[int]:
    """Features per stage: doubled at every stage, at most 16 times the first."""
    return [first * min(2**i, 16) for i in range(stages)]


class UpBlock(nn.Module):
    """1x1x1 convolution and nearest upsampling, concatenation with the encoder's features, residual blocks (2.3.3)."""

    def __init__(self, in_channels: int, out_channels: int, stride: Stride, depth: int, norm: str) -> None:
        super().__init__()
        self.scale = [float(step) for step in per_axis(stride)]
        self.conv = nn.Conv3d(in_channels, out_channels, 1)
        self.blocks = nn.ModuleList(
            ResidualBlock(out_channels * (1 if i else 2), out_channels, 1, norm, shortcut=i == 0) for i in range(depth)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, d, h, w) and skip (B, O, D, H, W) to (B, O, D, H, W)."""
        # a 1x1x1 convolution and nearest upsampling commute; in this order it costs an eighth
        x = self.conv(x)
        if max(self.scale) > 1:
            x = F.interpolate(x, scale_factor=self.scale, mode="nearest")
            x = x[:, :, : skip.shape[2], : skip.shape[3], : skip.shape[4]]
        x = torch.cat([x, skip], dim=1)
        for block in self.blocks:
            x = block(x)
        return x


class GynBTNet(Network):
    """Segmentation network of Hu et al., sections 2.3 and 2.4: six residual stages, STU-Net's layout.

    Any input size will do: strided convolutions round up and the way up crops to the encoder's size. Full use of the
    field of view wants multiples of the product of the strides, 16.

    Args:
        in_channels: channels of the image.
        out_channels: classes, background included.
        variant: `small`, `base`, `large` (440.11M parameters at 1 input and 6 outputs; 440.09M without extra heads) or
            `huge`; first width 16, 32, 64, 96 and 1, 1, 2, 3 blocks per stage. `tiny` (width 8, 1 block) is for trying out.
        deep_supervision: number of extra heads, at 1/2, 1/4, 1/8, 1/16 of the resolution; True for all of them, False
            or 0 for none. They act in training alone.
        norm: `instance`, as the paper; `batch` as an option.
        strides: of the five stages after the first, each a number or one per axis. The published STU-Net weights want
            `[2, 2, 2, 2, [2, 1, 1]]`.
        checkpointing: activation checkpointing, less memory for about a third more time.
        settings: see `Network`.

    Raises:
        ValueError: unknown variant or norm, a stride that is neither a number nor three, or more heads than the decoder
            has levels.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 6,
        variant: str = "large",
        deep_supervision: bool | int = True,
        norm: str = "instance",
        strides: Sequence[Stride] = STRIDES,
        checkpointing: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(settings)
        if variant not in VARIANTS:
            raise ValueError(f"variant '{variant}' is none of {', '.join(VARIANTS)}")
        first, depth = VARIANTS[variant]
        widths = stage_widths(first, len(strides) + 1)
        self.checkpointing = checkpointing
        self.encoder = GynBTEncoder(in_channels, widths, depth, strides, norm, checkpointing=checkpointing)
        self.decoder = nn.ModuleList(
            UpBlock(widths[i + 1], widths[i], strides[i], depth, norm) for i in reversed(range(len(strides)))
        )
        self.head = nn.Conv3d(widths[0], out_channels, 1)
        levels = len(strides) - 1
        extra = levels if deep_supervision is True else int(deep_supervision)
        if not 0 <= extra <= levels:
            raise ValueError(f"deep_supervision {extra} is not between 0 and {levels} extra heads")
        self.extra_heads = nn.ModuleList(nn.Conv3d(widths[i + 1], out_channels, 1) for i in range(extra))

    def forward(self, x: Tensor) -> Tensor:
        """Class scores before softmax.

        Args:
            x: image (B, C, D, H, W).

        Returns:
            (B, classes, D, H, W) in eval mode and without extra heads; in training with extra heads a list, full
            resolution first, then (B, classes, D / 2, H / 2, W / 2) and so on, as `DeepSupervisionLoss` wants it.
        """
        features = self.encoder(x)
        y = features[-1]
        levels: list[Tensor] = []
        for i, up in enumerate(self.decoder):
            skip = features[len(features) - 2 - i]
            y = up(y, skip) if torch.jit.is_scripting() else self._up(up, y, skip)
            levels.append(y)
        if not torch.jit.is_scripting() and self.training and len(self.extra_heads) > 0:
            extra = [head(level) for head, level in zip(self.extra_heads, levels[-2::-1], strict=False)]
            return [self.head(y), *extra]  # type: ignore[return-value]
        return self.head(y)

    def _up(self, up: nn.Module, y: Tensor, skip: Tensor) -> Tensor:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpointed(up, up, y, skip)
        return up(y, skip)
