"""What cross-validation refuses, each in one sentence and before anything is computed."""

from pathlib import Path

import pytest

from custom_networks import CaseError
from scripts.experiments.training.bundle_run import bundle_command
from scripts.experiments.training.crossval import crossval

BUNDLES = Path(__file__).resolve().parents[4] / "bundles"
TRAIN = ["configs/train.json"]


def test_a_misspelt_override_is_refused(organ):
    with pytest.raises(CaseError, match=r"--lerning_rate overrides nothing in .*did you mean --learning_rate"):
        bundle_command(Path(organ), TRAIN, {"lerning_rate": 1e-3})
    with pytest.raises(CaseError, match=r"absent\.json does not exist"):
        bundle_command(Path(organ), ["configs/absent.json"], {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overrides": {"epoch": 1}}, "--epoch overrides nothing"),
        ({"configs": "smal.json"}, r"smal\.json is neither in"),
        ({"configs": "/nowhere/plan.json"}, r"/nowhere/plan\.json is neither in"),
        ({"folds": [5]}, r"fold 5: it has no cases \(folds present: 0, 1\)"),
        ({"checkpoint": "last"}, "'last' is none; pass one of final, best"),
        ({"organ_runs": "nowhere"}, "the file does not exist"),
    ],
)
def test_options(datalist, tmp_path, organ, runs, options, message):
    with pytest.raises(CaseError, match=message):
        crossval(organ, str(datalist), str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()


def _same_stem(content):
    for case in content["training"]:
        case["image"] = f"{case['patient']}/t2.nii.gz"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["training"][3].pop("fold"), "case 3: it has no fold"),
        (lambda content: content["training"][3].update(case="case 2"), "case 2: two cases of"),
        (lambda content: content["training"][6].update(fold=1), "patient p0 is in training and in validation"),
        (lambda content: content["training"][3].pop("patient"), "names no patient"),
        (_same_stem, "would have one name for their predictions"),
    ],
)
def test_datalists(datalist, tmp_path, organ, runs, edit, change, message):
    edit(change)
    with pytest.raises(CaseError, match=message):
        crossval(organ, str(datalist), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_folders(datalist, tmp_path, organ, runs):
    with pytest.raises(CaseError, match=r"has no configs/train\.json"):
        crossval(str(tmp_path), str(datalist), str(tmp_path / "out"))
    # its datalist.json would be overwritten
    with pytest.raises(CaseError, match="it is the folder of the datalist"):
        crossval(organ, str(datalist), str(datalist.parent))
    assert not runs.calls


def test_a_start_from_scratch_is_asked_for(datalist, tmp_path, runs):
    """The bundle alone would warn, and five folds later the arm with pretraining would be the one without."""
    bundle = str(BUNDLES / "gynbtnet_brachytherapy")
    for options in ({}, {"configs": "small.json"}, {"overrides": {"epochs": 1}}):
        with pytest.raises(CaseError, match=r"none are named; pass --overrides pretrained=PATH, or .*pretrained=none"):
            crossval(bundle, str(datalist), str(tmp_path / "out"), **options)
    with pytest.raises(CaseError, match=r"weights .*absent\.pt: the file does not exist"):
        crossval(bundle, str(datalist), str(tmp_path / "out"), overrides={"pretrained": "absent.pt"})
    assert not runs.calls
