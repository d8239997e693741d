"""Training from memory-mapped arrays: a random crop is read from the disk without the rest of its volume.

`python -m scripts preprocess` writes one folder per case: an array `<key>.npy` (C, D, H, W) per key, C-ordered and
uncompressed; `meta.json` with affine, shape and the sampled foreground; `foreground.npy`, flat voxel indices per class.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    BorderPadd,
    Compose,
    DivisiblePadd,
    MapTransform,
    RandCropByLabelClassesd,
    RandCropByPosNegLabeld,
    Randomizable,
    RandSpatialCropd,
    RandSpatialCropSamplesd,
    SpatialPadd,
)
from monai.transforms.traits import RandomizableTrait

from custom_networks.errors import CaseError

META_FILE, FOREGROUND_FILE = "meta.json", "foreground.npy"


@lru_cache(maxsize=1024)
def _opened(path: str, changed: int) -> np.ndarray:
    """The mapped array; a mapping holds no file descriptor, so many may stay open."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


@lru_cache(maxsize=4096)
def _meta(folder: str, changed: int) -> dict[str, Any]:
    return dict(json.loads((Path(folder) / META_FILE).read_text(encoding="utf-8")))


def close_mapped() -> None:
    """Let go of every mapped array of this process, e.g. before its files are moved."""
    _opened.cache_clear()
    _meta.cache_clear()


def _open(path: Path) -> np.ndarray:
    try:
        return _opened(str(path), path.stat().st_mtime_ns)
    except (OSError, ValueError) as error:
        raise CaseError(path.parent.name, f"array {path} cannot be read ({error})", "run preprocess again") from error


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        return _meta(str(folder), (folder / META_FILE).stat().st_mtime_ns)
    except (OSError, ValueError) as error:
        raise CaseError(
            folder.name, f"{folder / META_FILE} cannot be read ({error})", "run preprocess again"
        ) from error


def _tensor(array: np.ndarray, path: Path, key: Hashable, meta: Mapping[str, Any], start: Sequence[int]) -> MetaTensor:
    """Copy out of the mapping, in the type that training sees, with the affine of the crop."""
    stored = meta["keys"][str(key)]
    affine = np.array(stored["affine"], dtype=np.float64)
    affine[:3, 3] += affine[:3, :3] @ np.asarray(start, dtype=np.float64)
    data = torch.from_numpy(np.array(array, dtype=stored["dtype"], order="C"))
    return MetaTensor(data, affine=torch.from_numpy(affine), meta={"filename_or_obj": str(path)})


class LoadMappedd(MapTransform):
    """Read whole preprocessed volumes, for validation.

    Args:
        keys: keys whose values are paths of `.npy` files.
        allow_missing_keys: see MONAI's MapTransform.

    Returns:
        The case with MetaTensors (C, D, H, W) under the keys.

    Raises:
        CaseError: an array or its `meta.json` cannot be read.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            path = Path(result[key])
            result[key] = _tensor(_open(path), path, key, _read_meta(path.parent), (0, 0, 0))
        return result


class LoadMappedCropd(Randomizable, MapTransform):
    """Read random crops of preprocessed volumes: what loading, padding and `RandCropByPosNegLabeld` would give.

    With probability pos / (pos + neg) a crop is centred on a foreground voxel, else on a background voxel; the centre is
    shifted so that the crop lies in the volume. Foreground voxels come from `foreground.npy` (at most 10,000 per class,
    drawn evenly); where a volume is smaller than the crop it is padded with zeros on both sides.

    Args:
        keys: keys whose values are paths of `.npy` files of one folder and one grid.
        spatial_size: voxels of the crop; values <= 0 take the whole axis.
        label_key: the key that tells foreground from background, or None for crops anywhere.
        pos: weight of foreground centres.
        neg: weight of background centres.
        num_samples: crops per call.
        ratios: weight of each class, background first, instead of `pos` and `neg`; classes that a case lacks are left
            out.
        allow_missing_keys: see MONAI's MapTransform.

    Returns:
        A list of `num_samples` cases with MetaTensors (C, *spatial_size) whose affine is that of the crop.

    Raises:
        CaseError: an array or its `meta.json` cannot be read.
        ValueError: `pos` and `neg` do not add up to more than zero.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: Sequence[int] | int,
        label_key: str | None = "label",
        pos: float = 1.0,
        neg: float = 1.0,
        num_samples: int = 1,
        ratios: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if pos < 0 or neg < 0 or pos + neg <= 0:
            raise ValueError(f"pos and neg must not be negative and add up to more than 0, not {pos} and {neg}.")
        self.spatial_size = (spatial_size,) * 3 if isinstance(spatial_size, int) else tuple(spatial_size)
        self.label_key, self.num_samples = label_key, num_samples
        self.pos_ratio = pos / (pos + neg)
        self.ratios = None if ratios is None else list(ratios)

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        paths = {key: Path(data[key]) for key in self.key_iterator(dict(data))}
        arrays = {key: _open(path) for key, path in paths.items()}
        folder = next(iter(paths.values())).parent
        meta = _read_meta(folder)
        shape = next(iter(arrays.values())).shape[1:]
        size = tuple(s if s > 0 else n for s, n in zip(self.spatial_size, shape, strict=True))
        results = []
        for _ in range(self.num_samples):
            start = self._start(self._centre(folder, meta, shape), size, shape)
            crop = dict(data)
            for key, path in paths.items():
                crop[key] = _tensor(_cut(arrays[key], start, size), path, key, meta, start)
            results.append(crop)
        return results

    def _centre(self, folder: Path, meta: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        classes: dict[str, Any] = meta.get("foreground", {}) if self.label_key is not None else {}
        weights = {name: float(found["voxels"]) for name, found in classes.items()}
        background = self.R.rand() >= self.pos_ratio
        if self.ratios is not None:
            weights = {n: self.ratios[int(n)] for n in classes if int(n) < len(self.ratios)}
            background = self.R.rand() * (self.ratios[0] + sum(weights.values())) < self.ratios[0]
        if background or not sum(weights.values()):
            return self._background(folder, shape) if classes else self._anywhere(shape)
        # evenly over all foreground voxels: a class by its share, then one of its sampled voxels
        chosen = self.R.choice(list(weights), p=np.array(list(weights.values())) / sum(weights.values()))
        first, last = classes[chosen]["rows"]
        flat = int(_open(folder / FOREGROUND_FILE)[first + self.R.randint(last - first)])
        return tuple(int(i) for i in np.unravel_index(flat, shape))

    def _anywhere(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(int(self.R.randint(n)) for n in shape)

    def _background(self, folder: Path, shape: tuple[int, ...], tries: int = 50) -> tuple[int, ...]:
        label = _open(folder / f"{self.label_key}.npy")
        for _ in range(tries):
            centre = self._anywhere(shape)
            if not label[:, centre[0], centre[1], centre[2]].any():
                break
        # an image that is nearly all foreground has hardly a background voxel; anywhere will do
        return centre

    def _start(self, centre: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
        """Lowest corner of the crop; negative where the volume is padded, as MONAI's symmetric padding puts it."""
        return tuple(
            -((s - n) // 2) if n < s else min(max(c - s // 2, 0), n - s)
            for c, s, n in zip(centre, size, shape, strict=True)
        )


def _cut(array: np.ndarray, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
    inner = tuple(slice(max(a, 0), max(a, 0) + min(s, n)) for a, s, n in zip(start, size, array.shape[1:], strict=True))
    crop: np.ndarray = array[(slice(None), *inner)]
    if crop.shape[1:] == tuple(size):
        return crop
    padding = [(-a, s - c + a) if a < 0 else (0, s - c) for a, s, c in zip(start, size, crop.shape[1:], strict=True)]
    return np.pad(crop, [(0, 0), *padding])


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
