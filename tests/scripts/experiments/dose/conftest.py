"""A cohort of two patients, one of them with two fractions, whose dose has values that can be told by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (24, 20, 18)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def label_map(shift: int = 0) -> np.ndarray:
    """1 target of 9.2 cm3, 2 organ of 4.8 cm3 beside it."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2 + shift : 14 + shift, 3:15, 4:12] = 1
    labels[14 + shift : 20 + shift, 3:13, 4:14] = 2
    return labels


def slope(gray: float = 10.0) -> np.ndarray:
    """Dose in Gy that falls by 0.25 Gy a mm along x."""
    return np.float32(gray) - np.float32(0.5) * np.indices(SHAPE)[0].astype(np.float32) * np.float32(gray / 20)


@dataclass
class Cohort:
    folder: Path

    @property
    def datalist(self) -> Path:
        return self.folder / "datalist.json"

    def edit(self, change: Callable[[dict[str, Any]], Any]) -> None:
        content = json.loads(self.datalist.read_text())
        change(content)
        self.datalist.write_text(json.dumps(content))


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    entries = []
    for case, patient in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        save(tmp_path / f"images/{case}.nii.gz", np.zeros(SHAPE, np.int16))
        save(tmp_path / f"labels/{case}.nii.gz", label_map())
        save(tmp_path / f"pred/{case}.nii.gz", label_map(1))
        save(tmp_path / f"doses/{case}.nii.gz", slope())
        files = {"image": "images", "label": "labels", "dose": "doses"}
        entry = {key: f"{folder}/{case}.nii.gz" for key, folder in files.items()}
        entries.append({"case": case, "patient": patient, "fractions": 2, **entry})
    labels = {"0": "background", "1": "HR-CTV", "2": "Rectum"}
    content = {"name": "two", "modality": "CT", "labels": labels, "testing": entries}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    return Cohort(tmp_path)
