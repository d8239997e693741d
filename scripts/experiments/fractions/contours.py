"""Volumes of a fraction's contours, and how they agree with those of the fraction before in the patient's frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from custom_networks import CaseError
from custom_networks.data.checks import check_grid, check_values
from scripts.core.predictions import find_prediction, region
from scripts.core.reading import read
from scripts.experiments.dose.case import NO_PREDICTION, Wanted
from scripts.experiments.fractions.series import Fraction


@dataclass(frozen=True)
class Jump:
    """From where on a contour is flagged: a DSC below, or a change of volume in % beyond, against the fraction before."""

    least_dsc: float = 0.5
    most_change: float = 50.0

    def __post_init__(self) -> None:
        if not 0 <= self.least_dsc <= 1:
            raise CaseError("--least_dsc", f"{self.least_dsc!r} is no DSC", "give a number from 0 to 1")
        if not 0 < self.most_change < float("inf"):
            raise CaseError("--most_volume_change", f"{self.most_change!r} is not above 0", "give it in %")


@dataclass(frozen=True)
class Contoured:
    """A fraction as it was read.

    Attributes:
        fraction: its case and number.
        image: (X, Y, Z).
        labels: (X, Y, Z) on the image's grid.
        affine: 4x4 from voxel index to RAS+ mm.
    """

    fraction: Fraction
    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


@dataclass(frozen=True)
class Contour:
    """One structure of a fraction.

    Attributes:
        name: of the structure.
        volume: ml.
        change: of the volume in % of that before; None without one.
        dsc: to the contour before; None without one or where both are empty.
        jump: what is not plausible, in one sentence; empty where nothing is.
    """

    name: str
    volume: float
    change: float | None = None
    dsc: float | None = None
    jump: str = ""


def read_contours(fraction: Fraction, wanted: Wanted) -> Contoured:
    """Read the image and the label map or prediction of a fraction.

    Raises:
        CaseError: there is none, a file is unreadable or holds unknown values, or the grids differ.
    """
    case = fraction.case
    if wanted.predictions is None:
        what, path = "label", case.label
        if path is None:
            raise CaseError(case.name, "it has no label", "give it one, or name a folder with --predictions")
    else:
        what, found = "prediction", find_prediction(wanted.predictions, case)
        if found is None:
            raise CaseError(case.name, NO_PREDICTION, f"put it in {wanted.predictions}")
        path = str(found)
    image = read(case.image, case.name)
    labels = read(path, case.name, what)
    check_grid(case.name, f"{what} {path}", labels, image)
    if wanted.known:
        check_values(case.name, f"{what} {path}", labels[0], wanted.known)
    return Contoured(fraction, image[0], labels[0], image[1])


def placed(before: Contoured, now: Contoured) -> np.ndarray:
    """The label map before on the grid of now: the nearest voxel by both affines, background outside."""
    from scipy.ndimage import affine_transform

    there = np.linalg.inv(before.affine) @ now.affine
    return affine_transform(
        before.labels, there[:3, :3], there[:3, 3], output_shape=now.labels.shape, order=0, mode="grid-constant", cval=0
    )


def compare(now: Contoured, before: Contoured | None, earlier: np.ndarray, wanted: Wanted, jump: Jump) -> list[Contour]:
    """Measure every structure of a fraction.

    Args:
        now: the fraction.
        before: the one before; None for the first.
        earlier: its label map on the grid of now, as `placed` gives it.
        wanted: the structures.
        jump: what is flagged.
    """
    found = []
    for name, values in wanted.classes.items():
        mask = region(now.labels, values)
        volume = int(np.count_nonzero(mask)) * now.voxel_ml
        if before is None:
            found.append(Contour(name, volume))
            continue
        there = region(before.labels, values)
        was = int(np.count_nonzero(there)) * before.voxel_ml
        moved = region(earlier, values)
        # what of it lies outside the grid of now agrees with nothing
        whole = int(np.count_nonzero(moved)) * now.voxel_ml + _outside(there, before, now) * before.voxel_ml
        both = int(np.count_nonzero(mask & moved)) * now.voxel_ml
        dsc = 2 * both / (volume + whole) if volume + whole else None
        change = 100 * (volume / was - 1) if was else None
        said = _implausible(volume, was, change, dsc, jump)
        where = f"{name}, fraction {now.fraction.number} against fraction {before.fraction.number}"
        found.append(Contour(name, volume, change, dsc, f"{where}: {said}; look at both contours." if said else ""))
    return found


def _outside(mask: np.ndarray, before: Contoured, now: Contoured) -> int:
    """How many voxels of a mask lie outside the grid of now."""
    there = np.linalg.inv(now.affine) @ before.affine
    index = np.argwhere(mask) @ there[:3, :3].T + there[:3, 3]
    high = np.array(now.labels.shape) - 0.5
    return int(np.count_nonzero(((index < -0.5) | (index > high)).any(axis=1)))


def _implausible(volume: float, was: float, change: float | None, dsc: float | None, jump: Jump) -> str:
    if not volume or not was:
        return "" if volume == was else f"it was {was:.3g} ml and is {volume:.3g} ml"
    said = []
    if dsc is not None and dsc < jump.least_dsc:
        said.append(f"DSC {dsc:.2f} is below {jump.least_dsc:g}")
    if change is not None and abs(change) > jump.most_change:
        said.append(f"the volume changed by {change:+.0f} %, more than {jump.most_change:g} %")
    return " and ".join(said)


def contour_rows(fraction: Fraction, contours: Sequence[Contour], before: Fraction | None) -> list[dict[str, Any]]:
    """The fraction's lines of the table, one for each structure."""
    return [
        {
            "patient": fraction.case.patient,
            "fraction": fraction.number,
            "case": fraction.case.name,
            "structure": one.name,
            "volume_ml": one.volume,
            "previous_fraction": None if before is None else before.number,
            "volume_change_percent": one.change,
            "dsc_previous": one.dsc,
            "jump": one.jump,
        }
        for one in contours
    ]
