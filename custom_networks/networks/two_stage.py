"""Organ first, tumour inside it: both networks as one, so that a bundle ships one file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from custom_networks.networks.base import Network


class TwoStagePocketNet(Network):
    """The organ network and the tumour network of the two-stage segmentation (PocketNet cervix paper, Figure 3).

    What it computes depends on the channels it is given, so that training, validation and inference share one
    network and one flat `state_dict` (`organ.*`, `tumor.*`):

    - image alone: both stages. The tumour network sees the image and the organ mask that the organ network found.
    - image and organ mask: the tumour network alone, which is how stage 2 is trained.

    On whole volumes use `TwoStageInferer`: it cleans the organ mask of the whole volume before stage 2 starts, which
    no single window can.

    Args:
        organ: network with `image_channels` inputs and 2 outputs (background, organ).
        tumor: network with `image_channels + 1` inputs and 2 outputs (background, tumour).
        image_channels: channels of the image.
        train_organ: False freezes the organ network, norm statistics included.
        settings: see `Network`.
    """

    def __init__(
        self,
        organ: nn.Module,
        tumor: nn.Module,
        image_channels: int = 1,
        train_organ: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(settings)
        self.organ = organ
        self.tumor = tumor
        self.image_channels = image_channels
        self.train_organ = train_organ
        self.organ.requires_grad_(train_organ)

    def train(self, mode: bool = True) -> TwoStagePocketNet:
        """Set training mode; a frozen organ network stays in evaluation mode."""
        super().train(mode)
        self.organ.train(mode and self.train_organ)
        return self

    def compiled_parts(self) -> list[nn.Module]:
        """Both networks: `TwoStageInferer` calls each by itself."""
        return [self.organ, self.tumor]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment a window.

        Args:
            x: image (B, C, *S), or image and organ mask (B, C + 1, *S).

        Returns:
            Of an image, scores (B, 3, *S) of background, organ without tumour, and tumour. Their argmax is the organ's
            decision and, inside the organ, the tumour's: that of `TwoStageInferer(largest_component=False)` on a volume
            of one window. They are no logarithms of probabilities: multiplied probabilities would give background where
            organ and tumour are both at 0.55. Of an image with organ mask, the tumour network's output: logits
            (B, 2, *S), in training a list of them if it has deep supervision.
        """
        if x.shape[1] == self.image_channels + 1:
            return self.tumor(x)
        organ = self.organ(x).float()
        background, both = organ[:, 0:1], organ[:, 1:2]
        inside = (both > background).to(x.dtype)
        tumor = self.tumor(torch.cat([x, inside], dim=1)).float()
        margin = tumor[:, 1:2] - tumor[:, 0:1]
        # the better part of the organ keeps the organ's score, so that background wins exactly where it won in stage 1
        return torch.cat([background, both - functional.relu(margin), both - functional.relu(-margin)], dim=1)


class MeanEnsemble(Network):
    """Networks of several folds as one: the logarithm of the mean of their softmax (decision P17).

    MONAI's `MeanEnsembled` averages whole volumes that an `EnsembleEvaluator` has predicted one network after the other:
    five times all classes at full size. This one averages each window, so that the inferers here, which keep no class
    scores of a whole volume, and every client that takes one network can use it.

    Args:
        networks: one network per fold, with equal inputs and outputs.
    """

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Args: x: (B, C, *S). Returns: log-probabilities (B, classes, *S)."""
        total = torch.zeros(1, device=x.device)
        for network in self.networks:
            total = total + functional.softmax(network(x).float(), dim=1)
        return (total / len(self.networks)).clamp_min(1e-7).log()
