"""Random crops: foreground or background first, then a class among those that are present, then a voxel of it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from custom_networks.transforms.mapped import MappedVolume, inside, placed

# per class; nnU-Net's number
MAX_POSITIONS = 10_000


def class_positions(label: np.ndarray, most: int = MAX_POSITIONS) -> dict[int, np.ndarray]:
    """Voxels of each class that a label holds.

    MONAI's `ClassesToIndices` passes over the volume once for each class that there might be, 105 times for
    TotalSegmentator; this passes over it once.

    Args:
        label: (1, D, H, W) of whole numbers, or (C, D, H, W), where a voxel is of class channel + 1.
        most: positions kept of a class, drawn evenly where there are more.

    Returns:
        Class to sorted flat indices, at least one; 0 is background.
    """
    flat = label[0].ravel() if len(label) == 1 else np.where(label.any(0), label.argmax(0) + 1, 0).ravel()
    generator = np.random.default_rng(0)
    foreground = np.flatnonzero(flat)
    found = {}
    background = _zeros(flat, len(flat) - len(foreground), most, generator)
    if len(background):
        found[0] = background
    values = flat[foreground]
    order = np.argsort(values, kind="stable")
    classes, first = np.unique(values[order], return_index=True)
    for value, voxels in zip(classes, np.split(foreground[order], first[1:]), strict=False):
        found[int(value)] = voxels if len(voxels) <= most else np.sort(generator.choice(voxels, most, replace=False))
    return found


def _zeros(flat: np.ndarray, count: int, most: int, generator: np.random.Generator) -> np.ndarray:
    """Positions of zeros. Most of a scan is background: trying voxels finds enough of it without listing all."""
    if count > len(flat) // 4:
        tried = np.unique(generator.integers(len(flat), size=8 * most))
        found = tried[flat[tried] == 0]
    if count <= len(flat) // 4 or len(found) < most:
        found = np.flatnonzero(flat == 0)
    return found if len(found) <= most else np.sort(generator.choice(found, most, replace=False))


def positions_key(label_key: str) -> str:
    """Where a case keeps the positions of its label's classes."""
    return f"{label_key}_positions"


class ClassPositionsd(MapTransform):
    """Find the voxels of each class once, where cases are cached; for `RandPatchCropd`, which takes them out again.

    Args:
        keys: labels, (1, D, H, W) or one-hot without background.
        allow_missing_keys: see MONAI's MapTransform.

    Returns:
        The case with `class_positions` under `<key>_positions`; a prepared label has its own and stays as it is.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            if not isinstance(result[key], MappedVolume):
                result[positions_key(str(key))] = class_positions(np.asarray(result[key]))
        return result


class RandPatchCropd(Randomizable, MapTransform):
    """A random crop of one size, of whole volumes or of prepared ones, of which it reads no more than it needs.

    With probability `foreground_ratio` the crop is centred on foreground: on a class among those that the case has, each
    as likely as the other, and on any voxel of it; else on a voxel of the background. MONAI's
    `RandCropByLabelClassesd` weighs background against all classes that there might be: of 104, a case with 30 would be
    centred on foreground in 22 % of its crops where half are meant. The crop is moved so that it lies in the volume;
    along axes on which it does not fit, zeros surround the volume evenly.

    Args:
        keys: volumes (C, D, H, W) on one grid, MetaTensor or `MappedVolume`.
        spatial_size: voxels of the crop; values <= 0 take the whole axis.
        label_key: the label; None for crops that begin at any voxel where they fit, each as likely.
        foreground_ratio: share of crops centred on foreground, where a case has both.
        allow_missing_keys: see MONAI's MapTransform.

    Returns:
        The case with MetaTensors (C, *spatial_size), whose affine is that of the crop.

    Raises:
        ValueError: `foreground_ratio` is not from 0 to 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: Sequence[int] | int,
        label_key: str | None = None,
        foreground_ratio: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if not 0 <= foreground_ratio <= 1:
            raise ValueError(f"foreground_ratio must be from 0 to 1, not {foreground_ratio}.")
        self.spatial_size = (spatial_size,) * 3 if isinstance(spatial_size, int) else tuple(spatial_size)
        self.label_key, self.foreground_ratio = label_key, foreground_ratio

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        keys = list(self.key_iterator(result))
        shape = tuple(result[keys[0]].shape[1:])
        size = tuple(s if s > 0 else n for s, n in zip(self.spatial_size, shape, strict=True))
        start = self._start(self._positions(result), shape, size)
        for key in keys:
            volume = result[key]
            result[key] = volume.crop(start, size) if isinstance(volume, MappedVolume) else _crop(volume, start, size)
        return result

    def _positions(self, case: dict[Hashable, Any]) -> dict[int, np.ndarray] | None:
        if self.label_key is None:
            return None
        label = case[self.label_key]
        if isinstance(label, MappedVolume):
            return label.positions()
        known: dict[int, np.ndarray] | None = case.pop(positions_key(self.label_key), None)
        return class_positions(np.asarray(label)) if known is None else known

    def _start(
        self, positions: dict[int, np.ndarray] | None, shape: Sequence[int], size: Sequence[int]
    ) -> tuple[int, ...]:
        """Lowest corner of the crop; negative where zeros surround the volume."""
        around = [-((s - n) // 2) for s, n in zip(size, shape, strict=True)]
        if not positions:
            free = [self.R.randint(max(n - s, 0) + 1) for s, n in zip(size, shape, strict=True)]
            return tuple(a if n < s else int(f) for a, f, s, n in zip(around, free, size, shape, strict=True))
        centre = np.unravel_index(self._voxel(positions), shape)
        return tuple(
            a if n < s else min(max(int(c) - s // 2, 0), n - s)
            for a, c, s, n in zip(around, centre, size, shape, strict=True)
        )

    def _voxel(self, positions: dict[int, np.ndarray]) -> int:
        classes = [value for value in positions if value]
        foreground = self.R.rand() < self.foreground_ratio
        chosen = 0
        if classes and (foreground or 0 not in positions):
            chosen = classes[self.R.randint(len(classes))]
        voxels = positions[chosen]
        return int(voxels[self.R.randint(len(voxels))])


def _crop(volume: torch.Tensor, start: Sequence[int], size: Sequence[int]) -> MetaTensor:
    affine = volume.affine if isinstance(volume, MetaTensor) else torch.eye(4)
    meta = dict(volume.meta) if isinstance(volume, MetaTensor) else {}
    part = np.asarray(volume)[(slice(None), *inside(start, size, volume.shape[1:]))]
    return placed(part.copy(), np.asarray(affine, dtype=np.float64), start, size, meta)
