from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
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
