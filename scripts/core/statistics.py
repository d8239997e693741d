"""What is known of a data set's files once they have been read: one reading for `check`, `split` and `plan`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.data.checks import check_grid, check_image
from scripts.core.files import write_text
from scripts.core.reading import read

# what CT scanners store outside their field of view lies below, and counts as air (decision A6)
AIR = -1024.0
# voxels per case that enter the intensity statistics; nnU-Net's number
SAMPLES = 10_000
PERCENTILES = np.arange(0.0, 100.5, 0.5)
FILE = ".statistics.json"
# of what is stored: raised when older numbers must not be used
VERSION = 1


@dataclass(frozen=True)
class LabelStatistics:
    """A label map, counted.

    Args:
        voxels: per label value that occurs, 0 included.
        voxel_ml: volume of a voxel in ml.
    """

    voxels: Mapping[int, int]
    voxel_ml: float

    def ml(self, value: int) -> float:
        """Volume of a label value in ml."""
        return self.voxels.get(value, 0) * self.voxel_ml


@dataclass(frozen=True)
class ImageStatistics:
    """An image, measured.

    Args:
        shape: voxels along L, P, S.
        spacing: mm along L, P, S.
        orientation: axis codes as stored, such as `RAS`.
        minimum: of all voxels, as stored.
        below_air: share of voxels below `AIR`.
        digest: SHA-256 of the voxels in float32.
        where: `label > 0` or `whole image`: the voxels that the intensities are of.
        count: how many of them were drawn, at most `SAMPLES`.
        mean: of their intensities.
        variance: of their intensities.
        percentiles: of their intensities, at `PERCENTILES`.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    minimum: float
    below_air: float
    digest: str
    where: str
    count: int
    mean: float
    variance: float
    percentiles: tuple[float, ...]


def label_statistics(label: np.ndarray, affine: np.ndarray) -> LabelStatistics:
    """Count a label map.

    Args:
        label: whole numbers (X, Y, Z).
        affine: 4x4 in mm.
    """
    values, counts = np.unique(label, return_counts=True)
    found = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    return LabelStatistics(found, abs(float(np.linalg.det(affine[:3, :3]))) / 1000)


def image_statistics(
    image: np.ndarray, affine: np.ndarray, label: np.ndarray | None = None, modality: str = "", seed: int = 0
) -> ImageStatistics:
    """Measure an image.

    Args:
        image: (X, Y, Z).
        affine: 4x4 in mm.
        label: whole numbers (X, Y, Z), or None; without a voxel above 0 the whole image is sampled.
        modality: of `CT` voxels below `AIR` count as air in the intensities.
        seed: of the choice of voxels.
    """
    import nibabel as nib

    # the axis of the stored array that runs along L, along P, along S
    order = np.argsort(nib.orientations.io_orientation(affine)[:, 0])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image, dtype=np.float32).data)
    labelled = label is not None and label.shape == image.shape and bool((label > 0).any())
    inside = image[label > 0] if label is not None and labelled else image.reshape(-1)
    if len(inside) > SAMPLES:
        inside = inside[np.random.default_rng(seed).choice(len(inside), SAMPLES, replace=False)]
    inside = inside[np.isfinite(inside)].astype(np.float64)
    if modality.upper() == "CT":
        inside = np.maximum(inside, AIR)
    inside = inside if len(inside) else np.zeros(1)
    return ImageStatistics(
        shape=tuple(int(image.shape[i]) for i in order),
        spacing=tuple(round(float(spacing[i]), 5) for i in order),
        orientation="".join(nib.aff2axcodes(affine)),
        minimum=float(image.min()),
        below_air=float(np.count_nonzero(image < AIR) / image.size),
        digest=digest.hexdigest(),
        where="label > 0" if labelled else "whole image",
        count=len(inside),
        mean=float(inside.mean()),
        variance=float(inside.var()),
        percentiles=tuple(float(v) for v in np.percentile(inside, PERCENTILES)),
    )


def pooled_intensity(measured: Sequence[ImageStatistics]) -> dict[str, Any]:
    """Intensities of a data set, every drawn voxel counted once.

    Args:
        measured: its images.

    Returns:
        `where`, `mean`, `standard_deviation`, `percentile_0.5`, `median` and `percentile_99.5`; the percentiles come from
        those of the cases, and are exact for one case.
    """
    counts = np.array([one.count for one in measured], dtype=np.float64)
    means = np.array([one.mean for one in measured])
    mean = float(np.average(means, weights=counts))
    variance = np.average(np.array([one.variance for one in measured]) + (means - mean) ** 2, weights=counts)
    values = np.array([one.percentiles for one in measured]).ravel()
    order = np.argsort(values, kind="stable")
    # a case with few voxels has as many percentiles as one with many
    weights = np.repeat(counts, len(PERCENTILES))[order].cumsum()
    ranks = (weights - weights[0]) / max(1e-12, float(weights[-1] - weights[0])) * 100
    low, median, high = (float(v) for v in np.interp((0.5, 50, 99.5), ranks, values[order]))
    return {
        "where": "label > 0" if any(one.where == "label > 0" for one in measured) else "whole image",
        "mean": mean,
        "standard_deviation": float(np.sqrt(variance)),
        "percentile_0.5": low,
        "median": median,
        "percentile_99.5": high,
    }


class KnownStatistics:
    """What was read once, beside the datalist in `.statistics.json`, bound to size and time of the files.

    Where that folder cannot be written nothing is kept, and every verb reads for itself.

    Args:
        folder: of the datalist.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._known: dict[str, Any] = {}
        self._changed = False
        with suppress(OSError, ValueError):
            content = json.loads((self.folder / FILE).read_text(encoding="utf-8"))
            if isinstance(content, dict) and content.get("version") == VERSION:
                self._known = dict(content["files"])

    def label(self, path: str, case: str) -> LabelStatistics:
        """Statistics of a label map, which is read only if they are not known.

        Args:
            path: the file.
            case: the case's name, for messages.

        Raises:
            CaseError: the file cannot be read.
        """
        state = self._state(path)
        entry = self._find(f"label {self._name(path)}", state)
        if entry is None:
            return self.note_label(path, label_statistics(*read(path, case, "label")), state)
        return LabelStatistics({int(value): count for value, count in entry["voxels"].items()}, entry["voxel_ml"])

    def image(self, path: str, label: str | None, case: str, modality: str = "") -> ImageStatistics:
        """Statistics of an image; image and label are read only if they are not known.

        Args:
            path: the image's file.
            label: the label's file, or None.
            case: the case's name, for messages.
            modality: see `image_statistics`.

        Raises:
            CaseError: a file cannot be read, the image has no content, or the label lies on another grid.
        """
        state = self._state(path, label)
        entry = self._find(self._image_key(path, label, modality), state)
        if entry is None:
            image, affine = read(path, case)
            check_image(case, path, image)
            mask = None
            if label is not None:
                mask, grid = read(label, case, "label")
                check_grid(case, f"label {label}", (mask, grid), (image, affine))
                self.note_label(label, label_statistics(mask, grid), state[1:])
            return self.note_image(path, label, modality, image_statistics(image, affine, mask, modality), state)
        for name in ("shape", "spacing", "percentiles"):
            entry[name] = tuple(entry[name])
        return ImageStatistics(**entry)

    def note_label(self, path: str, found: LabelStatistics, state: list[Any] | None = None) -> LabelStatistics:
        """Keep what was found; `state` is that of the file before it was read."""
        self._put(f"label {self._name(path)}", asdict(found), state or self._state(path))
        return found

    def note_image(
        self, path: str, label: str | None, modality: str, found: ImageStatistics, state: list[Any] | None = None
    ) -> ImageStatistics:
        """Keep what was found; `state` is that of the files before they were read."""
        self._put(self._image_key(path, label, modality), asdict(found), state or self._state(path, label))
        return found

    def save(self) -> None:
        """Write what is new."""
        if self._changed:
            with suppress(OSError):
                write_text(self.folder / FILE, json.dumps({"version": VERSION, "files": self._known}) + "\n")
            self._changed = False

    def _image_key(self, path: str, label: str | None, modality: str) -> str:
        kind = "CT" if modality.upper() == "CT" else "image"
        return " | ".join([f"{kind} {self._name(path)}", *([self._name(label)] if label is not None else [])])

    def _name(self, path: str) -> str:
        # a data set that is moved as a whole keeps what is known of it
        return Path(os.path.relpath(path, self.folder)).as_posix()

    def _state(self, *paths: str | None) -> list[Any]:
        found = []
        for path in paths:
            if path is not None:
                with suppress(OSError, ValueError):
                    stat = os.stat(path)
                    found.append([stat.st_size, stat.st_mtime_ns])
        return found

    def _find(self, key: str, state: list[Any]) -> dict[str, Any] | None:
        entry = self._known.get(key)
        return dict(entry["found"]) if entry is not None and state and entry["state"] == state else None

    def _put(self, key: str, found: dict[str, Any], state: list[Any]) -> None:
        self._known[key] = {"state": state, "found": found}
        self._changed = True
