"""Whole-volume inference of the two stages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from monai.transforms.utils import get_largest_connected_component_mask
from monai.utils import convert_to_dst_type
from torch.nn import functional

logger = logging.getLogger(__name__)


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
