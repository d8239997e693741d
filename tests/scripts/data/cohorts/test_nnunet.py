"""Both dialects of dataset.json, and splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from custom_networks import CaseError
from scripts.data.cohorts.nnunet import read_raw, read_splits


def raw(folder: Path, **content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content))
    for name in ("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/a.nii.gz"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


def test_regions_and_names(tmp_path: Path) -> None:
    labels = {"background": 0, "organ": [1, 2], "tumor": [2]}
    found = read_raw(raw(tmp_path / "Dataset007_Cervix", channel_names={"0": "T2w"}, labels=labels))
    assert (found.name, found.modality) == ("Cervix", "MR")
    assert found.labels == {0: "background", 1: "label 1", 2: "tumor"}
    assert found.regions == {"organ": [1, 2], "tumor": [2]}
    assert [(case.name, case.label is not None) for case in found.cases] == [("a", True), ("b", False)]


def test_a_channel_is_chosen_by_the_user(tmp_path: Path) -> None:
    folder = raw(tmp_path / "Task01_x", channel_names={"0": "T2", "1": "CT"}, labels={"background": 0, "organ": 1})
    with pytest.raises(CaseError, match=r"its images have 2 channels \(0 T2, 1 CT\); choose one with --channel\."):
        read_raw(folder)
    assert read_raw(folder, 1).modality == "CT"
    assert [case.image.name for case in read_raw(folder, 1).cases] == ["a_0001.nii.gz"]
    with pytest.raises(CaseError, match="it has no channel 2; choose one of 0, 1"):
        read_raw(folder, 2)


def test_the_decathlon(tmp_path: Path) -> None:
    folder = raw(
        tmp_path / "Task09_Spleen",
        name="Spleen",
        modality={"0": "CT"},
        labels={"0": "background", "1": "spleen"},
        training=[{"image": "./imagesTr/a_0000.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        test=["./imagesTs/c.nii.gz"],
    )
    found = read_raw(folder)
    assert (found.name, found.modality, found.labels) == ("Spleen", "CT", {0: "background", 1: "spleen"})
    assert [(case.name, case.held_out) for case in found.cases] == [("a_0000", False), ("c", True)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "has no 'labels'"),
        ({"labels": {"background": 0, "ignore": 3}}, "its label 'ignore' marks voxels that nobody annotated"),
        ({"labels": {"background": 0, "x": 1}, "file_ending": ".mha"}, r"imagesTr holds no \*_0000\.mha"),
        (
            {"labels": {"background": 0, "x": 1}, "training": [{"label": "a"}]},
            "an entry of 'training' without an image",
        ),
        ({"labels": {"background": 0, "x": 1}, "training": []}, "lists no case"),
    ],
)
def test_refusals(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    with pytest.raises(CaseError, match=said):
        read_raw(raw(tmp_path / "d", **content))


def test_splits(tmp_path: Path) -> None:
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps([{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}]))
    assert read_splits(file, ["b", "a"]) == {"b": 1, "a": 0}
    with pytest.raises(CaseError, match="no fold validates c"):
        read_splits(file, ["a", "c"])
    file.write_text(json.dumps([{"train": [], "val": ["a"]}, {"train": [], "val": ["a"]}]))
    with pytest.raises(CaseError, match="a is validated by folds 0 and 1"):
        read_splits(file, ["a"])
    file.write_text("[1]")
    with pytest.raises(CaseError, match="it is not a list of 'train' and 'val'"):
        read_splits(file, ["a"])
