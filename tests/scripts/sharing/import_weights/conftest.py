"""A network by STU-Net's published layout, and its checkpoints as nnU-Net writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = [(2, 2, 2)] * 4 + [(1, 1, 2)]


class PeerBlock(nn.Module):
    """Residual block under the published names; arrays are (z, y, x)."""

    def __init__(self, inside: int, outside: int, stride: Any = 1, shortcut: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inside, outside, 3, stride, 1)
        self.norm1 = nn.InstanceNorm3d(outside, affine=True)
        self.conv2 = nn.Conv3d(outside, outside, 3, 1, 1)
        self.norm2 = nn.InstanceNorm3d(outside, affine=True)
        self.conv3 = nn.Conv3d(inside, outside, 1, stride) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm2(self.conv2(F.leaky_relu(self.norm1(self.conv1(x)), 0.01)))
        return F.leaky_relu(h + (x if self.conv3 is None else self.conv3(x)), 0.01)


class PeerUp(nn.Module):
    """The level below, enlarged first and convolved then."""

    def __init__(self, inside: int, outside: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inside, outside, 1)
        self.stride = tuple(map(float, stride))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=self.stride, mode="nearest"))


class PeerSTUNet(nn.Module):
    """Returns all five outputs, full resolution first."""

    def __init__(self, first: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [first * m for m in (1, 2, 4, 8, 16, 16)]

        def stage(inside: int, outside: int, stride: Any = 1) -> nn.Sequential:
            more = [PeerBlock(outside, outside, shortcut=False) for _ in range(depth - 1)]
            return nn.Sequential(PeerBlock(inside, outside, stride), *more)

        pairs = list(zip(widths, widths[1:], STRIDES, strict=False))
        self.conv_blocks_context = nn.ModuleList([stage(1, first), *(stage(*pair) for pair in pairs)])
        self.upsample_layers = nn.ModuleList(PeerUp(low, high, stride) for high, low, stride in reversed(pairs))
        self.conv_blocks_localization = nn.ModuleList(stage(2 * high, high) for high, _, _ in reversed(pairs))
        self.seg_outputs = nn.ModuleList(nn.Conv3d(high, classes, 1) for high, _, _ in reversed(pairs))

    def forward(self, x: Tensor) -> list[Tensor]:
        skips = []
        for block in self.conv_blocks_context:
            x = block(x)
            skips.append(x)
        outputs = []
        for i, (up, block, head) in enumerate(
            zip(self.upsample_layers, self.conv_blocks_localization, self.seg_outputs, strict=True)
        ):
            x = block(torch.cat([up(x), skips[-2 - i]], dim=1))
            outputs.append(head(x))
        return outputs[::-1]


@pytest.fixture(scope="session")
def peer() -> PeerSTUNet:
    """Random weights at the smallest width that `GynBTNet` knows, norms and biases too."""
    torch.manual_seed(3)
    network = PeerSTUNet(8, 1, 105)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "norm" in name or name.endswith("bias"):
                value.add_(0.2 * torch.randn_like(value))
    return network.eval()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Write a checkpoint of nnU-Net version 1 or 2 with what stands beside the weights there."""

    def write(network: nn.Module, version: int = 1, **more: Any) -> Path:
        optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True)
        content: dict[str, Any] = {"optimizer_state_dict": optimizer.state_dict()}
        if version == 1:
            losses = [np.mean([0.5, 0.25]), np.float32(0.1)]
            content |= {"epoch": 4000, "state_dict": network.state_dict(), "lr_scheduler_state_dict": None}
            content |= {"plot_stuff": (losses, losses, [], [np.float64(0.9)]), "best_stuff": (None, None, losses[0])}
        else:
            logging = {"mean_fg_dice": [np.float64(0.9)], "dice_per_class_or_region": [[np.float32(0.9)]]}
            content |= {"network_weights": network.state_dict(), "grad_scaler_state": None, "logging": logging}
            content |= {"current_epoch": 4000, "_best_ema": np.float64(0.9), "trainer_name": "STUNetTrainer_small"}
            content |= {"init_args": {"fold": 0, "device": torch.device("cuda")}}
            content |= {"inference_allowed_mirroring_axes": (0, 1, 2)}
        path = tmp_path / ("small_ep4k.model" if version == 1 else "small_ep4k.pth")
        torch.save(content | more, path)
        return path

    return write
