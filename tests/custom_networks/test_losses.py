from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import nn

from custom_networks import ParameterNormLoss
from custom_networks.losses import GPU_SHARE, ChunkedDiceCELoss, _chunk_for

PEAK = """
import resource, sys, torch
from monai.losses import DiceCELoss
from custom_networks.losses import ChunkedDiceCELoss
loss = ChunkedDiceCELoss(chunk_voxels=2**14) if sys.argv[1] == "chunked" else DiceCELoss(to_onehot_y=True, softmax=True)
scores = torch.randn(1, 105, 64, 64, 64, requires_grad=True)
label = torch.randint(0, 105, (1, 1, 64, 64, 64)).float()
loss(scores[..., :4, :4, :4], label[..., :4, :4, :4]).backward()
scores.grad = None
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
loss(scores, label).backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / scores.nbytes)
"""


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"include_background": False, "smooth_nr": 0.0, "smooth_dr": 1e-6},
        {"squared_pred": True, "batch": True, "lambda_dice": 0.5, "lambda_ce": 0.3},
        {"squared_pred": True, "include_background": False, "batch": True},
    ],
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_value_and_gradient_are_monais(options: dict[str, float | bool], channels_last: bool) -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 7, 5, 6, 4) * 3
    if channels_last:
        scores = scores.to(memory_format=torch.channels_last_3d)
    # class 6 is absent, as most of 105 are from a crop
    label = torch.randint(0, 6, (2, 1, 5, 6, 4)).float()
    ours, theirs = (scores.clone().requires_grad_() for _ in range(2))
    value = ChunkedDiceCELoss(**options, chunk_voxels=37)(ours, label)  # type: ignore[arg-type]
    expected = DiceCELoss(to_onehot_y=True, softmax=True, **options)(theirs, label)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    (2.5 * value).backward()
    (2.5 * expected).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)


def test_value_is_that_of_float64_at_two_million_voxels() -> None:
    """One float32 cell per class would be off by percents."""
    torch.manual_seed(0)
    scores = torch.randn(1, 3, 112, 128, 128)
    label = (torch.rand(1, 1, 112, 128, 128) < 0.02).float()
    exact = DiceCELoss(to_onehot_y=True, softmax=True)(scores.double(), label).item()
    for chunk in (None, 112 * 128 * 128):
        assert ChunkedDiceCELoss(chunk_voxels=chunk)(scores, label).item() == pytest.approx(exact, rel=1e-5)


def test_a_chunk_fits_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        total_memory = 24 * 2**30

    class OnCard:
        shape, device = (2, 105, 10), torch.device("cuda")

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card)
    voxels = _chunk_for(OnCard())  # type: ignore[arg-type]
    assert voxels == 479_349
    assert voxels * 4 * 2 * 105 <= Card.total_memory / GPU_SHARE
    assert _chunk_for(torch.zeros(2, 105, 10)) == 2**16


def test_half_precision_scores_keep_their_type() -> None:
    scores = torch.randn(1, 4, 3, 3, 3).bfloat16().requires_grad_()
    label = torch.randint(0, 4, (1, 1, 3, 3, 3), dtype=torch.uint8)
    loss = ChunkedDiceCELoss()(scores, label)
    loss.backward()
    assert loss.dtype == torch.float32
    assert scores.grad is not None
    assert scores.grad.dtype == torch.bfloat16
    full = DiceCELoss(to_onehot_y=True, softmax=True)(scores.detach().float(), label)
    torch.testing.assert_close(loss, full, rtol=1e-5, atol=1e-6)


def test_under_deep_supervision() -> None:
    heads = [torch.randn(1, 3, n, n, n, requires_grad=True) for n in (8, 4, 2)]
    label = torch.randint(0, 3, (1, 1, 8, 8, 8)).float()
    ours = DeepSupervisionLoss(ChunkedDiceCELoss())(heads, label)
    theirs = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True))(heads, label)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    ours.backward()
    assert all(head.grad is not None for head in heads)


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match="two"):
        ChunkedDiceCELoss()(torch.randn(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2))
    with pytest.raises(ValueError, match="does not fit"):
        ChunkedDiceCELoss()(torch.randn(1, 3, 2, 2, 2), torch.zeros(1, 3, 2, 2, 2))


@pytest.mark.slow
def test_memory_beyond_the_gradient_is_a_chunk() -> None:
    peak = {
        name: float(subprocess.run([sys.executable, "-c", PEAK, name], capture_output=True, check=True).stdout)
        for name in ("chunked", "monai")
    }
    # in copies of the scores, beyond them and their gradient; a chunk is a sixteenth of the voxels here
    assert peak["chunked"] < 1.7
    assert peak["monai"] > 3.5


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
