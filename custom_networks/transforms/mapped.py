"""A prepared volume, read from the disk as far as it is needed.

`custom_networks.data.prepare` writes a folder per case: an array `<key>.npy` (C, D, H, W) per key, C-ordered and
uncompressed; `positions.npy`, flat voxel indices of each class of the label; `meta.json`, which says what they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from custom_networks.errors import CaseError

META_FILE, POSITIONS_FILE = "meta.json", "positions.npy"


@lru_cache(maxsize=1024)
def _mapped(path: str, changed: int) -> np.ndarray:
    # a mapping holds no file descriptor, so many may stay open
    return np.load(path, mmap_mode="r", allow_pickle=False)


@lru_cache(maxsize=4096)
def _meta(path: str, changed: int) -> dict[str, Any]:
    return dict(json.loads(Path(path).read_text(encoding="utf-8")))


def close_mapped() -> None:
    """Let go of every mapped array of this process, e.g. before its files are moved."""
    _mapped.cache_clear()
    _meta.cache_clear()


@dataclass(frozen=True)
class MappedVolume:
    """An array of a prepared case. It holds paths alone: copying it, or sending it to a worker, costs nothing.

    Args:
        folder: of the case.
        key: which of its arrays.
    """

    folder: str
    key: str

    @property
    def array(self) -> np.ndarray:
        """The stored array (C, D, H, W), mapped.

        Raises:
            CaseError: it cannot be read.
        """
        return self._open(f"{self.key}.npy")

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, D, H, W)."""
        return tuple(self.array.shape)

    def positions(self) -> dict[int, np.ndarray]:
        """Flat voxel indices of each class of the case's label, background included; empty without a label.

        Raises:
            CaseError: the file cannot be read.
        """
        rows: dict[str, list[int]] = self.meta().get("positions", {})
        if not rows:
            return {}
        # a plain view: slices of a memmap are slow to make
        stored = np.asarray(self._open(POSITIONS_FILE))
        return {int(name): stored[first:last] for name, (first, last) in rows.items()}

    def whole(self) -> MetaTensor:
        """All of it, (C, D, H, W)."""
        return self.crop((0, 0, 0), self.shape[1:])

    def crop(self, start: Sequence[int], size: Sequence[int]) -> MetaTensor:
        """A part of it, in the type and with the values that the transforms gave.

        Args:
            start: lowest corner in voxels; where it is negative, or the part ends outside, there are zeros.
            size: in voxels.

        Returns:
            (C, *size), with the affine of the part.
        """
        stored = self.meta()["keys"][self.key]
        part = self.array[(slice(None), *inside(start, size, self.shape[1:]))]
        values = np.array(part, dtype=stored["dtype"], order="C")
        if "scale" in stored:
            values *= np.float32(stored["scale"])
            values += np.float32(stored["offset"])
        meta = {"filename_or_obj": str(Path(self.folder) / f"{self.key}.npy")}
        return placed(values, np.array(stored["affine"], dtype=np.float64), start, size, meta)

    def meta(self) -> dict[str, Any]:
        """What `meta.json` says."""
        file = Path(self.folder) / META_FILE
        try:
            return _meta(str(file), file.stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            raise self._damaged(file, error) from error

    def _open(self, name: str) -> np.ndarray:
        file = Path(self.folder) / name
        try:
            return _mapped(str(file), file.stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            raise self._damaged(file, error) from error

    def _damaged(self, file: Path, error: Exception) -> CaseError:
        problem = f"prepared array {file} cannot be read ({error})"
        return CaseError(Path(self.folder).name, problem, "start again, and the case is prepared again")


def inside(start: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """The part of a volume that a crop covers; the crop may begin before the volume and end behind it."""
    return tuple(slice(max(a, 0), min(a + s, n)) for a, s, n in zip(start, size, shape, strict=True))


def placed(
    values: np.ndarray, affine: np.ndarray, start: Sequence[int], size: Sequence[int], meta: dict[str, Any]
) -> MetaTensor:
    """What a crop covers of a volume, with zeros around it up to the crop's size.

    Args:
        values: (C, …), from `inside`.
        affine: of the volume, 4 x 4 in mm.
        start: lowest corner of the crop in voxels of the volume.
        size: of the crop in voxels.
        meta: of the result.

    Returns:
        (C, *size), with the affine of the crop.
    """
    if values.shape[1:] != tuple(size):
        before = [max(-a, 0) for a in start]
        pairs = zip(before, size, values.shape[1:], strict=True)
        values = np.pad(values, [(0, 0), *((b, s - n - b) for b, s, n in pairs)])
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ np.asarray(start, dtype=np.float64)
    return MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(moved), meta=meta)
