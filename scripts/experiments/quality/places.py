"""Where a structure lies and how large it is, and how usual that is among the labels that a network was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from scripts.core.classes import Classes

# labels with the structure that a usual size and place can be told from
LEAST_LABELS = 5
# a spread below these is one of too few or of copied labels, not of patients
LEAST_LOG_ML = 0.05
LEAST_MM = 1.0
# share of the labels with another structure from which on the place is told against the others
OTHERS_SHARE = 0.9


@dataclass(frozen=True)
class Place:
    """Size and place of one structure in one label map.

    Args:
        ml: volume.
        from_image: its centroid minus the centre of the image, mm towards right, anterior, superior turned to RAS+.
        from_others: its centroid minus that of all other foreground, or None where there is no other.
    """

    ml: float
    from_image: tuple[float, float, float]
    from_others: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Usual:
    """Sizes and places of one structure among labels.

    Args:
        labels: label maps that were read.
        present: of them, those that have the structure.
        log_ml: mean and standard deviation of the natural logarithm of the volume in ml.
        against: `others` or `image`: what the place is told against.
        mm: mean of the offset towards RAS+.
        mm_sd: its standard deviations.
    """

    labels: int
    present: int
    log_ml: tuple[float, float]
    against: str
    mm: tuple[float, ...]
    mm_sd: tuple[float, ...]

    def volume_z(self, place: Place) -> float:
        """How many standard deviations the logarithm of the volume is from the mean; negative is small."""
        mean, sd = self.log_ml
        return (math.log(place.ml) - mean) / sd

    def position_z(self, place: Place) -> float:
        """Root of the mean square of the offset's distances from the usual one, in standard deviations per axis."""
        offset = place.from_others if self.against == "others" else place.from_image
        if offset is None:
            return math.nan
        z = (np.array(offset) - np.array(self.mm)) / np.array(self.mm_sd)
        return float(np.sqrt(np.mean(z**2)))

    def written(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @staticmethod
    def of(entry: Mapping[str, Any]) -> Usual:
        """From JSON."""
        low, high = entry["log_ml"]
        return Usual(
            int(entry["labels"]),
            int(entry["present"]),
            (float(low), float(high)),
            str(entry["against"]),
            *(tuple(float(v) for v in entry[name]) for name in ("mm", "mm_sd")),
        )


def places(label: np.ndarray, affine: np.ndarray, classes: Classes) -> dict[str, Place | None]:
    """Where each structure lies.

    Args:
        label: whole numbers (X, Y, Z).
        affine: 4x4 voxel-to-world matrix in RAS+ mm.
        classes: name to label values.

    Returns:
        Name to place; None of a structure without a voxel.
    """
    centre = _world(affine, (np.array(label.shape) - 1) / 2)
    ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    counted = {value: _counted(label, value, box) for value, box in boxes(label).items()}
    total, everything = _total(list(counted.values()))
    found: dict[str, Place | None] = {}
    for name, values in classes.items():
        count, sums = _total([counted[value] for value in values if value in counted])
        if not count:
            found[name] = None
            continue
        here = _world(affine, sums / count)
        others = _world(affine, (everything - sums) / (total - count)) if total > count else None
        away = None if others is None else _offset(here, others)
        found[name] = Place(count * ml, _offset(here, centre), away)
    return found


def boxes(label: np.ndarray) -> dict[int, tuple[slice, ...]]:
    """Bounding box of every value above 0 that occurs in a label map (X, Y, Z) of whole numbers."""
    found = ndimage.find_objects(label.astype(np.int32, copy=False))
    return {value: box for value, box in enumerate(found, 1) if box is not None}


def usual(found: Sequence[Mapping[str, Place | None]]) -> dict[str, Usual]:
    """What is usual among labels.

    Args:
        found: of each label map, from `places`.

    Returns:
        Name to sizes and places, of the structures that at least `LEAST_LABELS` labels have.
    """
    result = {}
    for name in dict.fromkeys(name for one in found for name in one):
        present = [place for one in found if (place := one.get(name)) is not None]
        if len(present) < LEAST_LABELS:
            continue
        logs = np.log([place.ml for place in present])
        beside = [place.from_others for place in present if place.from_others is not None]
        against = "others" if len(beside) >= OTHERS_SHARE * len(present) else "image"
        offsets = np.array(beside if against == "others" else [place.from_image for place in present])
        sd = np.maximum(offsets.std(axis=0, ddof=1), LEAST_MM)
        spread = (float(logs.mean()), max(float(logs.std(ddof=1)), LEAST_LOG_ML))
        mean = tuple(float(v) for v in offsets.mean(axis=0))
        result[name] = Usual(len(found), len(present), spread, against, mean, tuple(float(v) for v in sd))
    return result


def _counted(label: np.ndarray, value: int, box: tuple[slice, ...]) -> tuple[int, np.ndarray]:
    """Voxels of a value, and the sums of their indices."""
    mask = label[box] == value
    # sums over two axes are quicker than the coordinates of every voxel
    counts = [mask.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    starts = [part.start for part in box]
    sums = [count @ (np.arange(len(count)) + start) for count, start in zip(counts, starts, strict=True)]
    return int(counts[0].sum()), np.array(sums, dtype=np.float64)


def _total(counted: Sequence[tuple[int, np.ndarray]]) -> tuple[int, np.ndarray]:
    return sum(count for count, _ in counted), sum((sums for _, sums in counted), np.zeros(3))


def _world(affine: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.asarray(affine[:3, :3] @ index + affine[:3, 3])


def _offset(one: np.ndarray, two: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in one - two)
    return x, y, z
