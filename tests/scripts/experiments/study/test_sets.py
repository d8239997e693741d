"""Case tables read back as they were written; predictions of changed weights are made anew."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scripts.core.tables import write_csv
from scripts.experiments.study.sets import name_of_set, read_cases


def test_names_stay_text(tmp_path: Path) -> None:
    rows = [{"case": "001", "patient": "NA", "class": "nan", "outcome": "found", "dsc": 0.5, "hd95_mm": float("nan")}]
    table = read_cases(write_csv(tmp_path / "cases.csv", rows))
    assert table.iloc[0][["case", "patient", "class"]].tolist() == ["001", "NA", "nan"]
    assert table["dsc"].tolist() == [0.5]
    assert pd.isna(table["hd95_mm"]).all()


def test_headings() -> None:
    assert name_of_set("out_of_fold", 5) == "out of fold"
    assert name_of_set("testing", 5) == "held out, mean softmax of 5 folds"
    assert name_of_set("CCTH", 2) == "CCTH, mean softmax of 2 folds"


def test_a_damaged_prediction_and_new_weights_are_not_taken_over(written, bundles) -> None:
    written.content |= {"datalist": "data/datalist.json", "stages": {}, "classes": {"organ": [1, 2]}}
    written.content["arms"] = {"organ": {"bundle": "organ_pocketnet"}}
    assert written.run() == 0
    out = written.folder / "out"
    next((out / "arms/organ/testing/run").glob("*_pred.nii.gz")).unlink()
    bundles.calls.clear()
    assert written.run() == 0
    assert bundles.calls == [("ensemble", -1)]
    (out / "evaluation/testing/organ/made_from.json").unlink()
    before = written.tables()
    assert written.run() == 0
    assert written.tables() == before
