import json
from pathlib import Path

import pytest
import torch

from custom_networks import CaseError, read_datalist
from scripts.core.files import sha256
from scripts.core.predictions import made_by
from scripts.experiments.training.crossval import crossval, is_organ_stage
from scripts.experiments.training.fold import ENTROPY

BUNDLES = Path(__file__).resolve().parents[4] / "bundles"


def test_every_case_is_predicted_by_the_fold_that_has_not_seen_it(datalist, tmp_path, organ, runs, value_of, capsys):
    out = tmp_path / "out"
    crossval(organ, str(datalist), str(out), configs="small.json", overrides={"epochs": 1})
    cases = read_datalist(out / "datalist.json")
    assert len(cases) == 8
    for case in cases:
        assert value_of(case["organ"]) == value_of(case["pred"]) == case["fold"]
        assert Path(case["image"]).is_file()
    # what is known of the networks goes with the predictions, by case
    made = made_by(out / "out_of_fold")
    assert made.weights == tuple(sha256(out / f"fold{i}/final.pt") for i in range(2))
    assert (made.networks, len(made.entropy), made.entropy["case 3"]) == (1, 8, {1: (0.25, 3.0)})
    # named after the case, whatever its image is called
    assert (out / "out_of_fold/case%203_pred.nii.gz").is_file()
    assert [c[0] for c in runs.calls[:2]] == [
        ["configs/train.json", "configs/small.json"],
        ["configs/train.json", "configs/small.json", "configs/evaluate.json", str(ENTROPY)],
    ]
    assert "of 8 cases by final.pt, the network of the last epoch" in capsys.readouterr().out
    # a second call trains and predicts nothing again
    runs.calls.clear()
    crossval(organ, str(datalist), str(out), configs="small.json", overrides={"epochs": 1})
    assert not runs.calls


def test_the_best_checkpoint_is_scored_where_that_is_asked_for(datalist, tmp_path, organ, runs, value_of, capsys):
    out = tmp_path / "out"
    crossval(organ, str(datalist), str(out))
    crossval(organ, str(datalist), str(out), checkpoint="best")
    assert {value_of(case["organ"]) for case in read_datalist(out / "datalist.json")} == {100, 101}
    assert runs.trained == [0, 1]
    assert "model.pt, chosen by its score on the very cases it predicts" in capsys.readouterr().out
    # predictions by different checkpoints are not put together
    crossval(organ, str(datalist), str(out), folds=[0])
    assert {value_of(c["organ"]) for c in read_datalist(out / "datalist.json") if "organ" in c} == {0}
    assert "fold 1 is not predicted by final.pt" in capsys.readouterr().out


def test_folds_may_be_run_one_by_one(datalist, tmp_path, organ, runs, value_of):
    out = tmp_path / "out"
    crossval(organ, str(datalist), str(out), folds=[0])
    assert ["organ" in case for case in read_datalist(out / "datalist.json")] == [True, False] * 4
    crossval(organ, str(datalist), str(out), folds=[1])
    assert [value_of(case["organ"]) for case in read_datalist(out / "datalist.json")] == [0, 1] * 4
    assert runs.trained == [0, 1]


def test_a_killed_run_goes_on_where_it_was(datalist, tmp_path, organ, runs):
    out = tmp_path / "out"
    runs.killed_at = 1
    with pytest.raises(KeyboardInterrupt):
        crossval(organ, str(datalist), str(out))
    runs.killed_at = None
    crossval(organ, str(datalist), str(out))
    assert runs.trained == [0, 1, 1]


def test_stage_two_takes_the_organ_network_of_the_same_fold(datalist, tmp_path, organ, tumor, runs):
    crossval(organ, str(datalist), str(tmp_path / "o"))
    runs.calls.clear()
    options = {"folds": [1], "configs": "one_network.json", "organ_runs": str(tmp_path / "o")}
    crossval(tumor, str(tmp_path / "o/datalist.json"), str(tmp_path / "t"), **options)
    assert {c[1]["organ_weights"] for c in runs.calls} == {str(tmp_path / "o/fold1/final.pt")}
    assert runs.calls[1][0][-2:] == ["configs/one_network_evaluate.json", str(ENTROPY)]
    # masks of stage 1 stay what stage 2 was trained on; its own predictions are no organ masks
    assert all("/o/" in case["organ"] for case in read_datalist(tmp_path / "t/datalist.json"))


def test_an_organ_network_that_saw_the_fold_is_refused_before_training(datalist, tmp_path, organ, tumor, runs, edit):
    crossval(organ, str(datalist), str(tmp_path / "o"))

    def other_folds(content):
        for case in content["training"]:
            case["fold"] = int(case["patient"] in {"p0", "p1"})

    edit(other_folds)
    runs.calls.clear()
    with pytest.raises(CaseError, match="they were trained on"):
        crossval(tumor, str(datalist), str(tmp_path / "t"), organ_runs=str(tmp_path / "o"))
    assert not runs.calls


def test_a_plan_elsewhere_is_named_by_its_absolute_path(datalist, tmp_path, organ, runs):
    plan = tmp_path / "plan.json"
    plan.write_text('{"spacing": [1, 1, 3]}')
    crossval(organ, str(datalist), str(tmp_path / "out"), configs=str(plan), folds=[0])
    assert runs.calls[0][0] == ["configs/train.json", str(plan)]


def test_what_the_organ_stage_is(organ, tumor):
    assert is_organ_stage(Path(organ))
    assert not is_organ_stage(Path(tumor))
    assert json.loads((Path(tumor) / "configs/metadata.json").read_text())


def test_a_stage_starts_from_the_weights_that_are_named(datalist, tmp_path, runs, monkeypatch):
    bundle, out = str(BUNDLES / "gynbtnet_brachytherapy"), tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.zeros(1)}, "stage2.pt")
    # relative to where the user is, though the bundle runs in its own folder
    crossval(bundle, str(datalist), str(out), folds=[0], overrides={"pretrained": "stage2.pt"})
    assert runs.calls[0][1]["pretrained"] == str(tmp_path / "stage2.pt")
    with pytest.raises(CaseError, match=r"setting pretrained was .*, is null"):
        crossval(bundle, str(datalist), str(out), folds=[0], overrides={"pretrained": "none"})
    for number, asked in enumerate(
        [{"overrides": {"pretrained": "none"}}, {"configs": "no_pretraining.json"}, {"configs": "unet.json"}]
    ):
        crossval(bundle, str(datalist), str(tmp_path / f"scratch{number}"), folds=[0], **asked)
        assert runs.calls[-2][1].get("pretrained") is None
