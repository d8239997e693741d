"""Masked image modelling: a sparse encoder sees some cells, a light dense decoder reconstructs the others."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_networks.errors import CaseError
from custom_networks.networks.base import Network
from custom_networks.networks.encoder import GynBTEncoder
from custom_networks.networks.gynbtnet import VARIANTS, stage_widths
from custom_networks.networks.norms import FeatureNorm
from custom_networks.networks.sparse import fixed_cells, random_cells, scatter, upsample_cells

EPS = 1e-6


def to_cells(x: Tensor, grid: list[int]) -> Tensor:
    """Cut (B, C, D, H, W) into (B, d, h, w, C, voxels of a cell)."""
    b, c, depth, height, width = x.shape
    d, h, w = grid
    x = x.reshape(b, c, d, depth // d, h, height // h, w, width // w).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return x.flatten(5)


def from_cells(cells: Tensor, size: list[int]) -> Tensor:
    """Inverse of `to_cells` for a volume of `size` (D, H, W)."""
    b, d, h, w, c, _ = cells.shape
    x = cells.reshape(b, d, h, w, c, size[0] // d, size[1] // h, size[2] // w)
    return x.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(b, c, size[0], size[1], size[2])


class DecoderLevel(nn.Module):
    """One upsampling of the light decoder: projected encoder features are added, then 3x3x3 convolution, norm, act.

    Args:
        in_channels: features that come from below.
        skip_channels: features of the encoder at this level.
        out_channels: features of this level.
        stride: upsampling factor.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.up = nn.Conv3d(in_channels, out_channels, 1)
        self.projection = nn.Conv3d(skip_channels, out_channels, 3, padding=1)
        self.conv = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        self.norm = FeatureNorm(out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, d, h, w) and densified features (B, S, D, H, W) to (B, O, D, H, W)."""
        x = self.up(x)
        if self.stride != 1:
            x = F.interpolate(x, scale_factor=float(self.stride), mode="nearest")
        return F.leaky_relu(self.norm(self.conv(self.projection(skip) + x)), 0.01, inplace=True)


class LightDecoder(nn.Module):
    """Dense decoder of pretraining, thrown away afterwards.

    Args:
        widths: features of the encoder's levels.
        strides: between them.
        width: features at the deepest level, halved at every upsampling.
        out_channels: channels of the image.
    """

    def __init__(self, widths: list[int], strides: list[int], width: int, out_channels: int) -> None:
        super().__init__()
        self.projection = nn.Conv3d(widths[-1], width, 1)
        self.levels = nn.ModuleList()
        for skip, stride in zip(widths[-2::-1], strides[::-1], strict=True):
            below, width = width, max(width // stride, 1)
            self.levels.append(DecoderLevel(below, skip, width, stride))
        self.head = nn.Conv3d(width, out_channels, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Densified features, full resolution first, to (B, out_channels, D, H, W)."""
        x = self.projection(features[-1])
        for i, level in enumerate(self.levels):
            x = level(x, features[len(features) - 2 - i])
        return self.head(x)


class SparseMaskedAutoencoder(Network):
    """Masked image modelling with GynBTNet's encoder (paper 2.4), after SparK.

    In training, masks are drawn anew for each call from torch's global generator. In eval mode the mask is fixed, and
    the output is one tensor: the image where it was visible, the reconstruction where it was masked. With the target
    `cell` the decoder predicts normalised cells; for that picture each is scaled by the hidden cell's own mean and
    standard deviation, as masked autoencoders are usually shown.

    A bundle trains it with MONAI's `SupervisedTrainer`, the image being its own label:

        "network_def": {"_target_": "custom_networks.SparseMaskedAutoencoder", "variant": "large", "mask_ratio": 0.6,
                        "pretrain_stages": 5, "decoder_width": 512, "target": "cell", "backend": "masked_dense"},
        "loss": {"_target_": "custom_networks.MaskedReconstructionLoss", "target": "@network_def#target"},
        "prepare_batch": "$lambda batch, device=None, non_blocking=False, **_: 2 * (batch['image'].to(device, non_blocking=non_blocking),)",
        "train#trainer": {…, "loss_function": "@loss", "prepare_batch": "@prepare_batch", "inferer": SimpleInferer},
        "validate#key_metric": {"val_mse": {"_target_": "MeanSquaredError", "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"}},
        "validate#evaluator": {…, "prepare_batch": "@prepare_batch", "metric_cmp_fn": "$lambda current, best: current < best"}

    The metric is the mean over all voxels; visible ones count 0, so it is the masked error times the masked share.

    Args:
        in_channels: channels of the image.
        variant: of GynBTNet.
        pretrain_stages: stages of the encoder that are trained here, 5 or 6 of 6.
        mask_ratio: part of the cells that is masked: 269 of 448 at 0.6 and 112x128x128 voxels.
        decoder_width: features of the light decoder at the deepest level.
        target: `cell` (each cell normalised by its mean and variance) or `raw`.
        backend: of the encoder, `masked_dense` or `spconv`.
        checkpointing: activation checkpointing of the encoder.
        settings: see `Network`.

    Raises:
        ValueError: an argument is not one of those named.
        CaseError: the backend `spconv` cannot run.
    """

    def __init__(
        self,
        in_channels: int = 1,
        variant: str = "large",
        pretrain_stages: int = 5,
        mask_ratio: float = 0.6,
        decoder_width: int = 512,
        target: str = "cell",
        backend: str = "masked_dense",
        checkpointing: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(settings)
        if variant not in VARIANTS:
            raise ValueError(f"variant '{variant}' is none of {', '.join(VARIANTS)}")
        if pretrain_stages not in {5, 6}:
            raise ValueError(f"pretrain_stages {pretrain_stages} is neither 5 nor 6")
        if not 0.0 <= mask_ratio < 1.0:
            raise ValueError(f"mask_ratio {mask_ratio} is not in [0, 1)")
        check_target(target)
        first, depth = VARIANTS[variant]
        widths, strides = stage_widths(first, pretrain_stages), [2, 2, 2, 2, 1][: pretrain_stages - 1]
        self.mask_ratio, self.target = mask_ratio, target
        self.encoder = GynBTEncoder(in_channels, widths, depth, strides, "batch", backend, checkpointing)
        # what the decoder sees in place of masked features, one per level
        self.tokens = nn.ParameterList(nn.Parameter(torch.empty(w).normal_(std=0.02)) for w in widths)
        self.decoder = LightDecoder(widths, strides, decoder_width, in_channels)

    def compiled_parts(self) -> list[nn.Module]:
        """The decoder: what the encoder computes depends on the mask."""
        return [self.decoder]

    def forward(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        """Reconstruct the masked cells.

        Args:
            x: image (B, C, D, H, W), sizes divisible by 16.
            active: visible cells (B, 1, D / 16, H / 16, W / 16), bool; default drawn (training) or fixed (eval).

        Returns:
            In eval mode the reconstruction (B, C, D, H, W). In training the tuple that `MaskedReconstructionLoss`
            takes: the prediction (B, C, D, H, W) in the target's units and the visible cells.

        Raises:
            ValueError: a size is not divisible by 16, or the mask does not fit.
            CaseError: `torch.export` traces it, as an ONNX export does.
        """
        if not torch.jit.is_scripting():
            refuse_export()
        cell = self.encoder.cell
        grid = [x.shape[2] // cell, x.shape[3] // cell, x.shape[4] // cell]
        if active is None:
            if not torch.jit.is_scripting() and self.training:
                active = random_cells(x.shape[0], grid, self.mask_ratio).to(x.device)
            else:
                active = fixed_cells(x.shape[0], grid, self.mask_ratio, x.device)
        rows, grids = self.encoder.encode_rows(x, active)
        features: list[Tensor] = []
        for i, token in enumerate(self.tokens):
            features.append(scatter(rows[i], grids[i], token))
        prediction = self.decoder(features)
        if not torch.jit.is_scripting() and self.training:
            return prediction, active  # type: ignore[return-value]
        if self.target == "cell":
            var, mean = torch.var_mean(to_cells(x, grid).float(), dim=5, correction=0, keepdim=True)
            cells = to_cells(prediction, grid) * (var + 1e-6).sqrt() + mean
            prediction = from_cells(cells, [x.shape[2], x.shape[3], x.shape[4]])
        visible = upsample_cells(active, [x.shape[2], x.shape[3], x.shape[4]])
        return torch.where(visible, x, prediction.to(x.dtype))


def refuse_export() -> None:
    if torch.compiler.is_exporting():
        raise CaseError(
            "SparseMaskedAutoencoder",
            "torch.export and ONNX have no shapes for visible voxels, whose number follows from the mask",
            "export it as TorchScript with ckpt_export",
        )


def check_target(target: str) -> None:
    if target not in {"cell", "raw"}:
        raise ValueError(f"target '{target}' is neither 'cell' nor 'raw'")
