"""A small datalist, and a stand-in for the processes of monai.bundle that leaves what they would leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine

from custom_networks import RecordTrainingCases, read_datalist
from custom_networks.data.datalist import image_stem
from scripts.experiments.training import fold as fold_module
from scripts.experiments.training import organ_masks as masks_module

BUNDLES = Path(__file__).resolve().parents[4] / "bundles"


def write_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), value, np.int16), np.eye(4)), path)


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    """Eight images of six patients in two folds; the file names have dots, as those of SaveImaged may."""
    folder, cases = tmp_path / "data", []
    for i in range(8):
        for kind in ("images", "labels"):
            write_image(folder / f"{kind}/p.{i}.nii.gz", i)
        files = {"image": f"images/p.{i}.nii.gz", "label": f"labels/p.{i}.nii.gz"}
        cases.append({"case": f"case {i}", "patient": f"p{i % 6}", **files, "fold": i % 2})
    file = folder / "datalist.json"
    content = {"name": "n", "labels": {"0": "background", "1": "organ"}, "training": cases, "testing": []}
    file.write_text(json.dumps(content))
    return file


class Runs:
    """Called instead of `run_bundle`. Weights hold the number of their fold, and so do predictions made with them."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], dict[str, Any]]] = []
        self.killed_at: int | None = None

    @property
    def trained(self) -> list[int]:
        """Folds that were trained, in order."""
        return [more["fold"] for configs, more in self.calls if set(configs).isdisjoint(NOT_TRAINING)]

    def __call__(self, bundle, configs, overrides, processes=1, log=None):
        self.calls.append((list(configs), dict(overrides)))
        if "configs/inference.json" in configs:
            folds = [int(torch.load(file)["fold"]) for file in overrides["fold_weights"]]
            assert len(folds) == overrides["folds"]
            cases = read_datalist(overrides["dataset_dir"], section="testing")
            return self.predict(cases, Path(overrides["output_dir"]), 10 * len(folds) + sum(folds))
        cases = read_datalist(overrides["datalist"], overrides["dataset_dir"])
        parts = [[case for case in cases if (case["fold"] == overrides["fold"]) == side] for side in (False, True)]
        if "configs/evaluate.json" in configs:
            number = int(torch.load(overrides["ckpt_path"])["fold"])
            noted = {image_stem(case["image"]): {"1": [0.25, 3.0]} for case in parts[1]}
            Path(overrides["output_dir"]).mkdir(parents=True, exist_ok=True)
            (Path(overrides["output_dir"]) / "entropy.json").write_text(json.dumps(noted))
            return self.predict(parts[1], Path(overrides["output_dir"]) / "predictions", number)
        place = Path(overrides["ckpt_dir"])
        engine = Engine(lambda engine, batch: None)
        RecordTrainingCases(parts[0], [place]).attach(engine)
        engine.run([0], max_epochs=1)
        (place / "resume.pt").touch()
        if self.killed_at == overrides["fold"]:
            raise KeyboardInterrupt
        for name, more in (("final.pt", 0), ("model.pt", 100)):
            torch.save({"fold": torch.tensor(overrides["fold"] + more)}, place / name)
        return None

    def predict(self, cases, place, value):
        for case in cases:
            write_image(place / f"{image_stem(case['image'])}_pred.nii.gz", value)


NOT_TRAINING = {"configs/evaluate.json", "configs/inference.json"}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    stand_in = Runs()
    monkeypatch.setattr(fold_module, "run_bundle", stand_in)
    monkeypatch.setattr(masks_module, "run_bundle", stand_in)
    return stand_in


@pytest.fixture
def value_of():
    """The one value of an image."""

    def value(path: str | Path) -> int:
        (found,) = np.unique(np.asanyarray(nib.load(path).dataobj))
        return int(found)

    return value


@pytest.fixture(scope="session")
def organ() -> str:
    return str(BUNDLES / "organ_pocketnet")


@pytest.fixture(scope="session")
def tumor() -> str:
    return str(BUNDLES / "tumor_pocketnet")


@pytest.fixture
def edit(datalist: Path):
    """Change the datalist: `edit(lambda content: …)`."""

    def change(function) -> None:
        content = json.loads(datalist.read_text())
        function(content)
        datalist.write_text(json.dumps(content))

    return change
