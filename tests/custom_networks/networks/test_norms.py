from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.networks.encoder import GynBTEncoder
from custom_networks.networks.norms import FeatureNorm

RANK = """
import sys
import torch
import torch.distributed as dist
from custom_networks.networks.encoder import GynBTEncoder

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt")
encoder = GynBTEncoder(1, [4, 8], 2, (2,), norm="batch", checkpointing=True).double()
encoder.load_state_dict(given["state"])
x = given["x"][2 * rank : 2 * rank + 2].requires_grad_()
features = encoder(x, given["active"][2 * rank : 2 * rank + 2])
sum((f * w[2 * rank : 2 * rank + 2]).sum() for f, w in zip(features, given["weights"])).backward()
for p in encoder.parameters():
    dist.all_reduce(p.grad)
torch.save(
    {"features": features, "x": x.grad, "grads": [p.grad for p in encoder.parameters()], "state": encoder.state_dict()},
    f"{folder}/rank{rank}.pt",
)
dist.destroy_process_group()
"""


def test_instance_and_batch_norm_are_torchs() -> None:
    x = torch.randn(2, 3, 4, 5, 6) * 3 + 2
    ours, theirs = FeatureNorm(3), nn.InstanceNorm3d(3, affine=True)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    batch, reference = FeatureNorm(3, "batch"), nn.BatchNorm3d(3)
    for _ in range(2):
        torch.testing.assert_close(batch(x), reference(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(batch.running_mean, reference.running_mean)
    torch.testing.assert_close(batch.running_var, reference.running_var)
    batch.eval(), reference.eval()
    torch.testing.assert_close(batch(x), reference(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
def test_instance_norm_keeps_layout_and_type_and_no_float32_copy(batch: int, channels_last: bool) -> None:
    torch.manual_seed(0)
    norm = FeatureNorm(4)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x = torch.randn(batch, 4, 6, 7, 8) * torch.arange(1, batch + 1).view(-1, 1, 1, 1, 1) + 3
    if channels_last:
        x = x.to(memory_format=torch.channels_last_3d)
    expected = F.instance_norm(x, weight=norm.weight, bias=norm.bias)
    torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-5)
    kept: list[torch.Tensor] = []
    half = x.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):  # type: ignore[func-returns-value]
            out = norm(half)
        out.sum().backward()
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last_3d) == channels_last
    assert half.grad is not None
    assert {t.dtype for t in kept if t.ndim == 5} == {torch.bfloat16}


def test_statistics_of_millions_of_rows_are_those_of_float64() -> None:
    torch.manual_seed(0)
    rows = torch.randn(1_200_000, 2) * torch.tensor([1.0, 0.1]) + torch.tensor([10.0, -3.0])
    norm = FeatureNorm(2, "batch", momentum=1.0)
    out = norm.rows(rows)
    exact = rows.double()
    torch.testing.assert_close(norm.running_mean, exact.mean(0).float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(norm.running_var, exact.var(0).float(), rtol=1e-4, atol=0)
    spread = (exact.var(0, correction=0) + norm.eps).sqrt()
    torch.testing.assert_close(out, ((exact - exact.mean(0)) / spread).float(), rtol=0, atol=1e-3)


def test_rows_are_normalised_together() -> None:
    rows = torch.randn(50, 3, requires_grad=True)
    norm, reference = FeatureNorm(3, "batch"), nn.BatchNorm1d(3)
    torch.testing.assert_close(norm.rows(rows), reference(rows), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, reference.running_var)


def test_one_voxel_in_all_gives_the_bias() -> None:
    norm = FeatureNorm(3, "batch")
    nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm.rows(torch.randn(1, 3)), norm.bias[None], rtol=0, atol=1e-3)
    assert norm.running_var is not None
    assert torch.isfinite(norm.running_var).all()
    instance = FeatureNorm(3)
    assert torch.isfinite(instance(torch.randn(1, 3, 1, 1, 1))).all()


def test_two_ranks_share_statistics_of_active_voxels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = GynBTEncoder(1, [4, 8], 2, (2,), norm="batch").double()
    active = torch.rand(4, 1, 4, 4, 4) < torch.tensor([0.9, 0.5, 0.2, 0.1]).view(4, 1, 1, 1, 1)
    x = torch.randn(4, 1, 8, 8, 8, dtype=torch.float64) * torch.arange(1, 5).view(4, 1, 1, 1, 1)
    weights = [torch.randn(4, 4, 8, 8, 8).double(), torch.randn(4, 8, 4, 4, 4).double()]
    given = {"state": encoder.state_dict(), "x": x, "active": active, "weights": weights}
    torch.save(given, tmp_path / "given.pt")
    command = [sys.executable, "-c", RANK]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    ranks = [subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment) for rank in range(2)]
    assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]

    x.requires_grad_()
    features = encoder(x, active)
    sum((f * w).sum() for f, w in zip(features, weights, strict=True)).backward()  # type: ignore[union-attr]
    # statistics travel in float32
    close = {"rtol": 1e-3, "atol": 1e-4}
    got = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    for i, feature in enumerate(features):
        torch.testing.assert_close(torch.cat([part["features"][i] for part in got]), feature, **close)
    torch.testing.assert_close(torch.cat([part["x"] for part in got]), x.grad, **close)
    for part in got:
        for grad, parameter in zip(part["grads"], encoder.parameters(), strict=True):
            torch.testing.assert_close(grad, parameter.grad, **close)
        for name, value in encoder.state_dict().items():
            torch.testing.assert_close(part["state"][name], value, **close)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'layer'"):
        FeatureNorm(2, "layer")
