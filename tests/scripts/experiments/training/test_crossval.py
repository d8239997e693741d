import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.experiments.training import crossval as module
from scripts.experiments.training.crossval import crossval

ORGAN = str(Path(__file__).resolve().parents[4] / "bundles/organ_pocketnet")


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    cases = []
    for i in range(4):
        path = tmp_path / f"images/p.{i}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(np.full((4, 4, 4), i, np.int16), np.eye(4)), path)
        cases.append(
            {"case": f"case{i}", "patient": f"p{i}", "image": f"images/p.{i}.nii.gz", "label": "l", "fold": i % 2}
        )
    file = tmp_path / "datalist.json"
    file.write_text(json.dumps({"labels": {}, "training": cases}))
    return file


class Runs:
    """Stands in for the processes: writes what the bundle would write, each prediction with its fold in it."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], dict]] = []

    def __call__(self, bundle, configs, overrides, processes=1, log=None):
        self.calls.append((list(configs), dict(overrides)))
        if "configs/evaluate.json" in configs:
            place = Path(overrides["output_dir"]) / "predictions"
            place.mkdir(parents=True, exist_ok=True)
            for case in json.loads(Path(overrides["datalist"]).read_text())["training"]:
                if case["fold"] == overrides["fold"]:
                    name = Path(case["image"]).name.removesuffix(".nii.gz")
                    nib.save(
                        nib.Nifti1Image(np.full((4, 4, 4), overrides["fold"], np.uint8), np.eye(4)),
                        place / f"{name}_pred.nii.gz",
                    )
        else:
            Path(overrides["ckpt_dir"]).mkdir(parents=True, exist_ok=True)


def test_every_case_is_predicted_by_the_fold_that_has_not_seen_it(datalist, tmp_path, monkeypatch):
    runs = Runs()
    monkeypatch.setattr(module, "run_bundle", runs)
    crossval(ORGAN, str(datalist), str(tmp_path / "out"), configs="small.json", overrides={"epochs": 1})
    content = json.loads((tmp_path / "out/datalist.json").read_text())
    for case in content["training"]:
        assert np.unique(nib.load(case["organ"]).dataobj) == [case["fold"]]
        assert (tmp_path / "out" / case["image"]).is_file()
    assert [c[0] for c in runs.calls[:2]] == [
        ["configs/train.json", "configs/small.json"],
        ["configs/train.json", "configs/small.json", "configs/evaluate.json"],
    ]
    # a second call trains nothing again
    runs.calls.clear()
    crossval(ORGAN, str(datalist), str(tmp_path / "out"), configs="small.json")
    assert len(runs.calls) == 2
    assert all("configs/evaluate.json" in c[0] for c in runs.calls)


def test_folds_may_be_run_one_by_one(datalist, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "run_bundle", Runs())
    for fold in (0, 1):
        crossval(ORGAN, str(datalist), str(tmp_path / "out"), folds=fold)
    content = json.loads((tmp_path / "out/datalist.json").read_text())
    assert [np.unique(nib.load(case["organ"]).dataobj).tolist() for case in content["training"]] == [[0], [1], [0], [1]]


def test_images_of_one_name_are_refused(datalist, tmp_path):
    content = json.loads(datalist.read_text())
    for case in content["training"]:
        case["image"] = f"{case['patient']}/t2.nii.gz"
    datalist.write_text(json.dumps(content))
    with pytest.raises(CaseError, match="two images are called t2"):
        crossval(ORGAN, str(datalist), str(tmp_path / "out"))


def test_stage_two_takes_the_organ_network_of_the_same_fold(datalist, tmp_path, monkeypatch):
    runs = Runs()
    monkeypatch.setattr(module, "run_bundle", runs)
    tumor = ORGAN.replace("organ_", "tumor_")
    crossval(
        tumor, str(datalist), str(tmp_path / "out"), folds=1, configs="one_network.json", organ_runs=str(tmp_path / "o")
    )
    assert {c[1]["organ_weights"] for c in runs.calls} == {str(tmp_path / "o/fold1/model.pt")}
    assert runs.calls[1][0][-1] == "configs/one_network_evaluate.json"


def test_what_is_refused(datalist, tmp_path):
    with pytest.raises(CaseError, match="--epoch overrides nothing"):
        crossval(ORGAN, str(datalist), str(tmp_path / "out"), overrides={"epoch": 1})
    with pytest.raises(CaseError, match=r"smal\.json is neither in"):
        crossval(ORGAN, str(datalist), str(tmp_path / "out"), configs="smal.json")
    with pytest.raises(CaseError, match="fold 5: it has no validation cases"):
        crossval(ORGAN, str(datalist), str(tmp_path / "out"), folds=5)
    assert not (tmp_path / "out").exists()
