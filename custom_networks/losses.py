"""Losses: Dice with cross-entropy for many classes, MIST's sum of parameter norms, masked reconstruction."""

from __future__ import annotations

from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from custom_networks.networks.masked_autoencoder import EPS, check_target, to_cells

# a chunk's float32 scores take at most this part of a GPU; beside them the loss holds two or three arrays as large
GPU_SHARE = 64
CPU_VOXELS = 2**16


def chunk_of(classes: int, batch: int, memory: float) -> int:
    """Voxels per chunk and sample for a GPU of `memory` bytes: few large kernels, in a small part of it."""
    return max(int(memory / GPU_SHARE) // (4 * classes * batch), CPU_VOXELS)


class _DiceCE(torch.autograd.Function):
    """Softmax of one chunk of voxels at a time, computed again for the gradient.

    Chunks are added up in float64: one float32 cell that takes millions of values loses percents.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor, options: ChunkedDiceCELoss, chunk: int) -> Tensor:
        b, c, n = logits.shape
        overlap, predicted, truth = (logits.new_zeros(b, c, dtype=torch.float64) for _ in range(3))
        entropy = logits.new_zeros((), dtype=torch.float64)
        for part in _parts(n, chunk):
            t = label[:, part].long()
            log_p = torch.log_softmax(logits[:, :, part], 1, dtype=torch.float32)
            target = log_p.gather(1, t[:, None])[:, 0]
            entropy -= target.sum()
            p = log_p.exp_()
            overlap.scatter_add_(1, t, target.exp().double())
            truth.scatter_add_(1, t, torch.ones_like(target, dtype=torch.float64))
            predicted += (p.square() if options.squared_pred else p).sum(2)
        if options.batch:
            overlap, predicted, truth = (x.sum(0, keepdim=True) for x in (overlap, predicted, truth))
        skipped = 0 if options.include_background else 1
        numerator, denominator = 2 * overlap + options.smooth_nr, predicted + truth + options.smooth_dr
        dice = (1 - numerator / denominator)[:, skipped:].mean()
        # derivatives of the Dice term by overlap and by predicted volume
        weight = torch.full_like(overlap, options.lambda_dice / (overlap.shape[0] * (c - skipped)))
        weight[:, :skipped] = 0
        by_overlap, by_predicted = -2 * weight / denominator, weight * numerator / denominator.square()
        ctx.save_for_backward(logits, label, by_overlap.float(), by_predicted.float())
        ctx.options, ctx.chunk = options, chunk
        return (options.lambda_dice * dice + options.lambda_ce * entropy / (b * n)).float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        logits, label, by_overlap, by_predicted = ctx.saved_tensors
        options, (b, _, n) = ctx.options, logits.shape
        out = torch.empty_like(logits)
        by_overlap, by_predicted = by_overlap.expand(b, -1), by_predicted.expand(b, -1)[:, :, None]
        share = options.lambda_ce / (b * n)
        for part in _parts(n, ctx.chunk):
            t = label[:, part].long()
            p = torch.softmax(logits[:, :, part], 1, dtype=torch.float32)
            target = p.gather(1, t[:, None])
            at_target = by_overlap.gather(1, t)[:, None]
            slope = by_predicted * 2 * p if options.squared_pred else by_predicted.expand_as(p)
            mean = (p * slope).sum(1, keepdim=True) + target * at_target
            p.mul_(slope - mean + share)
            p.scatter_add_(1, t[:, None], target * at_target - share)
            out[:, :, part] = p.mul_(grad)
        return out, None, None, None


def _chunk_for(logits: Tensor) -> int:
    if logits.device.type != "cuda":
        return CPU_VOXELS
    memory = torch.cuda.get_device_properties(logits.device).total_memory
    return chunk_of(logits.shape[1], logits.shape[0], memory)


def _parts(n: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


class ChunkedDiceCELoss(_Loss):
    """MONAI's `DiceCELoss(to_onehot_y=True, softmax=True, …)`, same value and gradient, in little memory.

    Beyond the scores and their gradient it holds one chunk of voxels of all classes at a time, instead of several
    full-size copies of 105 classes (one-hot label, softmax, products of both and what autograd keeps of them). Measured
    for 105 classes over 112 x 128 x 128 voxels on a CPU, beyond scores and gradient (0.72 GiB each): 0.15 instead of
    2.87 GiB. Its value is that of float64 to 1e-5, however many voxels there are.

    Args:
        include_background: whether class 0 counts in the Dice term; it always does in the cross-entropy.
        squared_pred: square the predictions in the denominator of the Dice term.
        smooth_nr: added to the numerator.
        smooth_dr: added to the denominator.
        batch: sum over the batch before dividing.
        lambda_dice: weight of the Dice term.
        lambda_ce: weight of the cross-entropy.
        chunk_voxels: voxels per chunk and sample; default what fits the device: 2^16 on a CPU, on a GPU as many as a 64th
            of its memory holds.
    """

    def __init__(
        self,
        include_background: bool = True,
        squared_pred: bool = False,
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        lambda_dice: float = 1.0,
        lambda_ce: float = 1.0,
        chunk_voxels: int | None = None,
    ) -> None:
        super().__init__()
        self.include_background, self.squared_pred, self.batch = include_background, squared_pred, batch
        self.smooth_nr, self.smooth_dr = smooth_nr, smooth_dr
        self.lambda_dice, self.lambda_ce, self.chunk_voxels = lambda_dice, lambda_ce, chunk_voxels

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar in float32.

        Args:
            input: class scores before softmax (B, C, D, H, W), C at least 2.
            target: label map (B, 1, D, H, W) of any number type.

        Raises:
            ValueError: the shapes do not fit, or there is only one class.
        """
        if input.shape[1] < 2:
            raise ValueError("one class: softmax needs at least two")
        if target.shape != (input.shape[0], 1, *input.shape[2:]):
            raise ValueError(f"label {tuple(target.shape)} does not fit scores {tuple(input.shape)}")
        logits = input.as_tensor() if isinstance(input, MetaTensor) else input
        label = target.as_tensor() if isinstance(target, MetaTensor) else target
        chunk = self.chunk_voxels or _chunk_for(logits)
        result: Tensor = _DiceCE.apply(logits.flatten(2), label.flatten(1), self, chunk)
        return result


class ParameterNormLoss(nn.Module):
    """A loss plus the sum of the 2-norms of all parameter tensors (MIST's `L2_norm` regularisation, decision P4).

    This is not weight decay: the norms are not squared, so every tensor is pulled to zero with the same strength
    whatever its size.

    Args:
        loss: the loss that is added to.
        network: whose trainable parameters are meant.
        weight: factor of the sum; 0 switches the term off.
    """

    def __init__(self, loss: nn.Module, network: nn.Module, weight: float = 1e-5) -> None:
        super().__init__()
        self.loss = loss
        self.weight = weight
        # in a tuple, so that the network does not become a part of the loss
        self._network = (network,)

    def forward(self, output: Any, target: torch.Tensor) -> torch.Tensor:
        """Args: output, target: what `loss` takes. Returns: a scalar."""
        value = self.loss(output, target)
        if self.weight:
            trained: list[torch.Tensor] = [p for p in self._network[0].parameters() if p.requires_grad]
            value = value + self.weight * torch.stack(torch._foreach_norm(trained)).sum()
        return value


class MaskedReconstructionLoss(nn.Module):
    """Mean squared error over the masked voxels; `raw`, or against each cell's (x - mean) / sqrt(variance + 1e-6).

    Args:
        target: `cell` or `raw`, as the network's. Predicting each cell's mean gives 1 with `cell`, but for constant
            cells, which give 0.

    Raises:
        ValueError: unknown target.
    """

    def __init__(self, target: str = "cell") -> None:
        super().__init__()
        check_target(target)
        self.target = target

    def forward(self, pred: tuple[Tensor, Tensor], image: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            pred: prediction (B, C, D, H, W) and visible cells (B, 1, d, h, w).
            image: (B, C, D, H, W), what was to be reconstructed.

        Returns:
            The loss; 0 if nothing is masked.
        """
        prediction, active = pred
        grid = list(active.shape[2:])
        image = image.as_tensor() if isinstance(image, MetaTensor) else image
        hidden, guess = to_cells(image, grid).float(), to_cells(prediction, grid).float()
        if self.target == "cell":
            var, mean = torch.var_mean(hidden, dim=-1, correction=0, keepdim=True)
            hidden = (hidden - mean) / (var + EPS).sqrt()
        # a weighted mean: picking the masked cells would make a GPU wait for their number
        masked = (~active[:, 0])[..., None]
        error = (guess - hidden).square().mean(dim=-1) * masked
        return error.sum() / (masked.sum() * hidden.shape[-2]).clamp(min=1)
