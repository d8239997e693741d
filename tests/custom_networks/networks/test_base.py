from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from custom_networks import GynBTNet, MeanEnsemble, PocketNet, SparseMaskedAutoencoder, TwoStagePocketNet
from custom_networks.networks.base import Network, place


class Seen(Network):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 1)
        self.types: list[type] = []

    def forward(self, x: Tensor) -> Tensor:
        self.types.append(type(x))
        return self.conv(x)


def pockets() -> list[PocketNet]:
    return [PocketNet(features=2, levels=2, in_channels=n) for n in (1, 2)]


def test_metadata_end_at_the_door() -> None:
    network = Seen()
    assert type(network(MetaTensor(torch.zeros(1, 1, 2, 2, 2)))) is Tensor
    assert network.types == [Tensor]


@pytest.mark.parametrize(
    ("network", "compiled"),
    [
        (pockets()[0], [""]),
        (GynBTNet(variant="tiny"), [""]),
        (TwoStagePocketNet(*pockets()), ["organ", "tumor"]),
        (SparseMaskedAutoencoder(variant="tiny", decoder_width=16), ["decoder"]),
        (MeanEnsemble([PocketNet(features=2, levels=2)]), [""]),
        (nn.Conv3d(1, 1, 1), [""]),
    ],
)
def test_place_compiles_what_is_called_and_keeps_names(network: nn.Module, compiled: list[str]) -> None:
    names = list(network.state_dict())
    plain = place(network, "cpu")
    assert not any(module._compiled_call_impl for module in plain.modules())
    placed = place(network, torch.device("cpu"), torch.channels_last_3d, compile=True)
    assert [name for name, module in placed.named_modules() if module._compiled_call_impl] == compiled
    assert list(placed.state_dict()) == names
    weight = next(
        p
        for p in placed.parameters()
        if (p.ndim == 5 and p.shape[1] > 1 and p.shape[2] > 1) or isinstance(network, nn.Conv3d)
    )
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
