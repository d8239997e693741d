"""Which classes a datalist means, and which of them is the target."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from custom_networks import CaseError
from scripts.core.classes import ranking_class, read_classes, target_class
from scripts.core.datalist import Datalist


def write(folder: Path, **content: object) -> Datalist:
    file = folder / "datalist.json"
    file.write_text(json.dumps({"testing": ["a.nii.gz"], **content}))
    return Datalist.read(file, patients=None)


MR = {"0": "background", "1": "organ", "2": "tumor"}


def test_the_organ_holds_the_tumour_however_it_is_spelt(tmp_path: Path) -> None:
    assert read_classes(write(tmp_path, labels=MR)) == {"organ": [1, 2], "tumor": [2]}
    british = {"0": "background", "1": "Organ", "2": "TUMOUR"}
    assert read_classes(write(tmp_path, labels=british)) == {"Organ": [1, 2], "TUMOUR": [2]}
    turned = {"0": "background", "1": "tumour", "2": "organ"}
    assert read_classes(write(tmp_path, labels=turned)) == {"tumour": [1], "organ": [2, 1]}
    three = MR | {"3": "bladder"}
    assert read_classes(write(tmp_path, labels=three)) == {"organ": [1], "tumor": [2], "bladder": [3]}


def test_what_the_user_says_counts_more_than_the_rule(tmp_path: Path) -> None:
    assert read_classes(write(tmp_path, labels=MR), ["tumor"]) == {"tumor": [2]}
    assert read_classes(write(tmp_path, labels=MR), ("tumor", "organ")) == {"tumor": [2], "organ": [1, 2]}
    assert read_classes(write(tmp_path, labels=MR), {"rim": [1]}) == {"rim": [1]}
    regions = write(tmp_path, labels=MR, regions={"organ": [1], "tumor": 2})
    assert read_classes(regions) == {"organ": [1], "tumor": [2]}
    ct = {"0": "background", "1": "HR-CTV", "2": "bladder"}
    assert read_classes(write(tmp_path, labels=ct)) == {"HR-CTV": [1], "bladder": [2]}


@pytest.mark.parametrize(
    ("content", "wanted", "said"),
    [
        ({"labels": MR}, ["uterus"], "'uterus' is no class"),
        ({}, None, "it names no labels"),
        ({"regions": {"organ": []}}, None, "has no label value"),
        ({"regions": {"organ": [0, 1]}}, None, "has no label value, or 0"),
        ({"regions": [1]}, None, "cannot be read"),
    ],
)
def test_classes_that_cannot_be_told_are_refused(tmp_path: Path, content: dict, wanted: object, said: str) -> None:
    with pytest.raises(CaseError, match=said):
        read_classes(write(tmp_path, **content), wanted)


def test_the_target_is_the_tumour_else_the_hr_ctv_else_the_last() -> None:
    assert target_class({"tumor": [2], "organ": [1, 2]}) == "tumor"
    assert target_class({"Tumour": [2], "organ": [1]}) == "Tumour"
    assert target_class({"HR-CTV": [1], "bladder": [2]}) == "HR-CTV"
    assert target_class({"liver": [1], "spleen": [2]}) == "spleen"


def test_cases_are_ordered_by_the_target_where_there_is_one_else_by_the_mean() -> None:
    assert ranking_class({"tumor": [2], "organ": [1, 2]}, "mean") == "tumor"
    assert ranking_class({"bladder": [2], "HR-CTV": [1]}, "mean") == "HR-CTV"
    assert ranking_class({"liver": [1]}, "mean") == "liver"
    assert ranking_class({"liver": [1], "spleen": [2]}, "mean") == "mean"
