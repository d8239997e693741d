import pytest
import torch
from torch import nn

from custom_networks import ParameterNormLoss


def test_adds_the_unsquared_norms_of_all_trained_tensors():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(3.0)
    network[1].bias.requires_grad_(False)
    loss = ParameterNormLoss(nn.MSELoss(), network, weight=0.1)
    # norms: 4 values of 3, 2 values, 2 values; the frozen bias is left out
    expected = 0.1 * 3 * (4**0.5 + 2**0.5 + 2**0.5)
    assert loss(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(expected)


def test_gradient_has_the_same_strength_for_every_tensor_and_zero_switches_it_off():
    network = nn.Linear(3, 3)
    ParameterNormLoss(nn.MSELoss(), network, weight=0.5)(torch.zeros(1), torch.zeros(1)).backward()
    assert [p.grad.norm().item() for p in network.parameters()] == pytest.approx([0.5, 0.5])
    off = ParameterNormLoss(nn.MSELoss(), network, weight=0.0)
    assert off(torch.ones(1), torch.zeros(1)).item() == 1.0
    assert not list(off.parameters())
