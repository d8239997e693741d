"""Organ first, tumour inside it: both networks as one, so that a bundle ships one file of weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class TwoStagePocketNet(nn.Module):
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
    """

    def __init__(self, organ: nn.Module, tumor: nn.Module, image_channels: int = 1, train_organ: bool = False) -> None:
        super().__init__()
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment a window.

        Args:
            x: image (B, C, *S), or image and organ mask (B, C + 1, *S).

        Returns:
            Of an image, scores (B, 3, *S) of background, organ without tumour, and tumour: the logarithms of their
            probabilities, the tumour's being zero outside the organ mask. Of an image with organ mask, the tumour
            network's output: logits (B, 2, *S), in training a list of them if it has deep supervision.
        """
        if x.shape[1] == self.image_channels + 1:
            return self.tumor(x)
        organ = functional.softmax(self.organ(x).float(), dim=1)
        mask = (organ[:, 1:2] > organ[:, 0:1]).to(x.dtype)
        tumor = functional.softmax(self.tumor(torch.cat([x, mask], dim=1)).float(), dim=1)[:, 1:2] * mask
        probabilities = torch.cat([organ[:, 0:1], organ[:, 1:2] * (1 - tumor), organ[:, 1:2] * tumor], dim=1)
        return probabilities.clamp_min(1e-7).log()


class MeanEnsemble(nn.Module):
    """Networks of several folds as one: the logarithm of the mean of their softmax (decision P17).

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
