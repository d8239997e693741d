"""The networks that are measured side by side: ours, and the ones people would use instead, if installed.

Every network is for one input channel and two classes, with deep supervision off, and a peer is planned for the input's
size and spacing by its own rules.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

# the PocketNet paper's spacing in mm: what makes anisotropic kernels worthwhile
SPACING = (0.469, 0.469, 5.0)
ANISOTROPIC: dict[str, Any] = {
    "kernel_sizes": [(3, 3, 1), (3, 3, 1), 3, 3],
    "strides": [(2, 2, 1), (2, 2, 1), 2],
}


@dataclass(frozen=True)
class Entry:
    """A row of the table: its name, what must be installed, and how the network is built for a size (H, W, D)."""

    title: str
    needs: str
    build: Callable[[Sequence[int]], nn.Module]


def _pocket(**arguments: Any) -> Callable[[Sequence[int]], nn.Module]:
    def build(size: Sequence[int]) -> nn.Module:
        from custom_networks.networks.pocketnet import PocketNet

        return PocketNet(spatial_dims=3, in_channels=1, out_channels=2, levels=4, **arguments)

    return build


def _mist(size: Sequence[int]) -> nn.Module:
    # the registry's "nnunet-pocket" without its extra heads, which the registry always adds
    nnunet: Any = importlib.import_module("mist.models.nnunet.mist_nnunet")
    return nnunet.NNUNet(
        in_channels=1,
        out_channels=2,
        patch_size=list(size),
        target_spacing=list(SPACING),
        use_residual_blocks=True,
        use_deep_supervision=False,
        use_pocket_model=True,
    )


def _plan(size: Sequence[int], smallest: int = 4) -> tuple[list[list[int]], list[list[int]]]:
    """Strides and kernel sizes by nnU-Net's rules, which MIST follows too.

    The finest axes are halved while their edges stay at least `smallest`; an axis takes part in convolutions once its
    spacing is within a factor of two of the finest.

    Args:
        size: of the patch.
        smallest: edge of the deepest feature map.

    Returns:
        Strides and kernel sizes of each level, the first level's strides being 1.
    """
    edges, spacing, kernel = list(size), list(SPACING), [1] * len(size)
    strides: list[list[int]] = [[1] * len(size)]
    kernels: list[list[int]] = []
    while able := [a for a, edge in enumerate(edges) if edge >= 2 * smallest]:
        finest = min(spacing[a] for a in able)
        halved = [a for a in able if spacing[a] / finest < 2]
        if len(halved) == 1 and edges[halved[0]] < 3 * smallest:
            break
        kernel = [3 if k == 3 or s / min(spacing) < 2 else 1 for k, s in zip(kernel, spacing, strict=True)]
        kernels.append(kernel)
        strides.append([2 if a in halved else 1 for a in range(len(size))])
        spacing = [s * n for s, n in zip(spacing, strides[-1], strict=True)]
        edges = [-(-e // n) for e, n in zip(edges, strides[-1], strict=True)]
    return strides, [*kernels, [3] * len(size)]


def _dynunet(size: Sequence[int]) -> nn.Module:
    from monai.networks.nets import DynUNet

    strides, kernels = _plan(size)
    return DynUNet(3, 1, 2, kernel_size=kernels, strides=strides, upsample_kernel_size=strides[1:])


def _basicunet(size: Sequence[int]) -> nn.Module:
    from monai.networks.nets import BasicUNet

    return BasicUNet(spatial_dims=3, in_channels=1, out_channels=2)


def _plainconv(size: Sequence[int]) -> nn.Module:
    unet: Any = importlib.import_module("dynamic_network_architectures.architectures.unet")
    strides, kernels = _plan(size)
    stages = len(strides)
    return unet.PlainConvUNet(
        input_channels=1,
        n_stages=stages,
        features_per_stage=[min(32 * 2**i, 320) for i in range(stages)],
        conv_op=nn.Conv3d,
        kernel_sizes=kernels,
        strides=strides,
        n_conv_per_stage=2,
        num_classes=2,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )


NETWORKS = {
    "pocket_anisotropic": Entry("PocketNet, anisotropic", "custom_networks", _pocket(**ANISOTROPIC)),
    "pocket": Entry("PocketNet, isotropic", "custom_networks", _pocket()),
    "doubling": Entry("same network, features 32 to 256", "custom_networks", _pocket(features=[32, 64, 128, 256])),
    "mist": Entry("MIST nnunet-pocket", "mist", _mist),
    "plainconv": Entry("nnU-Net PlainConvUNet", "dynamic_network_architectures", _plainconv),
    "dynunet": Entry("MONAI DynUNet, anisotropic", "monai", _dynunet),
    "basicunet": Entry("MONAI BasicUNet", "monai", _basicunet),
}
