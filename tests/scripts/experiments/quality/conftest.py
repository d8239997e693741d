"""A cohort whose bad contours are known: a box in noise, predicted by itself, or by a small part of it far away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.__main__ import main
from scripts.core.files import write_nifti
from scripts.core.predictions import write_made_by

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])
SHAPE = (24, 22, 14)
WEIGHTS = ["a" * 64, "b" * 64]


class Cohort:
    """Forty cases of twenty patients in two folds, and the verb that fits them."""

    def __init__(self, folder: Path, count: int = 40, modality: str = "MR") -> None:
        self.folder, self.datalist = folder, folder / "datalist.json"
        rng = np.random.default_rng(0)
        self.bad, entropy, entries = {}, {}, []
        for i in range(count):
            name, patient = f"c{i:02d}", f"p{i // 2:02d}"
            box = np.zeros(SHAPE, np.uint8)
            start = rng.integers(5, 9, 3)
            size = rng.integers(5, 8, 3) - np.array([0, 0, 2])
            box[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = 1
            guess = np.roll(box, 1, 0)
            # a quarter is bad: half of it far away, and the network was unsure
            self.bad[name] = i % 4 == 0
            if self.bad[name]:
                guess = np.zeros_like(box)
                guess[1:4, 1:4, 1:4] = 1
                guess[tuple(start)] = 1
            sure = rng.uniform(0.4, 0.8) if self.bad[name] else rng.uniform(0.1, 0.5)
            entropy[name] = {1: [sure, 100.0]}
            image = rng.normal(0, 20, SHAPE).astype(np.float32) + 100 * box
            for kind, array in (("images", image), ("labels", box), ("pred", guess)):
                write_nifti(folder / f"{kind}/{name}.nii.gz", array, AFFINE)
            files = {"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"}
            entries.append({"case": name, "patient": patient, **files, "fold": (i // 2) % 2})
        write_made_by(folder / "pred", WEIGHTS, entropy)
        content = {"name": "boxes", "labels": {"0": "background", "1": "box"}, "modality": modality}
        self.datalist.write_text(json.dumps(content | {"training": entries, "testing": []}))

    def edit(self, change: Any) -> None:
        content = json.loads(self.datalist.read_text())
        change(content)
        self.datalist.write_text(json.dumps(content))

    def run(self, *extra: str) -> int:
        given = {"--datalist": self.datalist, "--predictions": self.folder / "pred", "--output": self.folder / "out"}
        given = {key: value for key, value in given.items() if key not in extra}
        return main(["quality", *(str(word) for pair in given.items() for word in pair), *extra])

    @property
    def fitted(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "out/quality.json").read_text())
        return content


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)
