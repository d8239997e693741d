"""Normalisation: GynBTNet's instance or batch norm, and the one batch norm whose statistics all ranks share."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

# beyond it torch's CPU kernel, which adds up a channel in one float32 number, is off by more than a thousandth
CPU_VOXELS = 2**20


class _CrossRankNorm(torch.autograd.Function):
    """Batch norm over the voxels of all ranks, which may hold different numbers of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes, shape = _axes(x)
        values = x.float()
        # centred first: the difference of two large sums would cancel
        var, mean = torch.var_mean(values, axes, correction=0)
        local = torch.cat([mean, var, mean.new_tensor([x.numel() // x.shape[1]])])
        ranks = [local]
        if _several_ranks():
            ranks = [torch.empty_like(local) for _ in range(dist.get_world_size())]
            dist.all_gather(ranks, local)
        means, variances, counts = torch.stack(ranks).double().split([len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        grand = (means * counts).sum(0) / total
        spread = ((variances + (means - grand) ** 2) * counts).sum(0) / total
        mean, var, total = grand.float(), spread.float(), total.float()
        scale = torch.rsqrt(var + eps)
        ctx.save_for_backward(x, weight, mean, scale, total)
        ctx.mark_non_differentiable(mean, var, total)
        out = (values - mean.view(shape)) * (scale * weight).view(shape) + bias.view(shape)
        return out.to(x.dtype), mean, var, total

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale, total = ctx.saved_tensors
        axes, shape = _axes(x)
        g, centred = grad.float(), (x.float() - mean.view(shape)) * scale.view(shape)
        bias_grad, weight_grad = g.sum(axes), (g * centred).sum(axes)
        sums = torch.stack([bias_grad, weight_grad])
        if _several_ranks():
            dist.all_reduce(sums)
        sums = sums / total
        dx = (g - sums[0].view(shape) - centred * sums[1].view(shape)) * (scale * weight).view(shape)
        return dx.to(x.dtype), weight_grad.to(weight.dtype), bias_grad.to(weight.dtype), None


def _axes(x: Tensor) -> tuple[list[int], list[int]]:
    """The axes of (B, C, *S) that a batch norm reduces, and the shape of one number per channel."""
    return [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]


def _several_ranks() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def cross_rank_batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise (B, C, *S) by the statistics of all ranks of the process group, or of this process if there is none.

    `torch.nn.SyncBatchNorm` does so on GPUs alone, and wants at least two voxels on every rank.

    Args:
        x: (B, C, *S); ranks may hold different numbers of voxels.
        weight: (C,).
        bias: (C,).
        eps: added to the variance.

    Returns:
        (B, C, *S) of the input's type, and for running statistics the mean and the unbiased variance, (C,) float32.
    """
    out, mean, var, total = _CrossRankNorm.apply(x, weight, bias, eps)
    return out, mean, var * (total / (total - 1).clamp(min=1))


class FeatureNorm(nn.Module):
    """Instance norm, or batch norm over all or over active voxels; `weight` and `bias` have the same names in both.

    Batch norm uses the voxels of every rank once `torch.distributed` is initialised (decision: pretraining normalises
    over active voxels across GPUs); it needs no conversion to `SyncBatchNorm`. One voxel in all has variance 0.

    Args:
        channels: number of features C.
        kind: `instance` or `batch`.
        eps: added to the variance.
        momentum: of the running statistics.

    Raises:
        ValueError: unknown kind.
    """

    def __init__(self, channels: int, kind: str = "instance", eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        if kind not in {"instance", "batch"}:
            raise ValueError(f"norm '{kind}' is neither 'instance' nor 'batch'")
        self.kind, self.channels, self.eps, self.momentum = kind, channels, eps, momentum
        # set while activation checkpointing runs a block again: its statistics were counted the first time
        self.frozen = False
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor | None
        self.running_var: Tensor | None
        self.register_buffer("running_mean", torch.zeros(channels) if kind == "batch" else None)
        self.register_buffer("running_var", torch.ones(channels) if kind == "batch" else None)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, D, H, W); returns the same shape and type."""
        if self.kind == "batch":
            return self._batch(x)
        if not torch.jit.is_scripting():
            return self._instance(x)
        return torch.group_norm(x, self.channels, self.weight, self.bias, self.eps)

    def rows(self, rows: Tensor) -> Tensor:
        """Normalise rows (n, C) over all of them; returns the same shape. Batch norm only."""
        n, channels = rows.shape
        x = rows.view(1, n, 1, 1, channels).permute(0, 4, 1, 2, 3)
        return self._batch(x).permute(0, 2, 3, 4, 1).reshape(n, channels)

    @torch.jit.unused
    def _instance(self, x: Tensor) -> Tensor:
        """Instance norm: `group_norm` with a group per channel, or the batch norm of each sample.

        The second takes channels-last memory, and half precision with float32 weights, as they come; `group_norm` copies
        to contiguous memory, and under autocast keeps a float32 copy for the backward pass. Contiguous float32 is where
        `group_norm` is faster (measured on a CPU), and it is what exporters know.
        """
        exported = torch.jit.is_tracing() or torch.compiler.is_exporting()
        if exported or (x.dtype == torch.float32 and x.is_contiguous()):
            return torch.group_norm(x, self.channels, self.weight, self.bias, self.eps).to(x.dtype)
        with_cudnn = torch.backends.cudnn.enabled
        samples = [
            torch.batch_norm(sample, self.weight, self.bias, None, None, True, 0.0, self.eps, with_cudnn)
            for sample in x.split(1)
        ]
        return samples[0] if len(samples) == 1 else torch.cat(samples)

    def _batch(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting() and self.training:
            return self._train(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

    @torch.jit.unused
    def _train(self, x: Tensor) -> Tensor:
        if _several_ranks() or (x.device.type == "cpu" and x.numel() // x.shape[1] > CPU_VOXELS):
            out, mean, var = cross_rank_batch_norm(x, self.weight, self.bias, self.eps)
            self._track(mean, var)
            return out
        if x.numel() > x.shape[1]:
            running_mean, running_var = self.running_mean, self.running_var
            if self.frozen and running_mean is not None and running_var is not None:
                running_mean, running_var = running_mean.clone(), running_var.clone()
            with_cudnn = torch.backends.cudnn.enabled
            return torch.batch_norm(
                x, self.weight, self.bias, running_mean, running_var, True, self.momentum, self.eps, with_cudnn
            )
        self._track(x.detach().flatten(), torch.zeros_like(self.weight))
        return torch.batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, False)

    def _track(self, mean: Tensor, var: Tensor) -> None:
        if self.frozen or self.running_mean is None or self.running_var is None:
            return
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)


class CrossRankBatchNorm(nn.modules.batchnorm._BatchNorm):
    """`torch.nn.BatchNorm3d` and its kin with the statistics of all ranks, also on the CPU."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2-D input, got {input.dim()}-D.")

    def forward(self, input: Tensor) -> Tensor:
        """Args: input: (B, C, *S). Returns: the same shape."""
        if not self.training or not _several_ranks():
            return super().forward(input)
        weight = torch.ones_like(self.running_mean) if self.weight is None else self.weight
        bias = torch.zeros_like(weight) if self.bias is None else self.bias
        out, mean, var = cross_rank_batch_norm(input, weight, bias, self.eps)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked += 1
                momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean.to(self.running_mean), momentum)
                self.running_var.lerp_(var.to(self.running_var), momentum)
        return out


def convert_sync_batchnorm(network: nn.Module) -> nn.Module:
    """Make every batch norm of a network compute its statistics over all ranks.

    Args:
        network: changed in place where possible; parameters and their names stay.

    Returns:
        The network to train: on a machine with GPUs with `torch.nn.SyncBatchNorm`, else with `CrossRankBatchNorm`.
    """
    if torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.__class__ = CrossRankBatchNorm  # type: ignore[assignment]
    return network
