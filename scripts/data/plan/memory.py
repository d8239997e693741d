"""How much memory one training step of a bundle's network takes, estimated without running it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

# Peak over stored activations: gradients and work space. Measured with the organ PocketNet, fp32, CPU: 2064 B per voxel
# at the peak against 1359 stored, a factor of 1.52.
OVERHEAD = 1.6


def stored_bytes(network: torch.nn.Module, shape: Sequence[int]) -> int:
    """Bytes that autograd keeps for the backward pass, parameters left out.

    The network is run on the `meta` device: shapes without numbers, so neither memory nor time is spent.

    Args:
        network: in the state in which it is trained; it is moved to `meta` and cannot be used afterwards.
        shape: of the input, `(B, C, D, H, W)`.

    Returns:
        Bytes in fp32.
    """
    network = network.to("meta").train()
    own = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: dict[int, int] = {}
    tensors: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        # a tensor is kept alive here so that no two storages share an address
        tensors.append(tensor)
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.zeros(tuple(shape), device="meta"))
    return sum(kept.values())


def step_bytes_per_voxel(network: torch.nn.Module, in_channels: int, out_channels: int, patch: Sequence[int]) -> float:
    """Peak bytes per voxel of a patch in a training step, fp32, optimizer state left out.

    Args:
        network: see `stored_bytes`.
        in_channels: of the network.
        out_channels: of the network; loss and its gradient hold about five tensors of that many channels.
        patch: a patch that the network accepts; the smaller the faster.

    Returns:
        Bytes.
    """
    stored = stored_bytes(network, (1, in_channels, *patch)) / float(np.prod(patch))
    return OVERHEAD * (stored + 5 * 4 * out_channels)


def fixed_bytes(network: torch.nn.Module) -> int:
    """Bytes that do not depend on the patch: parameters, gradients and two Adam moments, fp32."""
    return 4 * sum(p.numel() * 4 for p in network.parameters())
