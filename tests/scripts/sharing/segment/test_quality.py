"""`segment` with folds and with a fitted quality.json: signs, a number, an order; another file's weights are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from custom_networks import CaseError
from scripts.core.datalist import Case
from scripts.core.files import sha256, write_nifti
from scripts.core.predictions import find_prediction, made_by
from scripts.experiments.quality.file import Quality, read_quality
from scripts.experiments.quality.model import Model
from scripts.experiments.quality.places import Usual
from scripts.sharing.segment.segment import segment

AFFINE = np.diag([-2.0, -2.0, 4.0, 1.0])


def quality(bundle: Path, files: list[str], networks: int = 1) -> Quality:
    """A contour is bad where the network is unsure, and nothing else counts."""
    sign = "entropy" if networks == 1 else "fold_agreement"
    model = Model(0.7, True, (sign,), (0.5,), (0.2,), (1.0 if networks == 1 else -1.0,), 0.0, 30, 30, 8)
    usual = Usual(20, 20, (2.0, 1.0), "image", (0.0,) * 3, (9.0,) * 3)
    classes = {"organ": [1, 2], "tumor": [2]}
    weights = tuple(sha256(bundle / file) for file in files)
    models, usuals = dict.fromkeys(classes, model), dict.fromkeys(classes, usual)
    return Quality(weights, networks, "", "training", "MR", classes, usuals, models)


@pytest.fixture
def scans(blob: np.ndarray, tmp_path: Path) -> Path:
    write_nifti(tmp_path / "in/good.nii.gz", blob, AFFINE)
    rng = np.random.default_rng(1)
    write_nifti(tmp_path / "in/noise.nii.gz", (0.2 * blob + rng.normal(0, 80, blob.shape)).astype(np.int16), AFFINE)
    return tmp_path / "in"


def test_without_a_model_there_are_signs_and_no_number(
    small_bundle: Path, scans: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    assert segment(str(scans), str(out), str(small_bundle), folds=str(small_bundle / "folds")) == 0
    assert "look here first" not in capsys.readouterr().out
    table = pd.read_csv(out / "signs.csv").set_index(["scan", "structure"])
    assert "probability" not in table
    row = table.loc[("good", "organ")]
    assert 0 < row["entropy"] < 1
    assert 0 < row["fold_agreement"] <= 1
    assert np.isnan(row["volume_z"]), "no training label is known"
    run = json.loads((out / "run.json").read_text())
    assert run["look_first"] == []
    assert run["scans"][0]["signs"][0]["border_mm"] == row["border_mm"]
    # an ensemble of the same networks is what `quality` may be fitted on, its signs beside it
    made = made_by(out)
    assert (made.networks, len(made.weights)) == (2, 2)
    case = Case("p1", {"image": "images/good.nii.gz"})
    assert made.of(case)[1]["organ"] == pytest.approx(row["fold_agreement"])
    assert find_prediction(out, case) == out / "good/label.nii.gz"


def test_one_network_has_no_signs_unless_asked(small_bundle: Path, scans: Path, tmp_path: Path) -> None:
    assert segment(str(scans / "good.nii.gz"), str(tmp_path / "out"), str(small_bundle)) == 0
    assert not (tmp_path / "out/signs.csv").exists()


def test_a_release_brings_its_own_and_orders_scans(
    small_bundle: Path, scans: Path, tmp_path: Path, capsys: Any
) -> None:
    release = tmp_path / "tumor_pocketnet"
    shutil.copytree(small_bundle, release)
    quality(release, ["models/model.pt"]).write(release / "models/quality.json")
    out = tmp_path / "out"
    assert segment(str(scans), str(out), str(release)) == 0
    table = pd.read_csv(out / "signs.csv").set_index(["scan", "structure"])
    for _, row in table[table["ml"] > 0].iterrows():
        assert row["probability"] == pytest.approx(1 / (1 + np.exp(-(row["entropy"] - 0.5) / 0.2)), abs=1e-3)
    order = json.loads((out / "run.json").read_text())["look_first"]
    # what is hardly there is looked at before the clear one
    assert [row["case"] for row in order] == ["noise", "good"]
    assert "look here first:\ncase" in capsys.readouterr().out
    # other weights of the same bundle: the release's file is not theirs, and says nothing
    assert (
        segment(str(scans), str(tmp_path / "b"), str(release), weights=str(small_bundle / "folds/fold0/final.pt")) == 0
    )
    assert not (tmp_path / "b/signs.csv").exists()


def test_a_model_of_single_networks_is_asked_about_each_fold(small_bundle: Path, scans: Path, tmp_path: Path) -> None:
    files = ["folds/fold0/final.pt", "folds/fold1/final.pt"]
    file = str(quality(small_bundle, files).write(tmp_path / "q.json"))
    calls = {"both": {"folds": str(small_bundle / "folds")}}
    calls |= {f"fold{i}": {"weights": str(small_bundle / files[i])} for i in range(2)}
    numbers = []
    for name, options in calls.items():
        segment(str(scans / "good.nii.gz"), str(tmp_path / name), str(small_bundle), quality=file, **options)
        numbers.append(pd.read_csv(tmp_path / name / "signs.csv")["probability"].to_numpy())
    np.testing.assert_allclose(numbers[0], (numbers[1] + numbers[2]) / 2, atol=2e-4)


def test_a_model_of_the_ensemble_is_asked_about_the_ensemble(small_bundle: Path, scans: Path, tmp_path: Path) -> None:
    files = ["folds/fold0/final.pt", "folds/fold1/final.pt"]
    file = str(quality(small_bundle, files, 2).write(tmp_path / "q.json"))
    scan, folds = str(scans / "good.nii.gz"), str(small_bundle / "folds")
    segment(scan, str(tmp_path / "out"), str(small_bundle), folds=folds, quality=file)
    for _, row in pd.read_csv(tmp_path / "out/signs.csv").iterrows():
        assert row["probability"] == pytest.approx(1 / (1 + np.exp((row["fold_agreement"] - 0.5) / 0.2)), abs=1e-3)
    with pytest.raises(CaseError, match="fitted for the mean of 2 networks, not for 1 of them; give --folds"):
        segment(scan, str(tmp_path / "x"), str(small_bundle), weights=str(small_bundle / files[0]), quality=file)


def test_files_of_other_weights_or_labels_are_refused(small_bundle: Path, scans: Path, tmp_path: Path) -> None:
    scan, out = str(scans / "good.nii.gz"), str(tmp_path / "out")
    other = str(quality(small_bundle, ["folds/fold0/final.pt"]).write(tmp_path / "other.json"))
    with pytest.raises(CaseError, match=r"quality .*other\.json: it was fitted for other weights"):
        segment(scan, out, str(small_bundle), quality=other)
    content = json.loads(Path(other).read_text()) | {"weights_sha256": [sha256(small_bundle / "models/model.pt")]}
    content["classes"]["tumor"] = [3]
    (tmp_path / "labels.json").write_text(json.dumps(content))
    with pytest.raises(CaseError, match="the bundle has no label 3"):
        segment(scan, out, str(small_bundle), quality=str(tmp_path / "labels.json"))
    assert read_quality(other).networks == 1
    assert nib.load(scan).shape == (40, 36, 12)
