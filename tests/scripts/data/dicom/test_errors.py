"""What `import_dicom` and `list_rois` refuse before they begin, and in which words."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_networks import Datalist
from scripts.__main__ import main

IMAGE = np.mgrid[:6, :5, :8][0].astype(np.int16)


@pytest.fixture(scope="module")
def folder(dicom: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "empty").mkdir()
    (folder / "zipped").mkdir()
    (folder / "zipped" / "a.zip").write_bytes(b"PK")
    (folder / "file").write_text("in the way")
    dicom.series(folder / "e", IMAGE)
    return folder


CASES: dict[str, tuple[list[str], str]] = {
    "no folder": (["none", "o"], "is not a folder"),
    "empty": (["empty", "o"], "holds no DICOM"),
    "archives": (["zipped", "o"], "unpack the archives in it"),
    "modality": (["e", "o", "--modality", "US"], "choose one of MR, CT"),
    "patients": (["e", "o", "--patients", "all"], "choose one of named, each"),
    "description": (["e", "o", "--description", "a("], "not a regular expression"),
    "structure set": (["e", "o", "--structure_set", "a("], "not a regular expression"),
    "labels": (["e", "o", "--labels", "organ"], "not a mapping"),
    "label twice": (["e", "o", "--labels", "{organ: 'a', tumor: 'b', organ: 'c'}"], "it has label 'organ' twice"),
    "label twice in other case": (["e", "o", "--labels", "{organ: 'a', Organ: 'b'}"], "it has label 'organ' twice"),
    "slices": (["e", "o", "--min_slices", "few"], "not a whole number"),
    "workers": (["e", "o", "--workers", "0"], "not a whole number"),
    "no place": (["e", "file/o"], "cannot be written"),
    "table inside": (["e", "o", "--table", "o/t.json"], "inside the data set"),
}


@pytest.mark.parametrize("what", CASES)
def test_import_is_refused_in_one_sentence(
    folder: Path, what: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, message = CASES[what]
    monkeypatch.chdir(folder)
    assert main(["import_dicom", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (folder / "o").exists()


@pytest.mark.parametrize(
    ("words", "message"), [(["none"], "is not a folder"), (["e", "--structure_set", "a("], "not a")]
)
def test_list_rois_is_refused_in_one_sentence(
    folder: Path, words: list[str], message: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert main(["list_rois", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_pattern_that_never_ends_is_refused_instead_of_hanging(dicom: Any, tmp_path: Path, capsys: Any) -> None:
    series = dicom.series(tmp_path / "e" / "i", IMAGE)
    square = np.array([[2, 2, 30], [4, 2, 30], [4, 4, 30], [2, 4, 30]], dtype=float)
    dicom.rtstruct(tmp_path / "e" / "s.dcm", series, [(1, "a" * 60, None, [square])])
    words = ["import_dicom", str(tmp_path / "e"), str(tmp_path / "o"), "--labels", "{organ: '^(a+)+$x'}"]
    assert main(words) == 2
    assert "does not come to an end within 2 s" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_other_labels_and_another_modality_are_refused_and_change_nothing(
    dicom: Any, tmp_path: Path, capsys: Any
) -> None:
    dicom.series(tmp_path / "e", IMAGE)
    dicom.series(tmp_path / "c", IMAGE, modality="CT")
    out = str(tmp_path / "o")
    assert main(["import_dicom", str(tmp_path / "e"), out, "--workers", "1"]) == 0
    before = {p: p.read_bytes() for p in Path(out).rglob("*") if p.is_file()}
    capsys.readouterr()
    for words in (["e", "--labels", "{organ: 'x'}"], ["c", "--modality", "CT"]):
        assert main(["import_dicom", str(tmp_path / words[0]), out, *words[1:], "--workers", "1"]) == 2
        assert "write to another folder" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in Path(out).rglob("*") if p.is_file()} == before


def test_a_second_import_at_the_same_time_is_refused_and_the_table_stays_complete(
    dicom: Any, tmp_path: Path, capsys: Any
) -> None:
    """With a new table, the slower of two would overwrite the pseudonyms of the other."""
    dicom.series(tmp_path / "e", IMAGE)
    words = ["import_dicom", str(tmp_path / "e"), str(tmp_path / "o"), "--workers", "1"]
    with (tmp_path / ".o_pseudonyms.json.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert main(words) == 2
        assert "is writing to it" in capsys.readouterr().err
        assert not (tmp_path / "o").exists()
        assert not (tmp_path / "o_pseudonyms.json").exists()
    assert main(words) == 0
    table = json.loads((tmp_path / "o_pseudonyms.json").read_text())
    named = {entry.get("case") for entry in table["series"].values()}
    assert {case.name for case in Datalist.read(tmp_path / "o" / "datalist.json").cases} == named
