"""`study`: trainings, sets, comparisons, interruptions and failures, on the path of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from scripts.__main__ import main
from scripts.data.phantom.ct import LABELS
from scripts.experiments.study.definition import SCHEMA


def test_arms_are_trained_scored_compared_and_shown(written, bundles, capsys) -> None:
    written.content |= {
        "datalist": "data/datalist.json",
        "external": {"else": {"datalist": "ext/datalist.json"}},
        "primary": {"measure": "dsc", "class": "tumor", "set": "out_of_fold"},
        "pictures": 1,
    }
    assert written.run() == 0
    out = written.folder / "out"
    trained = [call for call in bundles.calls if call[0] in ("organ", "good", "off", "one")]
    # the organ stage needs nothing and neither does the network in one stage; the two others wait for the organ masks
    assert sorted(trained[:6]) == [(name, i) for name in ("one", "organ") for i in range(3)]
    assert sorted(trained[6:]) == [(name, i) for name in ("good", "off") for i in range(3)]
    assert bundles.calls.count(("ensemble", -1)) == 3 * 2
    for in_set, count in (("out_of_fold", 7), ("testing", 2), ("else", 2)):
        means = {}
        for arm in ("good", "off", "one"):
            table = pd.read_csv(out / "evaluation" / in_set / arm / "cases.csv")
            assert table["case"].nunique() == count
            means[arm] = table[table["class"] == "organ"]["dsc"].mean()
        # a box of 8 voxels moved by 0, 1, 2
        assert means == pytest.approx({"good": 1, "off": 7 / 8, "one": 6 / 8})
    statistics = pd.read_csv(out / "tables/out_of_fold_statistics.csv")
    assert {tuple(pair) for pair in statistics[["model_a", "model_b"]].to_numpy()} == {
        ("good", "off"),
        ("good", "one"),
        ("off", "one"),
    }
    line = statistics[(statistics["class"] == "organ") & (statistics["metric"] == "dsc")].iloc[0]
    assert (line["cases"], line["patients"]) == (7, 6)
    # six patients that all speak for one arm: two of 64 assignments are as extreme
    assert line["p_permutation_by_patient"] == pytest.approx(2 / 64)
    said = (out / "tables/answer.txt").read_text()
    assert (
        "DSC of tumor, out of fold: good against off: 1.000 and 0.750, difference +0.250 on 7 cases of 6 patients"
        in said
    )
    assert said.strip() in capsys.readouterr().out
    page = (out / "report.html").read_text()
    for text in ("two stages", "Which?", "evaluation/else/off/report.html", said.splitlines()[0]):
        assert text in page
    for link in ("evaluation/out_of_fold/good/report.html", "evaluation/testing/one/report.html"):
        assert link in page
        assert (out / link).is_file()


def test_no_organ_mask_and_no_start_saw_what_it_is_for(written, bundles) -> None:
    assert written.run() == 0
    stage = json.loads((written.folder / "out/stages/organ/datalist.json").read_text())
    assert all(case["organ"].endswith(f"{case['case']}_pred.nii.gz") for case in stage["training"])
    record = json.loads((written.folder / "out/arms/good/fold1/training.json").read_text())
    assert "organ_weights" in record["inputs"]["setting"]


def test_killed_anywhere_and_given_again_it_ends_with_the_same_tables(written, bundles) -> None:
    assert written.run(output="whole") == 0
    runs = len(bundles.calls)
    bundles.calls.clear()
    for moment in (1, 9, runs - 1):
        bundles.killed_at = moment
        with pytest.raises(KeyboardInterrupt):
            written.run()
    assert written.run() == 0
    assert written.tables() == written.tables("whole")
    # nothing was done twice
    assert len(bundles.calls) == runs
    bundles.calls.clear()
    assert written.run() == 0
    assert bundles.calls == []


def test_a_failed_training_costs_its_arm_that_fold(written, bundles, capsys) -> None:
    written.content["datalist"] = "data/datalist.json"
    del written.content["arms"]["one"]
    bundles.broken = {("off", 2)}
    assert written.run() == 1
    out = written.folder / "out"
    text = capsys.readouterr().out
    assert "off, fold 2: bundle b: the run ended with status 1 (out of memory); see the log." in text
    assert "off: testing is not predicted, as folds are missing." in text
    table = pd.read_csv(out / "evaluation/out_of_fold/off/cases.csv")
    # cases of the fold are no misses
    assert table["case"].nunique() == 5
    assert not table["missed"].any()
    statistics = pd.read_csv(out / "tables/out_of_fold_statistics.csv")
    assert set(statistics["cases"]) == {5}
    assert not (out / "evaluation/testing/off").exists()
    assert "off, fold 2" in (out / "report.html").read_text()
    bundles.broken.clear()
    assert written.run() == 0
    assert pd.read_csv(out / "evaluation/out_of_fold/off/cases.csv")["case"].nunique() == 7


def test_what_needs_a_failed_stage_is_not_trained(written, bundles, capsys) -> None:
    bundles.broken = {("organ", 0)}
    assert written.run() == 1
    text = capsys.readouterr().out
    assert "good: not trained, as stage organ failed." in text
    assert not {call for call in bundles.calls if call[0] in ("good", "off")}
    assert "good against off: no answer, as an arm has no result there." in text
    assert pd.read_csv(written.folder / "out/evaluation/out_of_fold/one/cases.csv")["case"].nunique() == 7


def test_two_jobs_give_the_tables_of_one(written, bundles) -> None:
    del written.content["arms"]["one"]
    assert written.run(output="one") == 0
    assert written.run("--jobs", "2", output="two") == 0
    assert written.tables("two") == written.tables("one")


def test_folds_and_pairs_are_those_of_the_file(written, bundles) -> None:
    written.content |= {"datalist": "data/datalist.json", "folds": [0, 2], "comparisons": [["one", "good"]]}
    assert written.run() == 0
    # organ masks of all training cases are needed, whatever folds the arms have
    assert {i for name, i in bundles.calls if name == "organ"} == {0, 1, 2}
    assert {i for name, i in bundles.calls if name == "good"} == {0, 2}
    statistics = pd.read_csv(written.folder / "out/tables/out_of_fold_statistics.csv")
    assert {tuple(pair) for pair in statistics[["model_a", "model_b"]].to_numpy()} == {("one", "good")}
    assert "mean softmax of 2 folds" in (written.folder / "out/tables/testing_summary.md").read_text()


def test_a_dry_run_prints_every_command_and_writes_nothing(written, bundles, capsys) -> None:
    written.content |= {"datalist": "data/datalist.json", "external": {"else": {"datalist": "ext/datalist.json"}}}
    assert written.run("--dry_run") == 0
    text = capsys.readouterr().out
    assert not (written.folder / "out").exists()
    assert bundles.calls == []
    # organ 3, arms 9 trainings, as many evaluations; 3 ensembles on 2 sets
    assert text.count("$ cd ") == 2 * 12 + 6
    assert "out/stages/organ/fold1/final.pt" in text
    assert "time: not known without measuring" in text
    line = next(line for line in text.splitlines() if line.startswith("one "))
    # four training cases of fold 0 at batch 2, a thousand epochs
    assert line.split()[:3] == ["one", "3", "3000"]


def test_a_partial_organ_stage_masks_everybody(written, bundles) -> None:
    written.content["stages"]["organ"]["count"] = 3
    assert written.run() == 0
    out = written.folder / "out/stages/organ"
    assert len(json.loads((out / "stage1.json").read_text())["training"]) in (3, 4)
    assert all("organ" in case for case in json.loads((out / "datalist.json").read_text())["training"])
    masks = {file.name: file.stat().st_mtime_ns for file in (out / "masks").iterdir()}
    assert written.run() == 0
    assert masks == {file.name: file.stat().st_mtime_ns for file in (out / "masks").iterdir()}


def test_a_stage_of_another_data_set_is_where_an_arm_starts(written, bundles, make_cohort) -> None:
    make_cohort(written.folder / "first", "f", 4, 0, 2, 5)
    written.content["stages"] = {
        "pre": {"bundle": "gynbtnet_pretrain", "datalist": "first/datalist.json", "fold": 0},
        "fine": {
            "bundle": "gynbtnet_finetune",
            "datalist": "first/datalist.json",
            "fold": 0,
            "pretrained_from": "pre",
        },
    }
    written.content["arms"] = {
        "with": {"bundle": "gynbtnet_brachytherapy", "pretrained_from": "fine"},
        "without": {
            "bundle": "gynbtnet_brachytherapy",
            "configs": ["no_pretraining.json"],
            "overrides": {"seed": 1},
        },
    }
    assert written.run() == 0
    out: Path = written.folder / "out"
    order = [call[0] for call in bundles.calls if call[0] in ("stages", "with", "without")]
    assert order[:2].count("stages") == 1
    assert order.count("stages") == 2
    record = json.loads((out / "arms/with/fold0/training.json").read_text())
    assert record["inputs"]["setting"]["pretrained"]
    assert (out / "stages/fine/final.pt").is_file()


def test_a_start_that_saw_the_fold_it_is_for_is_refused(written, bundles, capsys) -> None:
    # trained on every fold but 0, it saw what the arm's folds 1 and 2 are scored on
    written.content["stages"] = {"fine": {"bundle": "gynbtnet_finetune", "fold": 0, "configs": ["no_pretraining.json"]}}
    written.content["arms"] = {"with": {"bundle": "gynbtnet_brachytherapy", "pretrained_from": "fine"}}
    assert written.run() == 2
    assert "they were trained on" in capsys.readouterr().err
    assert not [name for name, _ in bundles.calls if name == "with"]


def test_arms_with_training_sets_of_their_own_are_compared_on_what_is_held_out(
    written, bundles, capsys, make_cohort
) -> None:
    make_cohort(written.folder / "other", "c", 6, 0, 3, 5)
    written.content |= {"datalist": "data/datalist.json", "stages": {}, "classes": {"organ": [1, 2]}}
    written.content["arms"] = {
        "main": {"bundle": "organ_pocketnet"},
        "own": {"bundle": "organ_pocketnet", "datalist": "other/datalist.json", "overrides": {"seed": 1}},
    }
    assert written.run() == 2
    assert "primary names 'out_of_fold', which is not there" in capsys.readouterr().err
    written.content["primary"] = {"set": "testing"}
    assert written.run("--dry_run") == 0
    assert str(written.folder / "other/datalist.json") in capsys.readouterr().out
    assert written.run() == 0
    assert {file.name for file in (written.folder / "out/evaluation").iterdir()} == {"testing"}
    assert not [name for name, _ in bundles.calls if name == "evaluate"]
    assert "main against own: 1.000 and" in (written.folder / "out/tables/answer.txt").read_text()
    # whoever is held out must be new to every arm
    content = json.loads((written.folder / "other/datalist.json").read_text())
    content["training"][0]["patient"] = json.loads((written.folder / "data/datalist.json").read_text())["testing"][0][
        "patient"
    ]
    (written.folder / "other/datalist.json").write_text(json.dumps(content))
    assert written.run(output="again") == 2
    assert "is held out and trained on" in capsys.readouterr().err


def test_a_dry_run_of_the_study_of_applicators_lists_four_arms(tmp_path, bundles, capsys, make_cohort) -> None:
    shares = ("0", "10", "30", "100", "no_artefacts")
    for name in shares:
        file = make_cohort(tmp_path / f"applicator_{name}", "a", 7, 2, 3, 0)
        file.write_text(json.dumps(json.loads(file.read_text()) | {"labels": LABELS, "modality": "CT"}))
    file = SCHEMA.parents[1] / "studies/applicator.json"
    assert main(["study", str(file), "--data", str(tmp_path), "--output", str(tmp_path / "out"), "--dry_run"]) == 0
    said = capsys.readouterr().out
    for name in shares[:4]:
        assert all(f"arms/{name}-percent/fold{fold}" in said for fold in range(3))
        assert f"applicator_{name}/datalist.json" in said
    assert not (tmp_path / "out").exists()
