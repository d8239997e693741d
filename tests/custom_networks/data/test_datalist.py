"""What a datalist may look like, how it is read, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custom_networks import CaseError, Datalist, fold_split, read_datalist, safe_name
from custom_networks.data.datalist import Case, image_stem

CASES = [{"case": f"p{i}", "patient": f"p{i // 2}", "image": f"images/{i}.nii.gz", "fold": i // 2} for i in range(6)]


def write(folder: Path, content: Any, encoding: str = "utf-8") -> Path:
    path = folder / "datalist.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding=encoding)
    return path


def test_paths_become_absolute_and_nothing_else_changes(tmp_path: Path) -> None:
    path = write(tmp_path, {"training": CASES, "testing": ["a.nii.gz"]})
    assert read_datalist(path)[0] == {**CASES[0], "image": str(tmp_path / "images/0.nii.gz")}
    assert read_datalist(path, "elsewhere", "testing") == [{"case": "a", "image": "elsewhere/a.nii.gz"}]
    with pytest.raises(
        CaseError, match="section 'validation': a datalist has none of this name; choose training or testing"
    ):
        read_datalist(path, section="validation")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the file does not exist"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON \\(nested too deep\\)"),
        ('{"training": [], "training": []}', "the key 'training' stands twice"),
        ("{}", "no list named 'training'"),
        ("[]", "no list named 'training'"),
        ('{"training": []}', "it has no case"),
        ('{"training": {"image": "x"}, "testing": []}', "is not a list"),
        ('{"training": [{"label": "x"}]}', "no image"),
        ('{"training": [5]}', "no image"),
        ('{"training": [{"image": 5}]}', "no image"),
        ('{"training": [{"image": ["t1.nii", "t2.nii"]}]}', "it has 2 images; the bundles take one"),
        ('{"training": [{"image": "x", "case": [1]}]}', "'case' of x is neither text nor a number"),
        ('{"training": [{"image": "x", "patient": true}]}', "'patient' of x is neither text nor a number"),
        ('{"training": [{"image": "x", "label": 3}]}', "the label of 'x' is not a path"),
        ('{"training": [{"image": "a\\u0000b"}]}', "NUL"),
        ('{"training": [{"image": "x", "fold": "0"}]}', "fold '0' of 'x' is not a whole number"),
        ('{"training": [{"image": "x", "fold": -1}]}', "fold -1 of 'x'"),
        ('{"training": [{"image": "x", "case": "\\ud800"}]}', "is no text"),
    ],
)
def test_what_is_no_datalist_is_one_sentence(tmp_path: Path, text: str | None, message: str) -> None:
    path = write(tmp_path, text) if text is not None else tmp_path / "datalist.json"
    with pytest.raises(CaseError, match=message) as info:
        Datalist.read(path, patients="each")
    assert str(path) in str(info.value)
    assert len(str(info.value).splitlines()) == 1


def test_a_case_without_a_patient_is_refused_unless_each_is_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, {"training": [{"image": "a.nii.gz"}, {"image": "b.nii.gz", "patient": 7}]})
    with pytest.raises(CaseError, match=r"case 'a': it names no patient.*--patients each"):
        Datalist.read(path)
    assert [case.patient for case in Datalist.read(path, patients="each").training] == ["a", "7"]
    assert [case.patient for case in Datalist.read(path, patients=None).training] == ["", "7"]


def test_ids_and_names_are_text(tmp_path: Path) -> None:
    entries = [
        {"case": 1, "patient": 1, "image": "a", "fold": 0},
        {"case": "2", "patient": "1", "image": "b", "fold": 1},
    ]
    cases = Datalist.read(write(tmp_path, {"training": entries})).training
    assert [(case.name, case.patient) for case in cases] == [("1", "1"), ("2", "1")]
    with pytest.raises(CaseError, match="patient 1 is in training and in validation"):
        fold_split(read_datalist(tmp_path / "datalist.json"), 0)
    with pytest.raises(CaseError, match="patient 1 is in training and in validation"):
        fold_split(entries, 0)


@pytest.mark.parametrize(
    "labels", [{"0": "background", "1": "organ"}, {"background": 0, "organ": 1}, {"organ": "1", "background": "0"}]
)
def test_labels_of_monai_decathlon_and_nnunet(tmp_path: Path, labels: dict[str, Any]) -> None:
    assert Datalist.read(write(tmp_path, {"labels": labels, "testing": ["a.nii"]}), patients="each").labels == {
        0: "background",
        1: "organ",
    }


@pytest.mark.parametrize(
    "labels", [["organ"], {"organ": [1, 2]}, {"organ": 1, "tumor": 1}, {"0": "a", "1": "a"}, {"x": "y"}, 3, {"1": None}]
)
def test_labels_that_say_nothing_certain(tmp_path: Path, labels: Any) -> None:
    with pytest.raises(
        CaseError, match=r'not a map of whole numbers to different names; write it as \{"0": "background"'
    ):
        Datalist.read(write(tmp_path, {"labels": labels, "testing": ["a.nii"]}), patients="each")


def test_a_medical_decathlon_file_is_read_and_written_in_our_layout(tmp_path: Path) -> None:
    decathlon = {
        "name": "Prostate",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "PZ"},
        "licence": "CC",
        "training": [{"image": "./imagesTr/p_00.nii.gz", "label": "./labelsTr/p_00.nii.gz"}],
        "test": ["./imagesTs/p_01.nii.gz"],
    }
    found = Datalist.read(write(tmp_path, decathlon), patients="each")
    assert found.modality == "MR"
    assert [case.image for case in found.cases] == [
        str(tmp_path / f"images{x}/p_0{i}.nii.gz") for i, x in ((0, "Tr"), (1, "Ts"))
    ]
    assert found.written()["testing"] == [{"case": "p_01", "patient": "p_01", "image": "./imagesTs/p_01.nii.gz"}]
    assert found.more == {"licence": "CC"}


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert read_datalist(write(tmp_path, {"training": CASES}, "utf-8-sig"))[5]["case"] == "p5"


def test_what_is_not_known_is_written_back(tmp_path: Path) -> None:
    content = {
        "name": "d",
        "labels": {"0": "background", "1": "organ"},
        "modality": "MR",
        "regions": {"whole": [1]},
        "training": [
            {**CASES[0], "label": "l.nii.gz", "organ": "/data/o.nii.gz", "pred": "p.nii", "age": 41, "tags": ["x"]}
        ],
        "testing": [],
    }
    assert Datalist.read(write(tmp_path, content)).written() == content


def test_moving_writes_relative_paths_anew_and_keeps_absolute_ones(tmp_path: Path) -> None:
    case = Case("a", {"image": "images/a.nii.gz", "label": "/data/a.nii.gz"}, folder=tmp_path / "d")
    there = case.moved(tmp_path / "out" / "x")
    assert there.files == {"image": "../../d/images/a.nii.gz", "label": "/data/a.nii.gz"}
    assert os.path.abspath(there.image) == case.image
    assert there.moved(tmp_path / "d").files == case.files


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    first = Datalist.read(write(tmp_path, {"training": CASES}))
    (tmp_path / "b").mkdir()
    same = Datalist.read(
        write(tmp_path / "b", json.dumps({"training": [dict(reversed(c.items())) for c in CASES]}, indent=2))
    )
    other = Datalist.read(write(tmp_path, {"training": [*CASES[:-1], {**CASES[-1], "fold": 1}]}))
    assert first.digest() == same.digest() != other.digest()


def test_names_of_cases_without_one(tmp_path: Path) -> None:
    images = ["p0/t2.nii.gz", "p1/t2.nii.gz", "study.0.nii.gz", "study.1.nii.gz", "x/y/z.mha"]
    names = [case.name for case in Datalist.read(write(tmp_path, {"testing": images}), patients="each").testing]
    assert names == ["p0/t2", "p1/t2", "study.0", "study.1", "z"]
    assert [image_stem(image) for image in images] == ["t2", "t2", "study.0", "study.1", "z"]


def test_safe_names_stay_in_their_folder() -> None:
    assert safe_name("plain-1_a.b") == "plain-1_a.b"
    assert safe_name("../../x") == "%2E.%2F..%2Fx"
    assert safe_name("p0/t2") == "p0%2Ft2"
    assert len({safe_name("n" * 300), safe_name("n" * 301), safe_name("n" * 299 + "m")}) == 3


@given(st.lists(st.text(min_size=1, max_size=250), min_size=2, max_size=4, unique=True))
def test_safe_names_are_as_different_as_names(names: list[str]) -> None:
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    assert all(1 <= len(name) <= 200 and name == Path(name).name and name[0] != "." and name.isascii() for name in safe)
