"""What `three_stages` and `pretraining_gain` compute, on data whose answer is known; the real runs are slow tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from custom_networks import CaseError, read_datalist
from custom_networks.networks.sparse import random_cells, upsample_cells
from scripts.experiments.evidence.ct_samples import (
    openkbp_parts,
    samples_folder,
    write_brachytherapy,
    write_finetuning,
    write_pretraining,
)
from scripts.experiments.evidence.pretraining_gain import as_markdown, gain_table, read_scores
from scripts.experiments.evidence.reconstruction import reconstruction_error
from scripts.experiments.evidence.three_stages import BRACHY, Size, three_stages, train_stage
from scripts.experiments.training import fold

SAMPLES = Path(os.environ.get("GYN_SAMPLES", Path(__file__).resolve().parents[5] / "shared" / "samples"))
NAMES = ("PTV70", "Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Mandible")


@pytest.fixture
def openkbp(tmp_path: Path) -> Path:
    """Twelve cases in the samples' layout, every third without a mandible."""
    folder, cases = tmp_path / "samples" / "openkbp", []
    for i in range(12):
        label = np.zeros((8, 8, 8), np.uint8)
        label.flat[: 7 - (i % 3 == 0)] = np.arange(7 - (i % 3 == 0))
        for kind, voxels in (("images", label.astype(np.int16) * 100), ("labels", label)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, np.diag([4.0, 4.0, 3.0, 1.0])), folder / kind / f"pt_{i:03}.nii.gz")
        cases.append({"case": f"pt_{i:03}", "present": list(NAMES[: 6 - (i % 3 == 0)])})
    labels = {"0": "background"} | {str(i + 1): name for i, name in enumerate(NAMES)}
    (folder / "index.json").write_text(json.dumps({"name": "t", "labels": labels, "cases": cases}))
    return tmp_path / "samples"


def test_parts_are_apart_and_complete(openkbp: Path) -> None:
    train, test, rest = openkbp_parts(openkbp, 3, 4, seed=0)
    assert (len(train), len(test), len(rest)) == (3, 4, 5)
    assert len({*train, *test, *rest}) == 12
    # every third case lacks a structure and is left to pretraining
    assert {f"pt_{i:03}" for i in range(0, 12, 3)} <= set(rest)
    assert openkbp_parts(openkbp, 3, 4, seed=1)[1] != test
    with pytest.raises(CaseError, match="8 complete cases, 9 wanted"):
        openkbp_parts(openkbp, 5, 4, seed=0)


def test_datalists_refer_to_the_samples(openkbp: Path, tmp_path: Path) -> None:
    train, test, rest = openkbp_parts(openkbp, 3, 4, seed=0)
    brachy = write_brachytherapy(openkbp, train, test, tmp_path / "stage3")
    cases = read_datalist(brachy) + read_datalist(brachy, section="testing")
    assert [case["case"] for case in cases] == [*train, *test]
    for case in cases:
        image, label = (np.asarray(nib.load(case[key]).dataobj) for key in ("image", "label"))
        assert str(openkbp) in case["image"]
        # both parotids (400 and 500 here) are class 4, the mandible 5
        assert label[image == 500].tolist() == label[image == 400].tolist() == [4]
        assert label[image == 600].tolist() == [5]
        assert set(np.unique(label)) == {0, 1, 2, 3, 4, 5}
    unlabelled = read_datalist(write_pretraining(openkbp, [*train, *rest], tmp_path / "stage1"))
    assert not any("label" in case for case in unlabelled)
    assert not {case["case"] for case in unlabelled} & set(test)
    assert {case["fold"] for case in unlabelled} == {0, 1}


def test_stage_two_has_104_names(tmp_path: Path) -> None:
    content = json.loads(write_finetuning(SAMPLES, tmp_path).read_text())
    assert len(content["labels"]) == 105
    known = SAMPLES / "cases" / "ct_abdpelvis_totalseg" / "class_map_104.json"
    if not known.is_file():
        pytest.skip("no GYN_SAMPLES")
    assert {k: v for k, v in content["labels"].items() if k != "0"} == json.loads(known.read_text())


def test_missing_samples_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="GYN_SAMPLES"):
        samples_folder(str(tmp_path))


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_override_exists(stage: int) -> None:
    name = ("pretrain", "finetune", "brachytherapy")[stage - 1]
    bundle = Path(__file__).resolve().parents[4] / "bundles" / f"gynbtnet_{name}"
    train = json.loads((bundle / "configs" / "train.json").read_text())
    for key in Size().overrides(stage):
        inner = train
        for part in key.split("#"):
            assert part in inner, key
            inner = inner[part]


def test_reconstruction_error_in_units_of_the_cells() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 1, 32, 32, 32) * 3 + 5
    active = random_cells(1, [2, 2, 2], 0.5)
    visible = upsample_cells(active, [32, 32, 32])
    assert reconstruction_error(image, image, active)[0] == 0
    cells = image.reshape(1, 1, 2, 16, 2, 16, 2, 16)
    mean = cells.mean((3, 5, 7), keepdim=True).expand_as(cells).reshape_as(image)
    error, baseline, hidden = reconstruction_error(image, torch.where(visible, image, mean), active)
    assert hidden == 4
    assert error == pytest.approx(baseline, rel=1e-4)
    assert baseline / hidden == pytest.approx(1, rel=1e-3)
    # what was visible does not count
    wrong = torch.where(visible, image + 100, image)
    assert reconstruction_error(image, wrong, active)[0] == 0


def scores(gain: float, seeds: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for case in range(30):
        for structure, level in (("PTV70", 0.5), ("Brainstem", 0.7)):
            base = level + rng.normal(0, 0.05)
            for seed in range(seeds):
                for arm in ("no pretraining", "pretrained"):
                    noise = rng.normal(0, 0.01)
                    dsc = base + noise + (gain if arm == "pretrained" else 0)
                    rows.append({"seed": seed, "arm": arm, "case": f"c{case}", "structure": structure, "dsc": dsc})
    return pd.DataFrame(rows)


def test_gain_is_found_where_there_is_one() -> None:
    table = gain_table(scores(0.05)).set_index("structure")
    assert list(table.index) == ["PTV70", "Brainstem", "mean of structures"]
    assert np.allclose(table["gain"], 0.05, atol=0.01)
    assert (table["p"] < 0.001).all()
    assert table.loc["mean of structures", "gain"] == pytest.approx(table.loc[["PTV70", "Brainstem"], "gain"].mean())
    assert (table["cases"] == 30).all()
    assert table.loc["PTV70", "pretrained_sd_cases"] == pytest.approx(0.05, abs=0.02)
    # seeds whose other arm is missing do not count
    half = pd.concat([scores(0.05), scores(0.9, 1).assign(seed=7).query("arm == 'pretrained'")])
    pd.testing.assert_frame_equal(gain_table(half).set_index("structure"), table)
    none = gain_table(scores(0.0)).set_index("structure")
    assert (none["p"] > 0.01).all()
    assert "| PTV70 | 0." in as_markdown(gain_table(scores(0.05)))


def test_scores_of_an_evaluation(tmp_path: Path) -> None:
    file = tmp_path / "val_dice_raw.csv"
    file.write_text(
        "filename,class0,class1,class2,class3,class4,mean\n/x/pt_001.nii.gz,0.1,0.2,0.3,0.4,0.5,0.3\n/x/pt_002.nii.gz,0.6,nan,0.8,0.9,1,0.8\n"
    )
    table = read_scores(file).set_index(["case", "structure"])["dsc"]
    assert table["pt_001", "PTV70"] == 0.1
    assert table["pt_001", "Mandible"] == 0.5
    assert np.isnan(table["pt_002", "Brainstem"])
    assert len(table) == 10


class Trainings:
    """Called instead of `run_bundle`: counts, and leaves weights."""

    def __init__(self) -> None:
        self.folders: list[str] = []

    def __call__(self, bundle: Path, configs: list[str], overrides: dict, *_args: object, **_more: object) -> None:
        self.folders.append(Path(overrides["ckpt_dir"]).name)
        torch.save({"x": torch.zeros(9)}, Path(overrides["ckpt_dir"]) / "final.pt")


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(fold, "run_bundle", made)
    return made


def test_a_stage_from_other_patients_is_not_taken_over(openkbp: Path, tmp_path: Path, trainings: Trainings) -> None:
    train, test, _ = openkbp_parts(openkbp, 5, 3, seed=0)
    values = Size().overrides(3) | {"pretrained": None}
    five = write_brachytherapy(openkbp, train, test, tmp_path / "five")
    first = train_stage(BRACHY, five, tmp_path / "stage3", values)
    assert train_stage(BRACHY, five, tmp_path / "stage3", values) == first == tmp_path / "stage3/final.pt"
    assert len(trainings.folders) == 1
    three = write_brachytherapy(openkbp, train[:3], [*train[3:], *test], tmp_path / "three")
    with pytest.raises(CaseError, match=rf"case {train[3]} is gone"):
        train_stage(BRACHY, three, tmp_path / "stage3", values)
    train_stage(BRACHY, three, tmp_path / "stage3", values, retrain=True)
    assert len(trainings.folders) == 2


def test_a_stage_from_other_weights_or_steps_is_not_taken_over(
    openkbp: Path, tmp_path: Path, trainings: Trainings
) -> None:
    datalist = write_brachytherapy(openkbp, *openkbp_parts(openkbp, 3, 3, seed=0)[:2], tmp_path / "data")
    weights = tmp_path / "previous.pt"
    torch.save({"x": torch.zeros(9)}, weights)
    values = Size().overrides(3) | {"pretrained": str(weights)}
    train_stage(BRACHY, datalist, tmp_path / "stage3", values)
    torch.save({"x": torch.ones(9)}, weights)
    with pytest.raises(CaseError, match="setting pretrained was"):
        train_stage(BRACHY, datalist, tmp_path / "stage3", values)
    torch.save({"x": torch.zeros(9)}, weights)
    with pytest.raises(CaseError, match="setting iterations was 30, is 31"):
        train_stage(BRACHY, datalist, tmp_path / "stage3", values | {"iterations": 31})


def test_half_a_file_of_weights_is_no_finished_stage(openkbp: Path, tmp_path: Path, trainings: Trainings) -> None:
    datalist = write_brachytherapy(openkbp, *openkbp_parts(openkbp, 3, 3, seed=0)[:2], tmp_path / "data")
    values = Size().overrides(3) | {"pretrained": None}
    weights = train_stage(BRACHY, datalist, tmp_path / "stage3", values)
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CaseError, match=r"its finished final\.pt is another or damaged"):
        train_stage(BRACHY, datalist, tmp_path / "stage3", values)


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no GYN_SAMPLES")
def test_three_stages_on_real_images(tmp_path: Path) -> None:
    assert three_stages(str(tmp_path), str(SAMPLES), train=4, test=2, scale=0.25) == 0
    assert len(list((tmp_path / "stage1" / "pictures").glob("*.png"))) == 4
    for stage in (2, 3):
        assert (tmp_path / f"stage{stage}" / "evaluation" / "summary.csv").is_file()
