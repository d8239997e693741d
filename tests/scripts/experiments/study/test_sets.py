"""Case tables read back as they were written; predictions of changed weights are made anew."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from scripts.core.manifest import file_digest
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
    bundles.calls.clear()
    for fold in range(3):
        weights, record = (out / f"arms/organ/fold{fold}" / name for name in ("final.pt", "training.json"))
        torch.save({"shift": torch.tensor(2)}, weights)
        content = json.loads(record.read_text())
        content["weights"]["final.pt"] = file_digest(str(weights), "final.pt")
        record.write_text(json.dumps(content))
    assert written.run() == 0
    assert sorted(bundles.calls) == [("ensemble", -1), *(("evaluate", fold) for fold in range(3))]
    for in_set in ("testing", "out_of_fold"):
        table = pd.read_csv(out / f"evaluation/{in_set}/organ/cases.csv")
        assert table["dsc"].to_numpy() == pytest.approx(6 / 8)
