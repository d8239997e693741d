"""The verb on a cohort whose bad contours are known."""

from __future__ import annotations

import json
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from scripts.core.predictions import write_made_by


def test_bad_contours_are_told_from_good_ones_without_their_labels(cohort: Any, capsys: Any) -> None:
    assert cohort.run() == 0
    out = capsys.readouterr().out
    model = cohort.fitted["models"]["box"]
    assert model["reliability"]["auroc"] > 0.95
    assert set(model["features"]) >= {"volume_z", "position_z", "entropy"}
    # no fold agreement exists where one network predicted, no metal in MR
    assert not {"fold_agreement", "log_metal_ml"} & set(model["features"])
    assert "AUROC" in out
    assert cohort.fitted["weights_sha256"] == ["a" * 64, "b" * 64]
    assert cohort.fitted["networks"] == 1
    table = pd.read_csv(cohort.folder / "out/signs.csv").set_index("case")
    bad = pd.Series(cohort.bad)
    assert table.loc[bad, "probability"].min() > table.loc[~bad, "probability"].max()
    assert table.loc["c01", "dsc"] == pytest.approx(dsc(cohort, "c01"))
    assert (cohort.folder / "out/reliability.png").stat().st_size > 5000
    run = json.loads((cohort.folder / "out/run.json").read_text())
    assert run["verb"] == "quality"


def dsc(cohort: Any, name: str) -> float:
    one, two = (
        np.asarray(nib.load(cohort.folder / f"{kind}/{name}.nii.gz").dataobj) > 0 for kind in ("labels", "pred")
    )
    return 2 * (one & two).sum() / (one.sum() + two.sum())


def test_signs_against_training_labels_never_use_the_cases_own_fold(cohort: Any) -> None:
    cohort.run()
    before = pd.read_csv(cohort.folder / "out/signs.csv").set_index("case")
    # the labels of fold 0 grow; signs of fold 0 are told against fold 1 and stay
    for i in range(40):
        if (i // 2) % 2 == 0:
            file = cohort.folder / f"labels/c{i:02d}.nii.gz"
            image = nib.load(file)
            grown = np.asarray(image.dataobj).copy()
            grown[8:20, 8:18, 3:10] = 1
            nib.save(nib.Nifti1Image(grown, image.affine), file)
    cohort.run()
    after = pd.read_csv(cohort.folder / "out/signs.csv").set_index("case")
    assert after.loc["c00", "volume_z"] == before.loc["c00", "volume_z"]
    assert after.loc["c02", "volume_z"] < before.loc["c02", "volume_z"] - 1


def test_thresholds_are_the_users(cohort: Any) -> None:
    assert cohort.run("--thresholds", '{"box": 0.5}') == 0
    assert cohort.fitted["models"]["box"]["threshold"] == 0.5
    assert cohort.fitted["models"]["box"]["given"] is True
    assert cohort.fitted["models"]["box"]["below"] == 10


def test_an_ensembles_agreement_is_a_sign_of_held_out_cases(cohort: Any) -> None:
    def hold_out(content: Any) -> None:
        entries = content["training"]
        content["testing"] = [{k: v for k, v in e.items() if k != "fold"} for e in entries[:24]]
        content["training"] = entries[24:]

    cohort.edit(hold_out)
    agreed = {f"c{i:02d}": {"box": 0.3 + 0.01 * i if i % 4 == 0 else 0.9 - 0.01 * i} for i in range(24)}
    write_made_by(cohort.folder / "pred", ["a" * 64, "b" * 64], {}, 2, agreed)
    assert cohort.run("--section", "testing") == 0
    assert cohort.fitted["networks"] == 2
    assert "fold_agreement" in cohort.fitted["models"]["box"]["features"]
    assert "entropy" not in cohort.fitted["models"]["box"]["features"]
    # only training labels tell what is usual
    assert cohort.fitted["usual"]["box"]["labels"] == 16


def test_a_structure_that_cannot_be_fitted_is_named_and_the_others_are(cohort: Any, capsys: Any) -> None:
    cohort.edit(lambda content: content["labels"].update({"2": "other"}))
    assert cohort.run() == 1
    assert list(cohort.fitted["models"]) == ["box"]
    assert "0 cases" in cohort.fitted["without"]["other"]
    assert "structure other: 0 cases in which it was found" in capsys.readouterr().out


def test_metal_is_looked_for_in_ct(cohort: Any) -> None:
    cohort.edit(lambda content: content.update(modality="CT"))
    image = nib.load(cohort.folder / "images/c03.nii.gz")
    array = np.asarray(image.dataobj).copy()
    array[9:11, 9:11, 6] = 3000
    nib.save(nib.Nifti1Image(array, image.affine), cohort.folder / "images/c03.nii.gz")
    assert cohort.run() == 0
    table = pd.read_csv(cohort.folder / "out/signs.csv").set_index("case")
    assert table.loc["c03", "metal_ml"] == pytest.approx(4 * 0.012)
    assert table.loc["c04", "metal_ml"] == 0
