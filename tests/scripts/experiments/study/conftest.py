"""A small cohort, a study of it, and a stand-in for the processes of monai.bundle whose scores are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine

from custom_networks import CaseError, RecordTrainingCases, read_datalist
from custom_networks.data.datalist import image_stem
from scripts.__main__ import main
from scripts.experiments.evaluate import pictures
from scripts.experiments.training import fold as fold_module
from scripts.experiments.training import organ_masks as masks_module

AFFINE = np.diag([-2.0, -2.0, 4.0, 1.0])


def save(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)


def label_map() -> np.ndarray:
    voxels = np.zeros((16, 12, 8), np.uint8)
    voxels[3:11, 3:9, 2:6] = 1
    voxels[5:9, 4:7, 3:5] = 2
    return voxels


def cohort(folder: Path, name: str, training: int, testing: int, folds: int, seed: int) -> Path:
    """A datalist; the first patient has two images."""
    rng, sections = np.random.default_rng(seed), {"training": [], "testing": []}
    for i in range(training + testing):
        case, patient = f"{name}{i}", f"{name}p{max(i, 1)}"
        save(folder / f"images/{case}.nii.gz", rng.normal(100, 20, (16, 12, 8)).astype(np.float32))
        save(folder / f"labels/{case}.nii.gz", label_map())
        entry = {"case": case, "patient": patient, "image": f"images/{case}.nii.gz", "label": f"labels/{case}.nii.gz"}
        if i < training:
            sections["training"].append({**entry, "fold": max(i, 1) % folds})
        else:
            sections["testing"].append(entry)
    labels = {"0": "background", "1": "organ", "2": "tumor"}
    (folder / "datalist.json").write_text(json.dumps({"name": name, "labels": labels, "modality": "MR", **sections}))
    return folder / "datalist.json"


class Bundles:
    """Called instead of `run_bundle`. A network moves the truth by as many voxels as its `seed`; more by none."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.broken: set[tuple[str, int]] = set()
        self.killed_at = -1

    def __call__(self, bundle, configs, overrides, processes=1, log=None):
        if len(self.calls) == self.killed_at:
            self.killed_at = -1
            raise KeyboardInterrupt
        if "configs/inference.json" in configs:
            self.calls.append(("ensemble", -1))
            shifts = [int(torch.load(file)["shift"]) for file in overrides["fold_weights"]]
            assert len(shifts) == overrides["folds"]
            cases = read_datalist(overrides["dataset_dir"], section="testing")
            self.predict(bundle, cases, Path(overrides["output_dir"]), round(float(np.mean(shifts))))
            return
        number = overrides["fold"]
        cases = read_datalist(overrides["datalist"], overrides["dataset_dir"])
        parts = [[case for case in cases if (case["fold"] == number) == side] for side in (False, True)]
        if "configs/evaluate.json" in configs:
            self.calls.append(("evaluate", number))
            shift = int(torch.load(overrides["ckpt_path"])["shift"])
            self.predict(bundle, parts[1], Path(overrides["output_dir"]) / "predictions", shift)
            return
        place = Path(overrides["ckpt_dir"])
        self.calls.append((place.parent.name, number))
        if (place.parent.name, number) in self.broken:
            raise CaseError("bundle b", "the run ended with status 1 (out of memory)", "see the log")
        if "organ_weights" in overrides:
            assert all(case["organ"] for case in cases)
            assert Path(overrides["organ_weights"]).is_file()
        engine = Engine(lambda engine, batch: None)
        RecordTrainingCases(parts[0], [place]).attach(engine)
        engine.run([0], max_epochs=1)
        for name in ("final.pt", "model.pt"):
            torch.save({"shift": torch.tensor(overrides.get("seed", 0))}, place / name)

    def predict(self, bundle, cases, place, shift):
        for case in cases:
            voxels = np.roll(np.asarray(nib.load(case["label"]).dataobj), shift, axis=0)
            voxels = (voxels > 0).astype(np.uint8) if Path(bundle).name == "organ_pocketnet" else voxels
            save(place / f"{image_stem(case['image'])}_pred.nii.gz", voxels)


@pytest.fixture
def bundles(monkeypatch: pytest.MonkeyPatch) -> Bundles:
    stand_in = Bundles()
    monkeypatch.setattr(fold_module, "run_bundle", stand_in)
    monkeypatch.setattr(masks_module, "run_bundle", stand_in)
    return stand_in


TWO_STAGE = {
    "name": "two stages",
    "question": "Which?",
    "datalist": "plain/datalist.json",
    "stages": {"organ": {"bundle": "organ_pocketnet"}},
    "arms": {
        "good": {"bundle": "tumor_pocketnet", "organ_from": "organ"},
        "off": {"bundle": "tumor_pocketnet", "organ_from": "organ", "overrides": {"seed": 1}},
        "one": {"bundle": "tumor_pocketnet", "configs": ["one_network.json"], "overrides": {"seed": 2}},
    },
    "pictures": 0,
}


class WrittenStudy:
    """A study file that a test may change, and the verb that runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file, self.content = folder, folder / "study.json", json.loads(json.dumps(TWO_STAGE))

    def run(self, *words: str, output: str = "out") -> int:
        self.file.write_text(json.dumps(self.content))
        # a database of MLflow takes longer than everything else; test_tracking.py has it
        tracked = [] if "--tracking_uri" in words else ["--tracking_uri", "none"]
        return main(["study", str(self.file), "--output", str(self.folder / output), *words, *tracked])

    def tables(self, output: str = "out") -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in sorted((self.folder / output / "tables").iterdir())}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study_data")
    cohort(folder / "plain", "a", 7, 0, 3, 0)
    cohort(folder / "data", "a", 7, 2, 3, 0)
    cohort(folder / "ext", "b", 0, 2, 3, 1)
    return folder


@pytest.fixture
def written(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> WrittenStudy:
    """Box plots, which take longer than everything else, are tests of their own."""

    def no_plots(tables, file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"png")

    monkeypatch.setattr(pictures, "box_plots", no_plots)
    for name in ("plain", "data", "ext"):
        (tmp_path / name).symlink_to(data / name)
    return WrittenStudy(tmp_path)


@pytest.fixture
def make_cohort() -> Any:
    """`cohort`, for tests that need another one."""
    return cohort
