"""Files that a hospital's export or a conversion gone wrong may hold, each with the words of its refusal."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (12, 10, 8)
AFFINE = np.diag([-1.0, -1.0, 3.0, 1.0])


def image() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 10, SHAPE).astype(np.float32)


def _save(path: Path, array: np.ndarray, affine: np.ndarray | None = AFFINE) -> None:
    nib.save(nib.Nifti1Image(array, affine), path)


def two_forms(path: Path) -> None:
    nifti = nib.Nifti1Image(image(), AFFINE)
    moved = AFFINE.copy()
    moved[0, 3] = 4
    nifti.set_qform(moved, code=1)
    nib.save(nifti, path)


def no_form(path: Path) -> None:
    nifti = nib.Nifti1Image(image(), AFFINE)
    nifti.set_sform(None, code=0)
    nifti.set_qform(None, code=0)
    nib.save(nifti, path)


def sheared(path: Path) -> None:
    affine = AFFINE.copy()
    affine[1, 2] = 0.8  # a gantry tilted by 15 degrees
    _save(path, image(), affine)


def complex_numbers(path: Path) -> None:
    _save(path, image().astype(np.complex64) * (1 + 1j))


def colours(path: Path) -> None:
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    _save(path, np.zeros(SHAPE, kind))


def giant(path: Path) -> None:
    _save(path, image())
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[42:48] = np.array([30000, 30000, 20000], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))


def beyond_float32(path: Path) -> None:
    array = image().astype(np.float64)
    array[3, 3, 3] = 1e300
    _save(path, array)


def nan_affine(path: Path) -> None:
    affine = AFFINE.copy()
    affine[2, 3] = np.nan
    _save(path, image(), affine)


IMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "sform against qform": (two_forms, "are 4 mm apart, and programs differ in which they use; set both"),
    "no form code": (no_form, "has neither sform nor qform, so that left and right are unknown"),
    "shear": (sheared, "are sheared by 14.9 degrees"),
    "complex": (complex_numbers, "holds complex numbers; store their magnitude"),
    "RGB": (colours, "holds colours; store one grey value per voxel"),
    "giant header": (giant, "announces 30000 x 30000 x 20000 voxels, more than its file can hold"),
    "beyond float32": (beyond_float32, "has 1 voxels beyond the range of 32-bit numbers"),
    "affine without a number": (nan_affine, "has an affine with NaN or infinite numbers"),
}


def nan_label(path: Path) -> None:
    array = np.zeros(SHAPE, np.float32)
    array[4:8, 4:8, 3:6] = 1
    array[5, 5, 4] = np.nan
    _save(path, array)


def noise_label(path: Path) -> None:
    _save(path, image())


LABELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "NaN": (nan_label, "holds values that are not whole numbers; store one whole number per class"),
    "noise": (noise_label, "holds values that are not whole numbers; store one whole number per class"),
    "complex label": (complex_numbers, "holds complex numbers"),
    "label of another form": (two_forms, "are 4 mm apart"),
}
