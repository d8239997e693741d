"""Two patients: spheres that move by a known distance, in a dose that is the same everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.core.datalist import Case
from scripts.experiments.dose.case import Wanted
from scripts.experiments.dose.measures import parse_measures
from scripts.experiments.fractions.contours import Contoured
from scripts.experiments.fractions.series import Fraction

RADIUS = 15.0
SHAPE = (32, 28, 26)
WANTED = Wanted({"HR-CTV": [1]}, [0, 1], parse_measures(["D90"]), {"HR-CTV": 10.0})


def grid(spacing: float = 2.0, origin: tuple[float, float, float] = (-32.0, -28.0, -26.0)) -> np.ndarray:
    """Affine of a grid, in mm."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def sphere(
    affine: np.ndarray, centre: tuple[float, float, float], radius: float = RADIUS, shape: tuple[int, ...] = SHAPE
) -> np.ndarray:
    """Label 1 within `radius` mm of a place in mm."""
    place = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    return (np.linalg.norm(place - np.array(centre), axis=-1) <= radius).astype(np.uint8)


def contoured(number: int, affine: np.ndarray, labels: np.ndarray) -> Contoured:
    case = Case(f"a{number}", {"image": "none.nii.gz"}, "a")
    return Contoured(Fraction(number, case), np.zeros(labels.shape, np.float32), labels, affine)


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


@dataclass
class Cohort:
    folder: Path

    @property
    def datalist(self) -> Path:
        return self.folder / "data/datalist.json"

    def edit(self, change: Callable[[dict[str, Any]], Any]) -> None:
        content = json.loads(self.datalist.read_text())
        change(content)
        self.datalist.write_text(json.dumps(content))


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Patient a: fractions 1, 2 (6 mm to the left), 3 (far away); patient b: fraction 1. 7, 6, 5 and 7 Gy."""
    entries = []
    cases = (("a", 1, 0.0, 7.0), ("a", 2, 6.0, 6.0), ("a", 3, -14.0, 5.0), ("b", 1, 0.0, 7.0))
    # the datalist need not be in order
    for patient, number, shift, gray in reversed(cases):
        name = f"{patient}{number}"
        # every image lies elsewhere in the scanner, by whole voxels
        affine = grid(origin=(-32.0 + 2 * number, -28.0, -26.0))
        label = sphere(affine, (shift, 0.0, 0.0))
        label[2:14, 2:6, 2:6] = 2
        noise = np.random.default_rng(number).integers(0, 60, SHAPE).astype(np.int16)
        save(tmp_path / f"data/images/{name}.nii.gz", noise + 100 * label, affine)
        save(tmp_path / f"data/labels/{name}.nii.gz", label, affine)
        save(tmp_path / f"predictions/{name}.nii.gz", label, affine)
        save(tmp_path / f"data/doses/{name}.nii.gz", np.full(SHAPE, gray, np.float32), affine)
        files = {"image": "images", "label": "labels", "dose": "doses"}
        entry = {key: f"{folder}/{name}.nii.gz" for key, folder in files.items()}
        entries.append({"case": name, "patient": patient, "fraction": number, "fractions": 1, **entry})
    labels = {"0": "background", "1": "HR-CTV", "2": "Rectum"}
    (tmp_path / "data/datalist.json").write_text(
        json.dumps({"name": "two", "modality": "CT", "labels": labels, "testing": entries})
    )
    return Cohort(tmp_path)
