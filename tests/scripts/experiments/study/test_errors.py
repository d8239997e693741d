"""What `study` refuses, in one sentence."""

from __future__ import annotations

import json

import pytest


def cut(*keys):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def put(value, *keys):
    def change(content):
        for key in keys[:-1]:
            content = content.setdefault(key, {})
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(1, "armz"), "the file has an unknown key 'armz'; did you mean 'arms'."),
        (put("x", "arms", "good", "bundel"), "arms / good has an unknown key 'bundel'; did you mean 'bundle'."),
        (cut("arms"), "'arms' is a required property"),
        (put([1.5], "folds"), "folds / 0: 1.5 is not of type 'integer'"),
        (put("organs", "arms", "good", "organ_from"), "names 'organs', which is not there; did you mean 'organ'."),
        (
            put([["good", "bad"]], "comparisons"),
            "comparisons names 'bad', which is not there; there are good, off, one.",
        ),
        (put([["good", "good"]], "comparisons"), "comparisons name 'good' twice in one pair"),
        (put({"set": "elsewhere"}, "primary"), "primary names 'elsewhere', which is not there"),
        (
            put({"class": "tumour"}, "primary"),
            "primary names the class 'tumour', which is not there; did you mean 'tumor'.",
        ),
        (put({"measure": "auc"}, "primary"), "primary / measure: 'auc' is not one of ['dsc'"),
        (put("nothing", "arms", "good", "bundle"), "'nothing' is no bundle; name one of this repository's"),
        (put(["nothing.json"], "arms", "good", "configs"), "nothing.json is neither in"),
        (put({"epoch": 1}, "arms", "good", "overrides"), "--epoch overrides nothing in"),
        (put("nowhere.json", "datalist"), "nowhere.json: the file does not exist"),
        (put([0, 7], "folds"), "fold 7: it has no cases (folds present: 0, 1, 2); correct the study's folds."),
        (put({"bundle": "organ_pocketnet"}, "stages", "good"), "'good' is a stage and an arm"),
        (put({"layout": "two_arms"}, "tables", "t"), "has the layout two_arms and not two arms"),
        (put(0, "stages", "organ", "fold"), "organ_from of 'good' names a single training, not all folds"),
        (put({"datalist": "data/datalist.json"}, "external", "again"), "which is held out and trained on"),
    ],
)
def test_files(written, bundles, capsys, change, said) -> None:
    change(written.content)
    if said.startswith("which is held out"):
        written.content["external"]["again"]["section"] = "training"
        said = "of the external set again is a0, which is trained on"
    assert written.run() == 2
    text = capsys.readouterr().err
    assert said in text
    assert text.count("\n") == 1
    assert bundles.calls == []
    assert not (written.folder / "out").exists()


def test_a_circle_of_stages(written, bundles, capsys) -> None:
    fine = {"bundle": "gynbtnet_finetune", "fold": 0}
    written.content["stages"] |= {"a": {**fine, "pretrained_from": "b"}, "b": {**fine, "pretrained_from": "a"}}
    assert written.run() == 2
    assert "stage a starts from itself" in capsys.readouterr().err


def test_changed_settings_and_data_are_refused_and_retrained_when_told(written, bundles, capsys) -> None:
    assert written.run() == 0
    bundles.calls.clear()
    written.content["arms"]["off"]["overrides"]["seed"] = 3
    assert written.run() == 2
    assert "setting seed was 1, is 3" in capsys.readouterr().err
    assert bundles.calls == []
    assert written.run("--retrain") == 0
    assert {call[0] for call in bundles.calls} == {"off", "evaluate"}
    # of the new weights alone
    assert "0.625" in (written.folder / "out/tables/out_of_fold_summary.csv").read_text()


def test_a_patient_held_out_and_trained_on(written, bundles, capsys, make_cohort) -> None:
    file = make_cohort(written.folder / "leak", "c", 4, 1, 2, 3)
    content = json.loads(file.read_text())
    content["testing"][0]["patient"] = "cp2"
    file.write_text(json.dumps(content))
    written.content |= {"datalist": "leak/datalist.json"}
    assert written.run() == 2
    assert "its patient cp2 is held out and trained on" in capsys.readouterr().err


def test_a_stage_that_saw_what_is_held_out(written, bundles, capsys, make_cohort) -> None:
    """By its patient, and an external case by its image."""
    file = make_cohort(written.folder / "first", "f", 4, 0, 2, 5)
    content, first = json.loads(file.read_text()), file.read_text()
    content["training"][0]["patient"] = "ap8"
    file.write_text(json.dumps(content))
    written.content["stages"]["pre"] = {
        "bundle": "gynbtnet_finetune",
        "configs": ["no_pretraining.json"],
        "datalist": "first/datalist.json",
        "fold": 0,
    }
    written.content |= {"datalist": "data/datalist.json", "external": {"else": {"datalist": "ext/datalist.json"}}}
    assert written.run() == 2
    assert "its patient ap8 is held out and trained on" in capsys.readouterr().err
    file.write_text(first)
    image = file.parent / content["training"][1]["image"]
    image.write_bytes((written.folder / "ext/images/b1.nii.gz").read_bytes())
    assert written.run() == 2
    assert "b1: of the external set else is f1, which is trained on" in capsys.readouterr().err
    assert bundles.calls == []


def test_the_folder_of_the_data_is_no_output(written, capsys) -> None:
    assert written.run(output="plain") == 2
    assert "it is the folder of the datalist or the bundle" in capsys.readouterr().err
