"""Whole-volume inference: many classes without holding them all at full size, and two stages in a row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import SlidingWindowInferer
from monai.transforms.utils import get_largest_connected_component_mask
from monai.utils import PytorchPadMode, convert_to_dst_type, ensure_tuple_rep, fall_back_tuple, optional_import
from torch import Tensor
from torch.nn import functional

logger = logging.getLogger(__name__)

tqdm, _ = optional_import("tqdm", name="tqdm")
Block = tuple[int, ...]


class _Axis:
    """Where windows start along one axis, and the pieces that their ends cut it into."""

    def __init__(self, starts: set[int], roi: int) -> None:
        cuts = sorted(starts | {start + roi for start in starts})
        self.pieces = [slice(a, b) for a, b in pairwise(cuts)]
        self.of_window = {
            start: [i for i, piece in enumerate(self.pieces) if start <= piece.start and piece.stop <= start + roi]
            for start in starts
        }
        self.windows = [sum(i in pieces for pieces in self.of_window.values()) for i in range(len(self.pieces))]


class LabelMapInferer(SlidingWindowInferer):
    """Sliding window with the arguments of `SlidingWindowInferer`, whose result is the label map.

    The volume is cut where windows begin and end. A block's class scores exist from the first window that covers it to
    the last one; then their argmax goes into the label map and they are freed. Windows run along the longest axis (in
    window sizes) last, so at overlap 0.5 the scores alive are half a window deep: 105 classes over 287 x 287 x 397
    voxels and windows of 112 x 128 x 128 add 2.95 GiB at most (measured, Invertd to the original grid included), where
    all scores would take 12.8 GiB before any copy. Scores are summed in float32 as MONAI does; their
    common weight does not change the argmax and is left out.

    In a bundle it replaces the inferer, and `AsDiscreted(argmax=True)` leaves the postprocessing. `Invertd` with
    `nearest_interp: true` takes the label map to the original grid:

        "inferer": {"_target_": "custom_networks.LabelMapInferer", "roi_size": [112, 128, 128], "sw_batch_size": 1,
                    "overlap": 0.5, "mode": "gaussian", "device": "cpu"}

    `buffer_steps`, `buffer_dim`, `with_coord` and `cache_roi_weight_map` have no effect.
    """

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Segment whole images.

        Args:
            inputs: images (B, C, D, H, W) or (B, C, H, W).
            network: gives class scores of a window's size; of several outputs the first counts. A wrapper that holds
                the network as `predictor` will do.
            args: further arguments of the network.
            kwargs: further keyword arguments of the network.

        Returns:
            Label map (B, 1, D, H, W) of the input's type, with the input's affine and other metadata.

        Raises:
            ValueError: the scores are not of the window's size.
        """
        network = getattr(network, "predictor", network)
        images = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        maps = [self._label_map(image[None], network, args, kwargs) for image in images]
        labels = torch.cat(maps)
        if isinstance(inputs, MetaTensor):
            meta = MetaTensor([]).copy_meta_from(inputs, copy_attr=False)
            return convert_to_dst_type(labels, meta, dtype=labels.dtype, device=labels.device)[0]
        return labels

    def _label_map(
        self, image: Tensor, network: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Tensor:
        size = list(image.shape[2:])
        roi = list(fall_back_tuple(self.roi_size, size))
        device, sw_device = torch.device(self.device or image.device), torch.device(self.sw_device or image.device)
        image, before = self._padded(image, roi)
        padded = list(image.shape[2:])
        windows = self._windows(padded, roi)
        axes = [_Axis({window[i].start for window in windows}, roi[i]) for i in range(len(roi))]
        weight = compute_importance_map(
            tuple(roi), mode=self.mode, sigma_scale=self.sigma_scale, device=device, dtype=torch.float32
        )
        alive: dict[Block, Tensor] = {}
        left: dict[Block, int] = {}
        labels = torch.zeros(padded, dtype=image.dtype, device=device)
        batches = [windows[i : i + self.sw_batch_size] for i in range(0, len(windows), self.sw_batch_size)]
        for batch in tqdm(batches) if self.progress else batches:
            data = torch.cat([image[(slice(None), slice(None), *window)] for window in batch]).to(sw_device)
            scores = _first(network(data, *args, **kwargs)).to(device)
            if list(scores.shape[2:]) != roi:
                raise ValueError(f"scores {tuple(scores.shape[2:])} are not of the window's size {tuple(roi)}")
            for window, window_scores in zip(batch, scores, strict=True):
                starts = [part.start for part in window]
                for block in product(*(axis.of_window[start] for axis, start in zip(axes, starts, strict=True))):
                    place = tuple(axis.pieces[i] for axis, i in zip(axes, block, strict=True))
                    inside = tuple(slice(p.start - s, p.stop - s) for p, s in zip(place, starts, strict=True))
                    part = window_scores[(slice(None), *inside)]
                    if block not in alive:
                        alive[block] = torch.zeros(part.shape, dtype=torch.float32, device=device)
                        left[block] = _count(axes, block)
                    alive[block].addcmul_(part.to(torch.float32), weight[inside])
                    left[block] -= 1
                    if left[block] == 0:
                        labels[place] = alive.pop(block).argmax(0).to(labels.dtype)
        crop = tuple(slice(b, b + s) for b, s in zip(before, size, strict=True))
        return labels[crop][None, None].contiguous()

    def _padded(self, image: Tensor, roi: list[int]) -> tuple[Tensor, list[int]]:
        """Pad to at least one window, as MONAI does, and say how much was put before each axis."""
        missing = [max(r - s, 0) for r, s in zip(roi, image.shape[2:], strict=True)]
        if not any(missing):
            return image, missing
        pad = [n for m in reversed(missing) for n in (m // 2, m - m // 2)]
        mode = PytorchPadMode(self.padding_mode).value
        value = self.cval if mode == "constant" else None
        return functional.pad(image, pad, mode=mode, value=value), [m // 2 for m in missing]

    def _windows(self, size: list[int], roi: list[int]) -> list[tuple[slice, ...]]:
        overlap = ensure_tuple_rep(self.overlap, len(size))
        interval = [r if r == s else max(int(r * (1 - o)), 1) for r, s, o in zip(roi, size, overlap, strict=True)]
        windows = list(dense_patch_slices(size, roi, interval))
        # the slowest axis is the one along which a window is the smallest part of the volume
        order = sorted(range(len(size)), key=lambda i: roi[i] / size[i])
        return sorted(windows, key=lambda window: [window[i].start for i in order])


def _count(axes: Sequence[_Axis], block: Block) -> int:
    count = 1
    for axis, i in zip(axes, block, strict=True):
        count *= axis.windows[i]
    return count


def _first(output: Any) -> Tensor:
    if isinstance(output, dict):
        output = list(output.values())
    return output[0] if isinstance(output, (list, tuple)) else output


class TwoStageInferer(SlidingWindowInferer):
    """Organ on the whole volume, its largest component, then the tumour inside it (decisions P11, P15).

    Args:
        contain: intersect the tumour with the organ. It caps the tumour's recall at the organ's; without it the
            result shows what stage 2 alone found.
        largest_component: keep the largest 26-connected component of the organ and of the tumour.
        kwargs: of `monai.inferers.SlidingWindowInferer`.
    """

    def __init__(self, *args: Any, contain: bool = True, largest_component: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.contain = contain
        self.largest_component = largest_component

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Segment whole images.

        Args:
            inputs: images (B, C, *S).
            network: a `TwoStagePocketNet`, its scripted form, or a wrapper that holds it as `predictor`.
            args: further arguments of the networks.
            kwargs: further keyword arguments of the networks.

        Returns:
            One-hot label map (B, 3, *S), float: background, organ without tumour, tumour. One-hot so that it can be
            resampled to another grid before the argmax.
        """
        stages: Any = getattr(network, "predictor", network)
        stages = getattr(stages, "module", stages)
        organ = self._mask(super().__call__(inputs, stages.organ, *args, **kwargs))
        if not organ.any():
            logger.warning("stage 1 found no organ; the result is empty")
            tumor = torch.zeros_like(organ)
        else:
            both = torch.cat([inputs, organ.to(inputs.dtype)], dim=1)
            tumor = self._mask(super().__call__(both, stages.tumor, *args, **kwargs), organ if self.contain else None)
        labels = torch.where(tumor, 2, organ.long())[:, 0]
        result = functional.one_hot(labels, 3).movedim(-1, 1).to(torch.float32)
        # the input's affine travels with the result, as with any MONAI inferer
        return convert_to_dst_type(result, inputs, dtype=result.dtype)[0]

    def _mask(self, logits: Any, inside: torch.Tensor | None = None) -> torch.Tensor:
        mask = logits[:, 1:2] > logits[:, 0:1]
        if inside is not None:
            mask = mask & inside
        if self.largest_component:
            # connectivity None is the highest: 26 neighbours in 3-D
            kept = [get_largest_connected_component_mask(item[0], connectivity=None) for item in mask]
            mask = torch.stack([torch.as_tensor(item, device=mask.device, dtype=torch.bool)[None] for item in kept])
        return mask
