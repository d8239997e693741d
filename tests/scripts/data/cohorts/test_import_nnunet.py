"""nnU-Net's raw format to a datalist, and there and back again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.__main__ import main

AFFINE = np.diag([-1.0, -1, 3, 1])


def dataset(folder: Path, names: tuple[str, ...] = ("P1_a", "P1_b", "P2_a"), **more: Any) -> Path:
    for i, name in enumerate(names):
        label = np.zeros((6, 5, 4), np.uint8)
        label[2, 2, 1] = 1
        for part, voxels in (
            (f"imagesTr/{name}_0000", np.arange(120, dtype=np.int16).reshape(6, 5, 4) + i),
            (f"labelsTr/{name}", label),
        ):
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, AFFINE), folder / f"{part}.nii.gz")
    content = {"channel_names": {"0": "T2"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz", **more}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def run(source: Path, target: Path, *words: str) -> int:
    return main(["import_nnunet", str(source), str(target), "--workers", "1", *words])


def content(target: Path) -> dict[str, Any]:
    return json.loads((target / "datalist.json").read_text())


def test_patients_by_a_regular_expression_and_folds_by_splits(tmp_path: Path) -> None:
    source = dataset(tmp_path / "Dataset002_Uterus")
    (source / "splits_final.json").write_text(
        json.dumps([{"train": ["P2_a"], "val": ["P1_a", "P1_b"]}, {"train": ["P1_a", "P1_b"], "val": ["P2_a"]}])
    )
    assert run(source, tmp_path / "out", "--patient", "^(P[0-9]+)_") == 0
    found = content(tmp_path / "out")
    assert [(case["case"], case["patient"], case["fold"]) for case in found["training"]] == [
        ("P1_a", "P1", 0),
        ("P1_b", "P1", 0),
        ("P2_a", "P2", 1),
    ]
    assert (found["name"], found["modality"], found["labels"]) == ("Uterus", "MR", {"0": "background", "1": "organ"})
    image = tmp_path / "out" / found["training"][1]["image"]
    assert image.is_symlink()
    np.testing.assert_array_equal(nib.load(image).get_fdata(), np.arange(120).reshape(6, 5, 4) + 1)


def test_a_patient_in_two_folds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = dataset(tmp_path / "d")
    splits = [{"train": ["P1_b", "P2_a"], "val": ["P1_a"]}, {"train": ["P1_a"], "val": ["P1_b", "P2_a"]}]
    (source / "splits_final.json").write_text(json.dumps(splits))
    assert run(source, tmp_path / "out", "--patient", "^(P[0-9]+)_") == 2
    assert "patient P1 is in folds 0, 1; pass --splits none" in capsys.readouterr().err
    assert run(source, tmp_path / "out", "--patient", "^(P[0-9]+)_", "--splits", "none") == 0
    assert all("fold" not in case for case in content(tmp_path / "out")["training"])


def test_a_bad_case_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = dataset(tmp_path / "d")
    (source / "labelsTr/P1_b.nii.gz").unlink()
    nib.save(nib.Nifti1Image(np.full((6, 5, 4), 9, np.uint8), AFFINE), source / "labelsTr/P2_a.nii.gz")
    assert run(source, tmp_path / "out", "--patients", "each") == 0
    assert [case["case"] for case in content(tmp_path / "out")["training"]] == ["P1_a"]
    text = capsys.readouterr().out
    assert "P1_b: " in text
    assert "P2_a: " in text


@pytest.mark.parametrize(
    ("more", "words", "said"),
    [
        ({}, (), "nothing says which images are of one patient"),
        ({"channel_names": {"0": "x"}}, ("--patients", "each"), "does not say whether it is MR or CT"),
        ({}, ("--patient", "("), "--patient"),
    ],
)
def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str], more, words, said: str) -> None:
    assert run(dataset(tmp_path / "d", **more), tmp_path / "out", *words) == 2
    assert said in capsys.readouterr().err


def test_there_and_back_again(tmp_path: Path) -> None:
    """Two cohorts' worth of names, patients, folds, labels and voxels come back as they went."""
    source = dataset(tmp_path / "first")
    (source / "splits_final.json").write_text(
        json.dumps([{"train": ["P2_a"], "val": ["P1_a", "P1_b"]}, {"train": ["P1_a", "P1_b"], "val": ["P2_a"]}])
    )
    assert run(source, tmp_path / "one", "--patient", "^(P[0-9]+)_") == 0
    raw = tmp_path / "raw/Dataset003_first"
    assert main(["export_nnunet", str(tmp_path / "one/datalist.json"), str(raw), "--workers", "1"]) == 0
    # patients and folds are in the data set now
    assert run(raw, tmp_path / "two") == 0
    first, second = content(tmp_path / "one"), content(tmp_path / "two")
    assert first == second
    for case in first["training"]:
        for key in ("image", "label"):
            assert (tmp_path / "one" / case[key]).samefile(tmp_path / "two" / case[key])
    assert (raw / "splits_final.json").read_text() == json.dumps(
        json.loads((source / "splits_final.json").read_text()), indent=4
    ) + "\n"
