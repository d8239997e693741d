"""Batch norm whose statistics are those of the whole batch, over all ranks, on GPU and CPU alike."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce


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
