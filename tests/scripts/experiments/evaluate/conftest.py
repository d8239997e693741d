"""A small cohort whose right answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from scripts.__main__ import main
from scripts.experiments.evaluate.measure import COLUMNS

SPACING = (2.0, 2.0, 5.0)


def save(path: Path, voxels: np.ndarray, spacing: tuple[float, ...] = SPACING) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])), path)


def label_map(shift: int = 0, tumor: bool = True) -> np.ndarray:
    """An organ of 10 x 8 x 4 voxels holding a tumour of 4 x 4 x 2, moved by `shift` voxels of 2 mm."""
    voxels = np.zeros((32, 24, 12), dtype=np.uint8)
    voxels[6 + shift : 16 + shift, 6:14, 4:8] = 1
    if tumor:
        voxels[8 + shift : 12 + shift, 8:12, 5:7] = 2
    return voxels


class Cohort:
    """Four cases of three patients on disk, and the verb that evaluates them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.datalist = folder / "datalist.json"

    def edit(self, **changes: Any) -> None:
        content = json.loads(self.datalist.read_text())
        self.datalist.write_text(json.dumps(content | changes))

    def cases(self) -> list[dict[str, Any]]:
        return json.loads(self.datalist.read_text())["testing"]

    def run(self, *extra: str) -> int:
        given = {"--datalist": self.datalist, "--predictions": self.folder / "pred", "--output": self.folder / "out"}
        given = {key: value for key, value in given.items() if key not in extra}
        return main(["evaluate", *(str(word) for pair in given.items() for word in pair), *extra])

    def table(self, file: str = "cases.csv", *index: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / "out" / file).set_index(list(index or ("case", "class")))


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Predictions are the truth moved by 0, 1, 2 voxels, and one without its tumour."""
    rng = np.random.default_rng(0)
    cases = []
    for i in range(4):
        name = f"p{min(i, 2)}_t{i}"
        image = rng.normal(100, 20, (32, 24, 12)).astype(np.float32) + 50 * label_map()
        save(tmp_path / f"images/{name}.nii.gz", image)
        save(tmp_path / f"labels/{name}.nii.gz", label_map())
        save(tmp_path / f"pred/{name}.nii.gz", label_map(min(i, 2), tumor=i < 3))
        files = {"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"}
        cases.append({"case": name, "patient": f"p{min(i, 2)}", **files})
    content = {
        "name": "four boxes",
        "labels": {"0": "background", "1": "organ", "2": "tumor"},
        "modality": "mr",
        "training": [],
        "testing": cases,
    }
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    return Cohort(tmp_path)


def line(name: str = "organ", dsc: float = 1.0, case: str = "c", **values: Any) -> dict[str, Any]:
    """A row of a case table."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS, 0.0) | {"case": case, "patient": case, "class": name}
    row |= {"dsc": dsc, "nsd": dsc, "hd95_mm": 10 * (1 - dsc), "asd_mm": 3 * (1 - dsc), "outcome": "found"}
    row |= values
    return row | {key: int(row["outcome"] in words) for key, words in COUNTED.items()}


COUNTED = {"missed": {"missed", "no prediction"}, "false_positive": {"false positive"}}


@pytest.fixture
def case_table() -> Any:
    """Build a case table from keyword arguments of `line`."""
    return lambda rows: pd.DataFrame([line(**row) for row in rows], columns=list(COLUMNS))


@pytest.fixture
def boxes() -> Any:
    """`save` and `label_map`, for tests that change the cohort."""
    return save, label_map
