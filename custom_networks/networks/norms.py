"""The normalisation of GynBTNet: instance norm, or batch norm over active voxels that all ranks share."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class _SynchronisedNorm(torch.autograd.Function):
    """Batch norm over the voxels of all ranks, which may hold different numbers of them."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # type: ignore[no-untyped-def]
        axes, shape = (0, 2, 3, 4), (1, -1, 1, 1, 1)
        values = x.float()
        var, mean = torch.var_mean(values, axes, correction=0)
        local = torch.cat([mean, var, mean.new_tensor([x.numel() // x.shape[1]])])
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
    def backward(ctx, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[no-untyped-def]
        x, weight, mean, scale, total = ctx.saved_tensors
        axes, shape = (0, 2, 3, 4), (1, -1, 1, 1, 1)
        g, centred = grad.float(), (x.float() - mean.view(shape)) * scale.view(shape)
        bias_grad, weight_grad = g.sum(axes), (g * centred).sum(axes)
        sums = torch.stack([bias_grad, weight_grad])
        dist.all_reduce(sums)
        sums = sums / total
        dx = (g - sums[0].view(shape) - centred * sums[1].view(shape)) * (scale * weight).view(shape)
        return dx.to(x.dtype), weight_grad, bias_grad, None


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
        """Normalise (B, C, D, H, W); returns the same shape."""
        if self.kind == "batch":
            return self._batch(x)
        # one group per channel is instance norm; its kernel is faster and keeps channels-last memory
        # autocast computes it in float32; what follows need not
        return torch.group_norm(x, self.channels, self.weight, self.bias, self.eps).to(x.dtype)

    def rows(self, rows: Tensor) -> Tensor:
        """Normalise rows (n, C) over all of them; returns the same shape. Batch norm only."""
        n, channels = rows.shape
        x = rows.view(1, n, 1, 1, channels).permute(0, 4, 1, 2, 3)
        return self._batch(x).permute(0, 2, 3, 4, 1).reshape(n, channels)

    def _batch(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting() and self.training:
            return self._train(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

    @torch.jit.unused
    def _train(self, x: Tensor) -> Tensor:
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            out, mean, var, total = _SynchronisedNorm.apply(x, self.weight, self.bias, self.eps)
            unbiased = var * (total / (total - 1).clamp(min=1))
            self._track(mean, unbiased)
            return out
        if x.numel() > x.shape[1]:
            mean, var = self.running_mean, self.running_var
            if self.frozen and mean is not None and var is not None:
                mean, var = mean.clone(), var.clone()
            return torch.batch_norm(
                x, self.weight, self.bias, mean, var, True, self.momentum, self.eps, torch.backends.cudnn.enabled
            )
        self._track(x.detach().flatten(), torch.zeros_like(self.weight))
        return torch.batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, False)

    def _track(self, mean: Tensor, var: Tensor) -> None:
        if self.frozen or self.running_mean is None or self.running_var is None:
            return
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)


class CPUSyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over all ranks by differentiable all-reduce, where `torch.nn.SyncBatchNorm` (GPU only) cannot go."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2-D input, got {input.dim()}-D.")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Args: input: (B, C, *S). Returns: the same shape."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        # MONAI's trainers pass MetaTensors, whose slices carry metadata that do not belong here
        input = input.as_subclass(torch.Tensor)
        axes = [0, *range(2, input.dim())]
        shape = [1, -1] + [1] * (input.dim() - 2)
        count = torch.full((1,), input.numel() / input.shape[1], device=input.device)
        sums = all_reduce(torch.cat([input.float().sum(axes), count]))
        mean, n = sums[:-1] / sums[-1], sums[-1].detach()
        centred = input.float() - mean.view(shape)
        # the second pass over centred values avoids the cancellation of E[x^2] - E[x]^2
        var = all_reduce(centred.square().sum(axes)) / n
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked += 1
                momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean.to(self.running_mean), momentum)
                self.running_var.lerp_((var * n / (n - 1)).to(self.running_var), momentum)
        out = centred * (var + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)


def convert_sync_batchnorm(network: nn.Module) -> nn.Module:
    """Make every batch norm of a network compute its statistics over all ranks.

    Args:
        network: changed in place where possible; parameters and their names stay.

    Returns:
        The network to train.
    """
    if torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.__class__ = CPUSyncBatchNorm  # type: ignore[assignment]
    return network
