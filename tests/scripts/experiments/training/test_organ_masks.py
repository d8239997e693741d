import json

import pytest

from custom_networks import CaseError, read_datalist
from scripts.core.datalist import Datalist
from scripts.experiments.training import organ_masks as module
from scripts.experiments.training.crossval import crossval
from scripts.experiments.training.organ_masks import check_makers, choose_patients, organ_masks


def test_some_out_of_fold_the_others_by_all_folds(datalist, tmp_path, organ, runs, value_of, capsys):
    out = tmp_path / "out"
    organ_masks(
        organ, str(datalist), str(out), patients="p0,p1", configs="small.json", overrides={"spacing": [2, 2, 4]}
    )
    before, after = read_datalist(datalist), read_datalist(out / "datalist.json")
    assert [case["case"] for case in after] == [case["case"] for case in before]
    assert [case["fold"] for case in after] == [case["fold"] for case in before]
    for case in after:
        # 20 + 0 + 1: both folds together
        expected = case["fold"] if case["patient"] in {"p0", "p1"} else 21
        assert value_of(case["organ"]) == expected, case["case"]
    assert runs.trained == [0, 1]
    # stage 1 never learned from the others
    for _, more in runs.calls[:4]:
        assert {case["patient"] for case in read_datalist(more["datalist"])} == {"p0", "p1"}
    configs, more = runs.calls[-1]
    assert configs == ["configs/inference.json", "configs/small.json", "configs/ensemble.json"]
    assert more["spacing"] == [2, 2, 4]
    assert "4 out-of-fold, 4 by all 2 folds, none by a network that saw its patient" in capsys.readouterr().out
    # all that stage 2 wants
    runs.calls.clear()
    tumor = organ.replace("organ_", "tumor_")
    crossval(tumor, str(out / "datalist.json"), str(tmp_path / "t"), organ_runs=str(out))
    assert runs.trained == [0, 1]


def test_a_mask_by_a_network_that_saw_its_patient_is_refused(datalist, tmp_path, organ, runs, monkeypatch):
    organ_masks(organ, str(datalist), str(tmp_path / "out"), patients="p0,p1")
    content = Datalist.read(datalist)
    cases = {case.name: case.entry() for case in content.training}
    folds = module.prepare_folds(organ, content, datalist, tmp_path / "out")
    # by the folds as they are now
    with pytest.raises(CaseError, match="case 1: fold 0 was trained on its patient p1"):
        check_makers(cases, {"case 1": folds[:1]}, "final")
    check_makers(cases, {"case 0": folds[:1], "case 1": folds[1:]}, "final")
    # and by what was written beside the weights when they were trained
    folds[1] = module.replace(folds[1], training=[])
    with pytest.raises(CaseError, match="they were trained on 1 of the 1 cases"):
        check_makers(cases, {"case 0": folds[1:]}, "final")


def test_who_trains_stage_one(datalist, tmp_path):
    cases = Datalist.read(datalist).training
    file = tmp_path / "patients.txt"
    file.write_text("p1\n\np2\n")
    assert choose_patients(cases, str(file), None, 0) == choose_patients(cases, "p1, p2", None, 0) == {"p1", "p2"}
    assert choose_patients(cases, ("p1", "p2"), None, 0) == {"p1", "p2"}
    for seed in range(5):
        drawn = choose_patients(cases, None, 4, seed)
        # two of each fold: patients of even number are in fold 0
        assert sorted(int(patient[1]) % 2 for patient in drawn) == [0, 0, 1, 1]
    assert len({frozenset(choose_patients(cases, None, 4, seed)) for seed in range(5)}) > 1
    for wrong, message in (
        ({"patients": "p9", "count": None}, "patient p9: no training case"),
        ({"patients": None, "count": None}, "either --patients or --count"),
        ({"patients": "p1", "count": 1}, "either --patients or --count"),
        ({"patients": None, "count": 7}, "7 of 6 patients"),
    ):
        with pytest.raises(CaseError, match=message):
            choose_patients(cases, wrong["patients"], wrong["count"], 0)


def test_what_is_refused_before_training(datalist, tmp_path, organ, tumor, runs, edit):
    out = str(tmp_path / "out")
    with pytest.raises(CaseError, match="does not predict the organ alone"):
        organ_masks(tumor, str(datalist), out, patients="p0")
    with pytest.raises(CaseError, match="fold 1: none of its patients would train stage 1"):
        organ_masks(organ, str(datalist), out, patients="p0,p2")
    with pytest.raises(CaseError, match="folder of the datalist"):
        organ_masks(organ, str(datalist), str(datalist.parent), count=2)
    edit(lambda content: content["training"][5].pop("fold"))
    with pytest.raises(CaseError, match="case 5: it has no fold"):
        organ_masks(organ, str(datalist), out, patients="p0,p1")
    assert not runs.calls
    assert "organ" not in json.loads(datalist.read_text())["training"][0]
