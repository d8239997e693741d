"""Which of a bundle's transforms `preprocess` does once, and how training goes on from what it stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.transforms import (
    BorderPadd,
    Compose,
    DivisiblePadd,
    RandCropByLabelClassesd,
    RandCropByPosNegLabeld,
    RandSpatialCropd,
    RandSpatialCropSamplesd,
    SpatialPadd,
)
from monai.transforms.traits import RandomizableTrait

from custom_networks.mapped import LoadMappedCropd, LoadMappedd

PADDING = (SpatialPadd, BorderPadd, DivisiblePadd)


def mapped_transforms(
    transforms: Sequence[Callable[..., Any]], stored: int, keys: Sequence[str], crop: bool = True
) -> list[Callable[..., Any]]:
    """A bundle's transforms for preprocessed volumes; for the override that `preprocess` writes.

    Args:
        transforms: the bundle's own, from loading on.
        stored: how many of them `preprocess` has done.
        keys: keys that are stored.
        crop: read only the crop, where the transforms that follow begin with padding and a random crop.

    Returns:
        The reader, then the transforms that remain.
    """
    rest = list(transforms)[stored:]
    ahead = next((i for i, transform in enumerate(rest) if not isinstance(transform, PADDING)), len(rest))
    reader = _crop_reader(rest[ahead], keys) if crop and ahead < len(rest) else None
    if reader is None:
        return [LoadMappedd(keys), *rest]
    return [reader, *rest[ahead + 1 :]]


def _crop_reader(transform: Any, keys: Sequence[str]) -> LoadMappedCropd | None:
    """The reader that crops as the given transform does, or None if there is no such reader."""
    if not set(keys) <= set(getattr(transform, "keys", ())):
        return None
    cropper: Any = getattr(transform, "cropper", None)
    if isinstance(transform, RandCropByPosNegLabeld):
        pos = float(cropper.pos_ratio)
        return LoadMappedCropd(keys, cropper.spatial_size, transform.label_key, pos, 1 - pos, cropper.num_samples)
    if isinstance(transform, RandCropByLabelClassesd) and (cropper.ratios or cropper.num_classes):
        ratios = list(cropper.ratios or [1.0] * int(cropper.num_classes))
        label, samples = transform.label_key, cropper.num_samples
        return LoadMappedCropd(keys, cropper.spatial_size, label, num_samples=samples, ratios=ratios)
    if isinstance(transform, RandSpatialCropd | RandSpatialCropSamplesd):
        inner: Any = cropper if isinstance(transform, RandSpatialCropd) else cropper.cropper
        if inner.random_center and not inner.random_size:
            samples = getattr(cropper, "num_samples", 1)
            return LoadMappedCropd(keys, inner.roi_size, None, num_samples=samples)
    return None


def deterministic_part(transforms: Compose | Sequence[Callable[..., Any]]) -> list[Callable[..., Any]]:
    """The transforms before the first random one, less padding right before it, which belongs to the crop.

    Args:
        transforms: of a bundle's training, in order.

    Returns:
        The first of them, which give the same result every time.
    """
    found: list[Callable[..., Any]] = []
    for transform in transforms.transforms if isinstance(transforms, Compose) else transforms:
        if isinstance(transform, RandomizableTrait):
            break
        found.append(transform)
    while found and isinstance(found[-1], PADDING):
        found.pop()
    return found
