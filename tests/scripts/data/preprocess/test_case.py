from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.core.datalist import Case
from scripts.data.preprocess.case import JOURNAL, Job, cases_folder, kept, load_config, lost, process, recipe

TRANSFORMS = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "ScaleIntensityd", "keys": "image", "factor": 1.0, "minv": None, "maxv": None},
    {"_target_": "RandFlipd", "keys": "image", "prob": 1.0},
]


def job(folder: Path, transforms: list[dict] = TRANSFORMS) -> Job:
    config = {"train": {"preprocessing": {"_target_": "Compose", "transforms": transforms}}}
    return Job("b", json.dumps(config), str(folder), "float32")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "i.nii.gz")
    return Case("c", {"image": "i.nii.gz"}, "p", folder=tmp_path)


def test_once_and_then_kept(case: Case, tmp_path: Path) -> None:
    work = job(tmp_path / "out")
    assert len(recipe(work).transforms) == 3  # what is random is left to training
    assert kept(work, case) is None
    first, second = process(work, case), process(work, case)
    assert (first.status, second.status) == ("done", "kept")
    assert first.keys == second.keys == ("image",)
    assert kept(work, case) is not None
    lines = (tmp_path / "out" / JOURNAL).read_text().splitlines()
    assert [json.loads(line)["case"] for line in lines] == ["c"]
    assert cases_folder(work).is_dir()
    # other transforms have a folder of their own
    other = job(tmp_path / "out", TRANSFORMS[:2])
    assert cases_folder(other) != cases_folder(work)
    assert kept(other, case) is None


def test_a_bad_case_is_an_outcome(tmp_path: Path) -> None:
    outcome = process(job(tmp_path / "out"), Case("c", {"image": "none.nii.gz"}, "p", folder=tmp_path))
    assert outcome.status == "quarantined"
    assert "none.nii.gz" in outcome.reason
    assert lost(Case("c", {"image": "i"}, "p"), "it died").reason == "it died"


def test_bad_configurations(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"x": 1, "y": 1}')
    (tmp_path / "b.json").write_text('{"y": 2}')
    assert load_config([tmp_path / "a.json", tmp_path / "b.json"]) == {"x": 1, "y": 2}
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(CaseError, match=r"b\.json: it cannot be read"):
        load_config([tmp_path / "a.json", tmp_path / "b.json"])
    with pytest.raises(CaseError, match="bundle b: its train#preprocessing cannot be built"):
        recipe(job(tmp_path, [{"_target_": "NoSuchTransform"}]))
    with pytest.raises(CaseError, match="no deterministic transform"):
        recipe(job(tmp_path, TRANSFORMS[3:]))
