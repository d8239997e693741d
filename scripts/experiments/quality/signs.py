"""Signs of a contour's quality that need no label: one row per structure of one label map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy import ndimage

from scripts.core.classes import Classes
from scripts.core.predictions import region
from scripts.experiments.quality.places import Place, Usual, boxes, places

# dense bone and enamel stay below, titanium and steel reach the end of the 12-bit scale at 3071 HU
METAL_HU = 2500.0
# as far as streaks blur a soft-tissue edge, and about the distance from tandem to the edge of an HR-CTV
REACH_MM = 20.0
# a structure farther from the border than this is not cut off by it
BORDER_MM = 50.0


@dataclass(frozen=True)
class Signs:
    """What can be told of one structure without a label; NaN is unknown.

    Args:
        structure: its name.
        ml: volume.
        volume_z: standard deviations of the log volume from that of the training labels; negative is small.
        position_z: standard deviations of the centroid from its place in the training labels.
        border_mm: distance to the border of the image, 0 where it touches it.
        metal_ml: of CT: metal within `REACH_MM`.
        entropy: mean of the softmax where it is decided for the structure, 0 (sure) to 1 (all classes equal).
        fold_agreement: mean DSC over pairs of folds.
    """

    structure: str
    ml: float
    volume_z: float = math.nan
    position_z: float = math.nan
    border_mm: float = math.nan
    metal_ml: float = math.nan
    entropy: float = math.nan
    fold_agreement: float = math.nan

    @property
    def empty(self) -> bool:
        """Whether nothing was found."""
        return self.ml == 0

    def row(self) -> dict[str, Any]:
        """The values by name, those that are unknown as None."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


def signs(
    label: np.ndarray,
    affine: np.ndarray,
    classes: Classes,
    usual: Mapping[str, Usual] | None = None,
    ct: np.ndarray | None = None,
    entropy: Mapping[int, tuple[float, float]] | None = None,
    agreed: Mapping[str, float] | None = None,
) -> list[Signs]:
    """Signs of every structure of a label map.

    Args:
        label: whole numbers (X, Y, Z).
        affine: 4x4 voxel-to-world matrix in RAS+ mm.
        classes: name to label values.
        usual: sizes and places of the training labels; without it these signs are unknown.
        ct: the image in HU on the same grid, or None for MR.
        entropy: label value to mean and number of voxels, from `custom_networks.EntropyHandler`.
        agreed: structure to the agreement of the folds.

    Returns:
        In the order of the classes. Of an empty structure only the volume, 0, and the folds' agreement are known.
    """
    where, around = places(label, affine, classes), boxes(label)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    found = []
    for name, values in classes.items():
        known: dict[str, float] = {"fold_agreement": (agreed or {}).get(name, math.nan)}
        place = where[name]
        if place is None:
            found.append(Signs(name, 0.0, **known))
            continue
        box = _union(around, values)
        if ct is not None:
            known["metal_ml"] = metal_ml(label, values, box, ct, spacing)
        known |= {"border_mm": border_mm(box, label.shape, spacing), "entropy": _entropy(entropy or {}, values)}
        found.append(Signs(name, place.ml, **known))
    return against(found, where, usual or {})


def against(found: Sequence[Signs], where: Mapping[str, Place | None], usual: Mapping[str, Usual]) -> list[Signs]:
    """Signs with volume and position against what is usual.

    Args:
        found: signs of one label map.
        where: its `places`.
        usual: of the training labels; a structure that is not in it keeps these signs unknown.
    """
    result = []
    for one in found:
        place, known = where[one.structure], usual.get(one.structure)
        if place is None or known is None:
            result.append(one)
        else:
            result.append(replace(one, volume_z=known.volume_z(place), position_z=known.position_z(place)))
    return result


def agreement(masks: Sequence[np.ndarray]) -> float | None:
    """Mean DSC over all pairs of masks; None where fewer than two of them exist or none found anything."""
    found = []
    for one, two in combinations(masks, 2):
        total = int(one.sum()) + int(two.sum())
        if total:
            found.append(2 * int((one & two).sum()) / total)
    return round(float(np.mean(found)), 4) if found else None


def agreements(maps: Sequence[np.ndarray], classes: Classes) -> dict[str, float | None]:
    """Structure to the `agreement` of label maps (X, Y, Z) on one grid."""
    around = [boxes(one) for one in maps]
    found: dict[str, float | None] = {}
    for name, values in classes.items():
        there = [box for one in around for value in values if (box := one.get(value)) is not None]
        crop = _cover(there) if there else ()
        found[name] = agreement([region(one[crop], values) for one in maps]) if there else None
    return found


def border_mm(box: tuple[slice, ...], shape: tuple[int, ...], spacing: np.ndarray) -> float:
    """Distance from a bounding box to the nearest face of the image, mm; 0 where it touches one."""
    steps = [min(part.start, size - part.stop) for part, size in zip(box, shape, strict=True)]
    return float(np.min(np.array(steps) * spacing))


def metal_ml(
    label: np.ndarray, values: Sequence[int], box: tuple[slice, ...], ct: np.ndarray, spacing: np.ndarray
) -> float:
    """Volume above `METAL_HU` within `REACH_MM` of a structure, in ml.

    Args:
        label: whole numbers (X, Y, Z).
        values: of the structure, which has at least a voxel.
        box: its bounding box.
        ct: HU on the same grid.
        spacing: mm per axis.
    """
    wide = tuple(
        slice(max(0, part.start - math.ceil(REACH_MM / mm)), part.stop + math.ceil(REACH_MM / mm))
        for part, mm in zip(box, spacing, strict=True)
    )
    metal = ct[wide] > METAL_HU
    if not metal.any():
        return 0.0
    near = ndimage.distance_transform_edt(~region(label[wide], values), sampling=spacing) <= REACH_MM
    return float((metal & near).sum() * np.prod(spacing) / 1000)


def _union(around: Mapping[int, tuple[slice, ...]], values: Sequence[int]) -> tuple[slice, ...]:
    return _cover([around[value] for value in values if value in around])


def _cover(parts: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The box around boxes."""
    return tuple(
        slice(min(part.start for part in axis), max(part.stop for part in axis)) for axis in zip(*parts, strict=True)
    )


def _entropy(found: Mapping[int, tuple[float, float]], values: Sequence[int]) -> float:
    """Mean over the voxels of all values of a structure."""
    known = [found[value] for value in values if value in found and found[value][1] > 0]
    count = sum(voxels for _, voxels in known)
    return sum(mean * voxels for mean, voxels in known) / count if count else math.nan
