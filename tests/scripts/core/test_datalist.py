"""Writing of datalists, and adding to one that has folds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from custom_networks import CaseError, read_datalist
from scripts.core.datalist import Case, Datalist, add_cases, existing, write_datalist

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/datalist.schema.json").read_text(encoding="utf-8"))
LABELS = {0: "background", 1: "organ"}


def case(name: str, patient: str, fold: int | None = None, **more: Any) -> Case:
    return Case(name, {"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"}, patient, fold, more)


def test_what_is_written_reads_back_here_in_monai_and_fits_the_schema(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    labels = {10: "b", 2: "ä", 0: "background"}
    datalist = Datalist(
        "x",
        "MR",
        labels,
        [replace(case("p1_t1", "p1", 0, age=4), folder=folder)],
        [replace(case("q", "q"), folder=folder)],
        {"note": 1},
    )
    path = write_datalist(folder / "datalist.json", datalist)
    content = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(content, SCHEMA)
    assert list(content) == ["name", "labels", "modality", "note", "training", "testing"]
    assert list(content["labels"].items()) == [("0", "background"), ("2", "ä"), ("10", "b")]
    assert read_datalist(path)[0]["image"] == str(tmp_path / "d/images/p1_t1.nii.gz")
    assert Datalist.read(path) == replace(datalist, labels=dict(sorted(labels.items())))
    from monai.data import load_decathlon_datalist

    assert load_decathlon_datalist(str(path))[0]["label"] == str(tmp_path / "d/labels/p1_t1.nii.gz")


def test_a_copy_in_another_folder_finds_the_same_files(tmp_path: Path) -> None:
    datalist = Datalist(training=[replace(case("a", "p"), folder=tmp_path)])
    path = write_datalist(tmp_path / "splits" / "one.json", datalist)
    assert json.loads(path.read_text())["training"][0]["image"] == "../images/a.nii.gz"
    assert Path(Datalist.read(path).training[0].image).resolve() == tmp_path.resolve() / "images/a.nii.gz"


def test_two_cases_with_one_name_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"a: two cases of datalist .*d\.json have this name"):
        write_datalist(tmp_path / "d.json", Datalist(training=[case("a", "p")], testing=[case("a", "q")]))
    assert not (tmp_path / "d.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"testing": ["a.nii.gz"]},
        {"training": [{"image": "a.nii.gz", "patient": 1, "fold": 0, "anything": []}], "labels": {"organ": 1}},
    ],
)
def test_the_schema_takes_what_the_reader_takes(tmp_path: Path, content: dict[str, Any]) -> None:
    jsonschema.validate(content, SCHEMA)
    (tmp_path / "d.json").write_text(json.dumps(content))
    Datalist.read(tmp_path / "d.json", patients="each")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"training": [{"label": "x"}]},
        {"training": [{"image": ""}]},
        {"training": [{"image": "x", "fold": -1}]},
        {"training": [{"image": "x", "fold": True}]},
        {"training": [{"image": "x", "patient": []}]},
        {"training": [{"image": "x"}], "labels": {"organ": [1, 2]}},
        {"training": [{"image": "x", "label": 5}]},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "d.json").write_text(json.dumps(content))
    with pytest.raises(CaseError):
        Datalist.read(tmp_path / "d.json", patients="each")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMA)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    split = Datalist(
        "mine",
        "MR",
        LABELS,
        [case("a1", "a", 0, reader="RS"), case("b1", "b", 1)],
        [case("c1", "c")],
        {"regions": {"organ": [1]}},
    )
    return write_datalist(tmp_path / "datalist.json", split)


def test_adding_keeps_folds_the_held_out_set_and_unknown_entries(there: Path) -> None:
    new = Datalist("", "MR", LABELS, [case(name, name[0]) for name in ("a1", "a2", "c1", "c2", "d1")])
    found = add_cases(there, new)
    assert found.name == "mine"
    assert [(c.name, c.fold) for c in found.training] == [("a1", 0), ("b1", 1), ("a2", 0), ("d1", None)]
    assert [c.name for c in found.testing] == ["c1", "c2"]
    assert found.training[0].more == {"reader": "RS"}
    assert found.more == {"regions": {"organ": [1]}}
    # a new patient has no fold, and nothing is trained before one is drawn
    write_datalist(there, found)
    from custom_networks import fold_split

    with pytest.raises(CaseError, match="d1: it has no fold, others have"):
        fold_split(read_datalist(there), 0)


def test_adding_to_nothing_is_the_new_datalist(tmp_path: Path) -> None:
    new = Datalist("n", "CT", {}, [case("a", "a")])
    assert add_cases(tmp_path / "datalist.json", new) is new


@pytest.mark.parametrize(
    ("labels", "modality", "message"),
    [
        (
            {**LABELS, 2: "tumor"},
            "MR",
            "its labels are 0 background, 1 organ, those of the new cases 0 background, 1 organ, 2",
        ),
        ({}, "MR", "those of the new cases none"),
        (LABELS, "CT", "its modality is MR, those of the new cases CT; write to another folder"),
    ],
)
def test_other_labels_or_another_modality_are_refused(
    there: Path, labels: dict[int, str], modality: str, message: str
) -> None:
    before = there.read_bytes()
    with pytest.raises(CaseError, match=message):
        existing(there, labels, modality)
    with pytest.raises(CaseError, match=message):
        add_cases(there, Datalist("", modality, labels, [case("x", "x")]))
    assert there.read_bytes() == before


def test_a_case_that_changes_its_patient_is_refused(there: Path) -> None:
    with pytest.raises(CaseError, match=r"a1: .* says that it is of patient a, not z"):
        add_cases(there, Datalist("", "MR", LABELS, [case("a1", "z")]))
