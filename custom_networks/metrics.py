"""Overlap and surface distances in millimetres that count the organs a network missed or made up.

MONAI's ignite handlers `HausdorffDistance` and `SurfaceDistance` take no spacing, so they answer in voxels; and a class
that is empty on one side is NaN or infinite there and drops out of the mean, or makes the mean infinite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric, compute_surface_dice
from monai.metrics.utils import get_edge_surface_distance

METRICS = ("dsc", "nsd", "hd95", "asd", "missed", "false_positive")
DISTANCES = ("hd95", "asd")
REDUCTIONS = ("none", "mean", "mean_batch", "sum", "sum_batch")


def surface_metrics(
    pred: torch.Tensor | np.ndarray,
    label: torch.Tensor | np.ndarray,
    spacing: Sequence[float],
    tolerance: float = 2.0,
    metrics: Sequence[str] = METRICS,
) -> dict[str, float]:
    """Compare one class with its truth by the formulas of the GynBTNet paper, section 3.1, and by surface Dice.

    With S_p, S_g the surface voxels of prediction and truth and d the Euclidean distance to the nearest surface voxel of
    the other: HD95 = max(P95 d(S_p, S_g), P95 d(S_g, S_p)), ASD = (sum d(S_p, S_g) + sum d(S_g, S_p)) / (|S_p| + |S_g|),
    DSC = 2 |P and G| / (|P| + |G|) over all voxels. MONAI's `compute_hausdorff_distance(percentile=95)` and
    `compute_average_surface_distance(symmetric=True)` are these formulas, and so are their surfaces and distances ours. A surface voxel is a foreground voxel with a
    background face neighbour; outside the array is background.

    NSD, the normalised surface Dice (Nikolov et al. 2018), is the part of both surfaces' area that lies within the
    tolerance of the other surface. Its surface runs between voxels and is made of the elements of marching cubes: MONAI's
    `compute_surface_dice(use_subvoxels=True)`, which is the definition of DeepMind's `surface-distance`.

    Args:
        pred: prediction (D, H, W) or (H, W), foreground where above 0.5.
        label: truth, same shape.
        spacing: mm per voxel along each axis of the array, in the array's order.
        tolerance: of NSD, in mm.
        metrics: which to compute; distances take the time.

    Returns:
        Those asked for: `dsc`; `nsd`; `hd95` and `asd` in mm; `missed` 1.0 where the truth has the class and the prediction
        does not; `false_positive` 1.0 the other way round. On a miss or a false positive DSC and NSD are 0 and the
        distances are NaN, for they do not exist; where both are empty all four are NaN.

    Raises:
        ValueError: shapes differ, the spacing does not fit them, or the tolerance is negative.
    """
    p, g = (torch.as_tensor(np.asarray(m) if isinstance(m, np.ndarray) else m).detach().cpu() for m in (pred, label))
    p, g = (m.as_tensor() if isinstance(m, MetaTensor) else m for m in (p, g))
    p, g = p > 0.5, g > 0.5
    if p.shape != g.shape:
        raise ValueError(f"prediction has shape {tuple(p.shape)}, label {tuple(g.shape)}")
    steps = [float(s) for s in spacing]
    if len(steps) != p.ndim or not all(math.isfinite(s) and s > 0 for s in steps):
        raise ValueError(f"spacing {tuple(steps)} mm does not fit an array of shape {tuple(p.shape)}")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be a distance in mm, got {tolerance}")
    result = {name: float(value) for name, value in _counted(*_voxels(p[None], g[None])).items()}
    both = bool(p.any()) and bool(g.any())
    result |= {"nsd": result["dsc"], "hd95": math.nan, "asd": math.nan}
    if both and set(DISTANCES) & set(metrics):
        _, distances, _ = get_edge_surface_distance(p, g, spacing=steps, symmetric=True)
        # MONAI's own functions go on in float32, where the place of the percentile is off by up to 1e-5
        there, back = (d.double().numpy() for d in distances)
        result["hd95"] = float(max(np.percentile(there, 95), np.percentile(back, 95)))
        result["asd"] = float((there.sum() + back.sum()) / (len(there) + len(back)))
    if both and "nsd" in metrics:
        nsd = compute_surface_dice(p[None, None], g[None, None], [tolerance], True, spacing=steps, use_subvoxels=True)
        result["nsd"] = float(nsd)
    return {name: result[name] for name in METRICS if name in metrics}


Counts = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _voxels(pred: torch.Tensor, label: torch.Tensor) -> Counts:
    """Voxels of prediction, truth and both, each (C,), from boolean masks (C, D, H, W)."""
    axes = tuple(range(1, pred.ndim))
    return pred.sum(dim=axes), label.sum(dim=axes), (pred & label).sum(dim=axes)


def _voxels_of_maps(pred: torch.Tensor, label: torch.Tensor, num_classes: int) -> Counts:
    """The same from label maps in one pass over each, whatever the number of classes."""
    maps = [m.long() if m.is_floating_point() else m for m in (pred, label)]
    n_pred, n_label, common = (
        torch.bincount(m.flatten(), minlength=num_classes) for m in (*maps, maps[1][maps[0] == maps[1]])
    )
    largest = max(len(n_pred), len(n_label)) - 1
    if largest >= num_classes:
        raise ValueError(f"SurfaceMetric: a label map has the value {largest}, num_classes is {num_classes}")
    return n_pred, n_label, common


def _counted(n_pred: torch.Tensor, n_label: torch.Tensor, common: torch.Tensor) -> dict[str, torch.Tensor]:
    """DSC, misses and false positives from numbers of voxels (C,), each (C,) in float64."""
    return {
        # 0 / 0 is NaN: a class that neither has is not scored
        "dsc": 2 * common.double() / (n_pred + n_label),
        "missed": ((n_label > 0) & (n_pred == 0)).double(),
        "false_positive": ((n_label == 0) & (n_pred > 0)).double(),
    }


class SurfaceMetric(CumulativeIterationMetric):
    """One of `surface_metrics` over a data set: DSC, NSD, HD95 or ASD in mm, or the number of missed or false organs.

    Unlike MONAI's MeanDice, which leaves a class out where the truth has none, `dsc` counts a class found where there is
    none as 0 and leaves out only what neither has (as nnU-Net does), so that false positives are seen.

    The spacing comes from each case's affine (label's, else prediction's `MetaTensor`), so the metric must see decollated
    cases and, to be in the mm of the original image, cases after `Invertd`. Results gather over ranks under DDP.

    In a bundle, next to the key metric (one handler for each name):

        "additional_metrics": {
            "val_hd95": {
                "_target_": "IgniteMetricHandler",
                "metric_fn": {
                    "_target_": "custom_networks.SurfaceMetric",
                    "metric": "hd95"
                },
                "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"
            },
            "val_missed": {
                "_target_": "IgniteMetricHandler",
                "metric_fn": {
                    "_target_": "custom_networks.SurfaceMetric",
                    "metric": "missed"
                },
                "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"
            }
        }

    (`"_target_": "IgniteMetricHandler"` resolves to `monai.handlers.IgniteMetricHandler`.)

    Args:
        metric: `dsc`, `nsd` (0 to 1), `hd95`, `asd` (mm), or `missed`, `false_positive` (1 or 0 per case and class).
        include_background: whether channel 0 counts; always counted where it is the only channel of one-hot masks.
        num_classes: of label maps (1, D, H, W), background included; None for one-hot masks. Counts then take one pass
            over the voxels however many classes there are.
        missed: what a missed class, or one found where there is none, contributes to hd95 and asd: `diagonal`, the
            diagonal of the image in mm, which no distance in it exceeds; or `nan`, nothing (then report `missed` and
            `false_positive` too, or a network that misses the difficult cases looks better than one that finds them).
            A class absent from truth and prediction never contributes.
        reduction: of `aggregate`, over the values that are not NaN: `mean` over all cases and classes, `mean_batch` over
            cases (one value per class), `sum`, `sum_batch`, `none`. Default `sum` for counts, else `mean`.
        spacing: mm per axis for tensors without an affine.
        tolerance: of NSD, in mm.

    Raises:
        ValueError: an unknown metric, `missed` or reduction.
    """

    def __init__(
        self,
        metric: str = "hd95",
        include_background: bool = False,
        num_classes: int | None = None,
        missed: str = "diagonal",
        reduction: str | None = None,
        spacing: Sequence[float] | None = None,
        tolerance: float = 2.0,
    ) -> None:
        super().__init__()
        default = "sum" if metric in {"missed", "false_positive"} else "mean"
        for name, value, known in (
            ("metric", metric, METRICS),
            ("missed", missed, ("diagonal", "nan")),
            ("reduction", reduction or default, REDUCTIONS),
        ):
            if value not in known:
                raise ValueError(f"SurfaceMetric: {name} must be one of {', '.join(known)}, got {value!r}")
        self.metric, self.missed = metric, missed
        self.include_background, self.num_classes = include_background, num_classes
        self.reduction, self.spacing, self.tolerance = reduction or default, spacing, tolerance

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: Any) -> torch.Tensor:
        if y is None or len(y_pred) != len(y):
            raise ValueError("SurfaceMetric needs as many labels as predictions")
        # case by case, because each has its own spacing
        return torch.stack([self._case(p, g, kwargs.get("spacing")) for p, g in zip(y_pred, y, strict=True)])

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        """Compute one batch.

        Args:
            y_pred: prediction, one-hot (B, C, D, H, W) or a label map (B, 1, D, H, W), see `num_classes`.
            y: truth, of the same shape.
            kwargs: `spacing`, mm per axis, for all cases of the batch.

        Returns:
            (B, C) or, without background, (B, C - 1).
        """
        # indexing a collated MetaTensor gives a case its own affine
        return self._compute_list([*y_pred], None if y is None else [*y], **kwargs)

    def _case(self, pred: torch.Tensor, label: torch.Tensor, spacing: Sequence[float] | None) -> torch.Tensor:
        if pred.shape != label.shape:
            raise ValueError(f"prediction has shape {tuple(pred.shape)}, label {tuple(label.shape)}: (C, D, H, W) each")
        p, g = (m.as_tensor() if isinstance(m, MetaTensor) else m for m in (pred, label))
        if self.num_classes is not None and len(p) != 1:
            raise ValueError(
                f"SurfaceMetric: a label map has one channel, got {len(p)}; leave num_classes out for masks"
            )
        first = 0 if self.include_background or (self.num_classes is None and len(p) == 1) else 1
        if self.num_classes is None:
            voxels = _voxels(p[first:] > 0.5, g[first:] > 0.5)
        else:
            n_pred, n_label, common = _voxels_of_maps(p, g, self.num_classes)
            voxels = n_pred[first:], n_label[first:], common[first:]
        counted = _counted(*voxels)
        if self.metric in counted:
            return counted[self.metric].float()
        steps = spacing or self.spacing or self._spacing(pred, label)
        masks = (
            zip(p[first:], g[first:], strict=True)
            if self.num_classes is None
            else ((p[0] == value, g[0] == value) for value in range(first, self.num_classes))
        )
        found = [surface_metrics(a, b, steps, self.tolerance, [self.metric])[self.metric] for a, b in masks]
        values = torch.tensor(found, dtype=torch.float32, device=pred.device)
        if self.metric in DISTANCES and self.missed == "diagonal":
            diagonal = math.dist([0.0] * len(steps), [s * n for s, n in zip(steps, label.shape[1:], strict=True)])
            values[(counted["missed"] + counted["false_positive"]) > 0] = diagonal
        return values

    def _spacing(self, pred: torch.Tensor, label: torch.Tensor) -> list[float]:
        for tensor in (label, pred):
            if isinstance(tensor, MetaTensor):
                return [float(s) for s in torch.as_tensor(tensor.pixdim)[: label.ndim - 1]]
        raise ValueError("SurfaceMetric: neither prediction nor label is a MetaTensor with an affine; pass spacing")

    def aggregate(self, reduction: str | None = None) -> torch.Tensor:
        """Reduce what was gathered since the last reset, over all ranks.

        Args:
            reduction: overrides the constructor's.

        Returns:
            A scalar, (C,) for `mean_batch` and `sum_batch`, (N, C) for `none`. NaN where there was nothing to measure;
            MONAI's own reduction answers 0 mm there, which reads as perfect.

        Raises:
            ValueError: nothing was measured, or the reduction is unknown.
        """
        data = self.get_buffer()
        if not isinstance(data, torch.Tensor):
            raise ValueError("SurfaceMetric: no case was measured yet")
        how = reduction or self.reduction
        if how not in REDUCTIONS:
            raise ValueError(f"SurfaceMetric: reduction must be one of {', '.join(REDUCTIONS)}, got {how!r}")
        if how == "none":
            return data
        axes = (0,) if how.endswith("_batch") else (0, 1)
        return data.nansum(dim=axes) if how.startswith("sum") else data.nanmean(dim=axes)
