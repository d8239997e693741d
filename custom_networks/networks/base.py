"""What the networks have in common: plain tensors inside, and how they are put on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from torch import nn

from custom_networks.settings import carry_settings, check_scriptable


class Network(nn.Module):
    """A network whose inputs lose MONAI's metadata at its door, and which holds the settings it is trained with.

    `MetaTensor` runs Python for every operation, and `torch.compile` breaks the network into many graphs over it. It
    ends before `forward`, so that a compiled `forward` is one graph.

    Args:
        settings: from `check_settings`; the `state_dict` then carries them, and weights of others are refused.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        carry_settings(self, settings)

    def __prepare_scriptable__(self) -> Network:
        """Asked by `torch.jit.script`."""
        check_scriptable(self)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`forward` of plain tensors."""
        return super().__call__(*(x.as_tensor() if isinstance(x, MetaTensor) else x for x in args), **kwargs)

    def compiled_parts(self) -> list[nn.Module]:
        """What `place` compiles: every module that a trainer or an inferer calls, each one graph."""
        return [self]


def place(
    network: nn.Module,
    device: torch.device | str,
    memory_format: torch.memory_format = torch.contiguous_format,
    compile: bool = False,
) -> nn.Module:
    """Put a network on a device.

    Args:
        network: changed in place; its `state_dict` keeps its names, compiled or not.
        device: where to.
        memory_format: of its weights, and so of what it computes.
        compile: `torch.compile` it; the first call of every input size then takes a minute or more.

    Returns:
        The network.
    """
    # torch's stubs know no memory_format beside a device
    network = network.to(device, memory_format=memory_format)  # type: ignore[call-overload]
    if compile:
        for part in network.compiled_parts() if isinstance(network, Network) else [network]:
            part.compile()
    return network
