"""A training's folder is bound to its cases, settings and code; `finished` is what ended, and is whole."""

import json
from pathlib import Path

import pytest
import torch

from custom_networks import CaseError
from scripts.experiments.training import fold as module
from scripts.experiments.training import inputs as inputs_module
from scripts.experiments.training.crossval import crossval
from scripts.experiments.training.fold import ENTROPY, RECORD

BUNDLES = Path(__file__).resolve().parents[4] / "bundles"


@pytest.fixture
def train(datalist, tmp_path, organ, runs):
    """Run fold 0 of the organ bundle, with more options where they are given."""

    def run(**more):
        crossval(organ, str(datalist), str(tmp_path / "out"), folds=[0], **more)
        return tmp_path / "out/fold0"

    return run


def test_finished_is_written_after_the_training(train, runs, tmp_path):
    runs.killed_at = 0
    with pytest.raises(KeyboardInterrupt):
        train()
    record = json.loads((tmp_path / "out/fold0" / RECORD).read_text())
    assert "weights" not in record
    runs.killed_at = None
    assert set(json.loads((train() / RECORD).read_text())["weights"]) == {"final.pt", "model.pt"}


def test_a_training_without_its_end_is_not_finished(train, monkeypatch, runs):
    monkeypatch.setattr(module, "run_bundle", lambda *_args, **_more: None)
    with pytest.raises(CaseError, match=r"it ended without final\.pt"):
        train()
    monkeypatch.setattr(module, "run_bundle", runs)
    train()
    assert runs.trained == [0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overrides": {"learning_rate": 0.5}}, r"\(setting learning_rate was 0\.0001, is 0\.5\);"),
        ({"configs": "small.json"}, "\\(setting .* was .*, is "),
    ],
)
def test_other_settings_are_refused_or_trained_anew(train, runs, change, message):
    train()
    with pytest.raises(CaseError, match=f"fold0: it was made from other inputs {message}.*--retrain True"):
        train(**change)
    assert runs.trained == [0]
    train(**change, retrain=True)
    assert runs.trained == [0, 0]
    train(**change)
    assert runs.trained == [0, 0]


def test_another_split_is_refused(train, runs, edit):
    train()
    edit(lambda content: content["training"][0].update(fold=1) or content["training"][6].update(fold=1))
    with pytest.raises(CaseError, match="case case 0 is other than it was; case case 6 is other than it was"):
        train()


def test_an_edited_label_is_refused(train, runs, datalist):
    train()
    label = datalist.parent / "labels/p.1.nii.gz"
    label.write_bytes((datalist.parent / "labels/p.2.nii.gz").read_bytes())
    with pytest.raises(CaseError, match="case case 1 is other than it was"):
        train()


def test_an_unfinished_training_is_bound_too(train, runs):
    runs.killed_at = 0
    with pytest.raises(KeyboardInterrupt):
        train()
    with pytest.raises(CaseError, match="setting seed was 0, is 1"):
        train(overrides={"seed": 1})


def test_other_code_is_refused_or_taken_over_as_said(train, runs, monkeypatch, capsys):
    train()
    monkeypatch.setattr(inputs_module.importlib.metadata, "version", lambda name: "9.9")
    with pytest.raises(CaseError, match="code torch is other than it was"):
        train()
    train(other_code=True)
    assert runs.trained == [0]
    assert "made by other code (code torch is other than it was; code monai is" in capsys.readouterr().out


@pytest.mark.parametrize("harm", ["half", "gone", "other"])
def test_damaged_weights_are_no_finished_training(train, runs, harm):
    file = train() / "final.pt"
    if harm == "half":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif harm == "gone":
        file.unlink()
    else:
        torch.save({"fold": torch.tensor(7)}, file)
    with pytest.raises(CaseError, match=r"its finished final\.pt is (gone|another or damaged)"):
        train()
    train(retrain=True)
    assert runs.trained == [0, 0]


def test_half_weights_do_not_end_a_training(train, monkeypatch, runs):
    def half(*args, **more):
        runs(*args, **more)
        file = args[2]["ckpt_dir"] + "/final.pt"
        with open(file, "r+b") as stream:
            stream.truncate(100)

    monkeypatch.setattr(module, "run_bundle", half)
    with pytest.raises(CaseError, match=r"final\.pt: it is damaged"):
        train()


def test_a_training_of_unknown_origin_is_not_taken_over(train, runs, tmp_path):
    (tmp_path / "out/fold0").mkdir(parents=True)
    (tmp_path / "out/fold0/resume.pt").touch()
    with pytest.raises(CaseError, match=r"it holds resume\.pt of a training that nothing is known of"):
        train()
    assert not runs.calls


def test_new_weights_are_predicted_with_again(train, runs):
    train()
    train(overrides={"seed": 1}, retrain=True)
    assert [("configs/evaluate.json" in configs) for configs, _ in runs.calls] == [False, True] * 2


def test_a_run_that_leaves_a_prediction_out_is_said(train, runs, monkeypatch):
    monkeypatch.setattr(runs, "predict", lambda cases, place, value: None)
    with pytest.raises(CaseError, match=r"the run left no .*p\.0_pred\.nii\.gz"):
        train()


@pytest.mark.parametrize("name", ["organ_pocketnet", "tumor_pocketnet", "gynbtnet_finetune", "gynbtnet_brachytherapy"])
def test_the_entropy_is_noted_beside_what_a_bundle_evaluates(name: str) -> None:
    from monai.bundle import ConfigParser

    configs = BUNDLES / name / "configs"
    files = [configs / "train.json", configs / "evaluate.json"]
    before, after = (ConfigParser.load_config_files(list(map(str, some))) for some in (files, [*files, ENTROPY]))
    handlers = after["validate"].pop("handlers")
    assert handlers[:-1] == before["validate"].pop("handlers")
    assert handlers[-1]["_target_"] == "custom_networks.EntropyHandler"
    assert after == before
