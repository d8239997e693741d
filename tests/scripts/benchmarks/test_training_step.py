from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from scripts.benchmarks.training_step import adamw, added_peak, timed, train_step, training_flops


def test_a_step_clips_and_frees_its_gradients() -> None:
    torch.manual_seed(0)
    network = nn.Linear(4, 1).eval()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    before = [p.detach().clone() for p in network.parameters()]
    x = torch.full((8, 4), 1e3)
    train_step(network, optimizer, lambda: network(x).sum(), nullcontext)
    assert network.training
    moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(network.parameters(), before, strict=True)]).norm()
    torch.testing.assert_close(moved, torch.tensor(12.0), rtol=1e-3, atol=0)
    assert all(p.grad is None for p in network.parameters())


def test_the_forward_pass_alone_runs_under_autocast() -> None:
    network, seen = nn.Linear(4, 4), []

    def loss() -> torch.Tensor:
        seen.append(network(torch.ones(2, 4)).dtype)
        return network(torch.ones(2, 4)).float().sum()

    train_step(network, adamw(network), loss, lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    assert seen == [torch.bfloat16]
    assert network.weight.dtype == torch.float32


def test_flops_are_three_forward_passes() -> None:
    layer, x = nn.Linear(10, 20, bias=False), torch.ones(5, 10)
    assert training_flops(lambda: layer(x)) == 3 * 2 * 5 * 10 * 20


def test_time_and_peak_are_of_the_call() -> None:
    calls: list[int] = []
    assert 0 <= timed(lambda: calls.append(1), on_gpu=False) < 1
    assert calls == [1]
    peak = added_peak(lambda: torch.ones(32 << 20).sum().item() and None, on_gpu=False)
    assert 0.1 < peak < 0.2  # 128 MiB
