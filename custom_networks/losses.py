"""What MONAI's losses lack for the PocketNet study."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class ParameterNormLoss(nn.Module):
    """A loss plus the sum of the 2-norms of all parameter tensors (MIST's `L2_norm` regularisation, decision P4).

    This is not weight decay: the norms are not squared, so every tensor is pulled to zero with the same strength
    whatever its size.

    Args:
        loss: the loss that is added to.
        network: whose trainable parameters are meant.
        weight: factor of the sum; 0 switches the term off.
    """

    def __init__(self, loss: nn.Module, network: nn.Module, weight: float = 1e-5) -> None:
        super().__init__()
        self.loss = loss
        self.weight = weight
        # in a tuple, so that the network does not become a part of the loss
        self._network = (network,)

    def forward(self, output: Any, target: torch.Tensor) -> torch.Tensor:
        """Args: output, target: what `loss` takes. Returns: a scalar."""
        value = self.loss(output, target)
        if self.weight:
            trained: list[torch.Tensor] = [p for p in self._network[0].parameters() if p.requires_grad]
            value = value + self.weight * torch.stack(torch._foreach_norm(trained)).sum()
        return value
