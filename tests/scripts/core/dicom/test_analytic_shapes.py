"""Seven analytic shapes, two of them hollow, as contours on a CT: read to a mask, and written and read again.

After RTMaskConformanceTest: its limits, none of them relaxed. Truth is the closed form at voxel centres, and its volume.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_networks import surface_metrics
from scripts.core.dicom.outlines import outlines
from scripts.core.dicom.rasterise import contours_to_mask
from scripts.core.dicom.rtstruct import read_rtstruct
from scripts.core.dicom.source import SourceSeries, read_source
from scripts.core.dicom.write_rtstruct import DrawnRoi, write_rtstruct

SPACING = (1.0, 1.0, 2.0)
GRID = (56, 56, 28)
ANGLES = np.linspace(0, 2 * np.pi, 180, endpoint=False)


@dataclass(frozen=True)
class Shape:
    """Half axes of its cross-section at a height from the centre, in mm; None above and below it.

    Args:
        outer: height to half axes.
        volume: mm3 of the closed form.
        inner: of the hollow.
        square: the cross-section is a rectangle.
    """

    outer: Callable[[float], tuple[float, float] | None]
    volume: float
    inner: Callable[[float], tuple[float, float] | None] = lambda z: None
    square: bool = False

    def ring(self, axes: tuple[float, float]) -> np.ndarray:
        a, b = axes
        if self.square:
            return np.array([[-a, -b], [a, -b], [a, b], [-a, b]])
        return np.column_stack([a * np.cos(ANGLES), b * np.sin(ANGLES)])

    def within(self, axes: tuple[float, float] | None, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if axes is None:
            return np.zeros(x.shape, bool)
        a, b = axes
        return (np.abs(x) < a) & (np.abs(y) < b) if self.square else (x / a) ** 2 + (y / b) ** 2 < 1


def ball(a: float, b: float, c: float) -> Callable[[float], tuple[float, float] | None]:
    def axes(z: float) -> tuple[float, float] | None:
        scale = math.sqrt(max(0.0, 1 - (z / c) ** 2))
        return (a * scale, b * scale) if scale > 0 else None

    return axes


def prism(a: float, half: float) -> Callable[[float], tuple[float, float] | None]:
    return lambda z: (a, a) if abs(z) < half else None


def cone(a: float, half: float) -> Callable[[float], tuple[float, float] | None]:
    return lambda z: (a * (half - z) / (2 * half),) * 2 if abs(z) < half else None


BALL = 4 / 3 * math.pi
SHAPES = {
    "sphere": Shape(ball(20, 20, 20), BALL * 20**3),
    "ellipsoid": Shape(ball(24, 15, 20), BALL * 24 * 15 * 20),
    "cube": Shape(prism(16, 16), 32**3, square=True),
    "cylinder": Shape(prism(18, 20), math.pi * 18**2 * 40),
    "cone": Shape(cone(24, 20), math.pi * 24**2 * 40 / 3),
    "hollow sphere": Shape(ball(22, 22, 22), BALL * (22**3 - 12**3), ball(12, 12, 12)),
    "hollow cylinder": Shape(prism(20, 20), math.pi * (20**2 - 10**2) * 40, prism(10, 20)),
}


def heights() -> np.ndarray:
    return (np.arange(GRID[2]) - (GRID[2] - 1) / 2) * SPACING[2]


def truth(shape: Shape) -> np.ndarray:
    """The closed form at voxel centres."""
    x, y = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in GRID[:2]), indexing="ij")
    slices = []
    for z in heights():
        slices.append(shape.within(shape.outer(z), x, y) & ~shape.within(shape.inner(z), x, y))
    return np.stack(slices, axis=-1)


def contours(shape: Shape, affine: np.ndarray) -> list[np.ndarray]:
    """Exact cross-sections on the planes of the slices, in LPS mm; a hollow is a contour of its own within the other."""
    found = []
    for index, z in enumerate(heights()):
        for axes in (shape.outer(z), shape.inner(z)):
            if axes is not None:
                ring = shape.ring(axes) / SPACING[:2] + (np.array(GRID[:2]) - 1) / 2
                points = np.column_stack([ring, np.full(len(ring), index), np.ones(len(ring))])
                found.append((points @ affine.T)[:, :3])
    return found


def conforms(found: np.ndarray, shape: Shape) -> None:
    expected = truth(shape)
    metrics = surface_metrics(found, expected, SPACING, 1.0)
    assert metrics["dsc"] >= 0.95
    assert metrics["nsd"] >= 0.95
    assert metrics["hd95"] <= 2.0
    assert metrics["asd"] <= 0.5
    assert found.sum() * math.prod(SPACING) == pytest.approx(shape.volume, rel=0.03)


@pytest.fixture(params=["axial", "oblique"])
def series(request: Any, dicom: Any, tmp_path: Path) -> Any:
    affine = dicom.affine(request.param, spacing=SPACING, origin=(-201.37, 88.21, -1034.6))
    return dicom.series(tmp_path / "ct", np.zeros(GRID, np.int16), affine, modality="CT")


def read(file: Path, source: SourceSeries) -> dict[str, np.ndarray]:
    return {
        roi.name: contours_to_mask("case", roi.contours, source.affine, source.shape).array
        for roi in read_rtstruct(file).rois
    }


def test_the_shapes_are_what_they_are_called() -> None:
    """The closed form at voxel centres has the closed form's volume, so that a mask close to it is close to the shape."""
    assert len(SHAPES) == 7
    assert sum(shape.inner(0.5) is not None for shape in SHAPES.values()) == 2
    for name, shape in SHAPES.items():
        assert truth(shape).sum() * math.prod(SPACING) == pytest.approx(shape.volume, rel=0.01), name


def test_contours_of_a_planning_system_are_read(series: Any, dicom: Any, tmp_path: Path) -> None:
    source = read_source(series.files, "case")
    rois = [(i, name, None, contours(shape, series.affine)) for i, (name, shape) in enumerate(SHAPES.items(), 1)]
    found = read(dicom.rtstruct(tmp_path / "rt.dcm", series, rois), source)
    assert list(found) == list(SHAPES)
    for name, mask in found.items():
        conforms(mask, SHAPES[name])


def test_a_label_map_comes_back_from_its_contours(series: Any, tmp_path: Path) -> None:
    source = read_source(series.files, "case")
    rois = []
    for name, shape in SHAPES.items():
        mask = truth(shape)
        slices = {int(z): outlines(mask[:, :, z], SPACING[:2]) for z in np.flatnonzero(mask.any(axis=(0, 1)))}
        rois.append(DrawnRoi(name, "ORGAN", (255, 0, 0), slices, name))
    found = read(write_rtstruct(tmp_path / "rt.dcm", source, rois, "AUTO"), source)
    for name, mask in found.items():
        conforms(mask, SHAPES[name])
        np.testing.assert_array_equal(mask, truth(SHAPES[name]), name)


def test_the_limits_can_fail() -> None:
    """A shape that is filled, moved by two voxels or a tenth too large does not pass."""
    hollow = SHAPES["hollow cylinder"]
    with pytest.raises(AssertionError):
        conforms(truth(SHAPES["cylinder"]), hollow)
    with pytest.raises(AssertionError):
        conforms(np.roll(truth(SHAPES["cube"]), 2, 0), SHAPES["cube"])
    with pytest.raises(AssertionError):
        conforms(truth(Shape(ball(20.7, 20.7, 20.7), 1.0)), SHAPES["sphere"])
