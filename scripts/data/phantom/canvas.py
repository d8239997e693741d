"""What MR and CT of the phantom share: a case, the patient's pose, the grid signal is computed on, painting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.data.phantom.cervix_uterus import organ_points
from scripts.data.phantom.dose import Implant
from scripts.data.phantom.sampled_anatomy import Anatomy
from scripts.data.phantom.shapes import Array, Box, rotation


@dataclass
class PhantomCase:
    """One synthetic image.

    Args:
        image: int16 (X, Y, Z).
        label: uint8 (X, Y, Z); for MR {0 background, 1 organ, 2 tumor}, for CT
            {0 background, 1 HR-CTV, 2 bladder, 3 rectum, 4 uterus, 5 sigmoid}.
        affine: 4x4, index to RAS+ mm.
        info: what was drawn: plane, spacing, tumour size and site.
        implant: where the source dwells; None without an applicator.
    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]
    info: dict[str, Any] = field(default_factory=dict)
    implant: Implant | None = None


def pose(rng: np.random.Generator, anatomy: Anatomy, turn: float = 4.0) -> NDArray[np.float64]:
    """4x4 from canonical mm to scanner mm: size, a tilt of a few degrees, a shift of a few centimetres."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(*rng.normal(0, turn, 3)) * anatomy.scale
    matrix[:3, 3] = rng.normal(0, 12, 3)
    return matrix


def directions(codes: str, tilt: NDArray[np.float64]) -> NDArray[np.float64]:
    """3x3 whose columns are the directions of the image axes for orientation `codes`, turned by `tilt`."""
    matrix = np.zeros((3, 3))
    for axis, code in enumerate(codes):
        row = next(i for i, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        matrix[row, axis] = 1.0 if code in "RAS" else -1.0
    return np.asarray(tilt @ matrix)


def organ_extent(
    anatomy: Anatomy, to_scanner: NDArray[np.float64], axes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest coordinate of the organ along image axes (columns of `axes`), in scanner mm."""
    points, radii = organ_points(anatomy)
    points = np.array([anatomy.warp.undo(p) for p in points])
    along = (points @ to_scanner[:3, :3].T + to_scanner[:3, 3]) @ axes
    reach = radii[:, None] * anatomy.scale * 1.12
    return (along - reach).min(0), (along + reach).max(0)


@dataclass(frozen=True)
class Protocol:
    """How an image is acquired; None draws from the clinical range.

    Args:
        plane: `axial` or `sagittal`; CT is axial.
        spacing: in plane, mm.
        thickness: slice spacing, mm.
        matrix: samples in plane.
        slices: their number.
    """

    plane: str | None = None
    spacing: float | None = None
    thickness: float | None = None
    matrix: int | None = None
    slices: int | None = None


def subsampled(
    affine: NDArray[np.float64], shape: tuple[int, int, int], spacing: float, parts: int
) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """The grid that signal is computed on: about `spacing` mm in plane, `parts` samples through each slice.

    In plane its first and last samples are the image's own.
    """
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    size = [max(16, min(n, round((n - 1) * s / spacing) + 1)) for n, s in zip(shape[:2], steps[:2], strict=True)]
    factor = np.array([(shape[0] - 1) / (size[0] - 1), (shape[1] - 1) / (size[1] - 1), 1 / parts])
    out = affine.copy()
    out[:3, :3] = affine[:3, :3] * factor
    out[:3, 3] -= affine[:3, 2] * (parts - 1) / (2 * parts)
    return (size[0], size[1], shape[2] * parts), out


class Canvas:
    """Signal that tissues are painted onto, each with a level and a texture of its own."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        levels: dict[str, tuple[float, float]],
        textures: dict[str, Array],
        empty: float = 0.0,
    ) -> None:
        self.signal = np.full(shape, empty, dtype=np.float32)
        self.levels, self.textures = levels, textures

    def __call__(self, tissue: str, box: Box, share: Array) -> None:
        """Cover part of the image, see `body.Paint`."""
        level, grain = self.levels[tissue]
        part = self.signal[box]
        change = self.textures.get(tissue, self.textures[""])[box] * np.float32(grain)
        change += np.float32(level)
        change -= part
        change *= share
        part += change
