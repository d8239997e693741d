"""One training step of a benchmark: what it does, how long it takes, what memory and arithmetic it needs."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scripts.core.memory import peak_bytes


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    """The GynBTNet bundles' optimizer."""
    return torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=1e-5, fused=True)


def training_flops(forward: Callable[[], Any]) -> float:
    """FLOPs of a training step: the backward pass costs twice the forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward()
    return 3.0 * counter.get_total_flops()


def train_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], autocast: Callable[[], Any]
) -> None:
    """Forward, backward, clipping and an optimizer step; gradients are freed.

    Args:
        network: that `loss` calls.
        optimizer: of its parameters.
        loss: gives the loss, a scalar.
        autocast: makes the context of the forward pass.
    """
    network.train()
    optimizer.zero_grad(set_to_none=True)
    with autocast():
        value = loss()
    value.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 12.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def timed(step: Callable[[], None], on_gpu: bool) -> float:
    """Seconds of one call, until the GPU has finished it."""
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def added_peak(step: Callable[[], None], on_gpu: bool) -> float:
    """GiB that a step adds at its highest."""
    gc.collect()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**30
    with suppress(OSError):
        # freed memory goes back first
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = peak_bytes(reset=True)
    step()
    return (peak_bytes() - before) / 2**30
