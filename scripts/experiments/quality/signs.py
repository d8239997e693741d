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
from scripts.experiments.quality.places import Place, Usual, places

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
    where = places(label, affine, classes)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    found = []
    for name, values in classes.items():
        known: dict[str, float] = {"fold_agreement": (agreed or {}).get(name, math.nan)}
        place = where[name]
        if place is None:
            found.append(Signs(name, 0.0, **known))
            continue
        mask = region(label, values)
        if ct is not None:
            known["metal_ml"] = metal_ml(mask, ct, spacing, REACH_MM)
        known |= {"border_mm": border_mm(mask, spacing), "entropy": _entropy(entropy or {}, values)}
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


def border_mm(mask: np.ndarray, spacing: np.ndarray) -> float:
    """Distance from a mask (X, Y, Z) with at least a voxel to the nearest face of the image, mm; 0 where it touches one."""
    least = math.inf
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        steps = min(int(hit[0]), mask.shape[axis] - 1 - int(hit[-1]))
        least = min(least, steps * float(spacing[axis]))
    return least


def metal_ml(mask: np.ndarray, ct: np.ndarray, spacing: np.ndarray, reach: float) -> float:
    """Volume above `METAL_HU` within a distance of a mask with at least a voxel, in ml.

    Args:
        mask: booleans (X, Y, Z).
        ct: HU on the same grid.
        spacing: mm per axis.
        reach: mm.
    """
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    wide = tuple(
        slice(max(0, s.start - math.ceil(reach / mm)), s.stop + math.ceil(reach / mm))
        for s, mm in zip(box, spacing, strict=True)
    )
    metal = ct[wide] > METAL_HU
    if not metal.any():
        return 0.0
    near = ndimage.distance_transform_edt(~mask[wide], sampling=spacing) <= reach
    return float((metal & near).sum() * np.prod(spacing) / 1000)


def _entropy(found: Mapping[int, tuple[float, float]], values: Sequence[int]) -> float:
    """Mean over the voxels of all values of a structure."""
    known = [found[value] for value in values if value in found and found[value][1] > 0]
    count = sum(voxels for _, voxels in known)
    return sum(mean * voxels for mean, voxels in known) / count if count else math.nan
