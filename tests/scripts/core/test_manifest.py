"""What run.json says, and what a result is bound to."""

from __future__ import annotations

import gzip
import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from custom_networks import CaseError
from custom_networks.data.datalist import Case
from scripts.core import manifest
from scripts.core.manifest import bind, bound, inputs, record


@pytest.fixture
def case(tmp_path: Path) -> Case:
    (tmp_path / "i.nii").write_bytes(b"image")
    (tmp_path / "l.nii.gz").write_bytes(gzip.compress(b"label"))
    return Case("p1_t1", {"image": "i.nii", "label": "l.nii.gz"}, "p1", 0, folder=tmp_path)


def test_a_result_of_the_same_inputs_is_reused(tmp_path: Path, case: Case) -> None:
    file = tmp_path / "out" / "inputs.json"
    made_from = inputs([case], {"epochs": 10, "spacing": [1, 1.5]}, [tmp_path / "i.nii"])
    assert not bound(file, made_from, "fold 0")
    bind(file, made_from)
    assert bound(file, inputs([case], {"epochs": 10, "spacing": (1, 1.5)}, [tmp_path / "i.nii"]), "fold 0")
    # a data set that was moved is the same
    (tmp_path / "moved").mkdir()
    for name in ("i.nii", "l.nii.gz"):
        (tmp_path / "moved" / name).write_bytes((tmp_path / name).read_bytes())
    moved = replace(case, folder=tmp_path / "moved")
    assert bound(file, inputs([moved], {"epochs": 10, "spacing": [1, 1.5]}, [tmp_path / "moved/i.nii"]), "fold 0")


def test_what_differs_is_named(tmp_path: Path, case: Case) -> None:
    file = tmp_path / "out" / "inputs.json"
    bind(file, inputs([case], {"epochs": 10}))

    def differs(cases: list[Case], settings: dict[str, object], said: str) -> None:
        with pytest.raises(
            CaseError, match=rf"fold 0: .*holds a result of other inputs \({said}\); pass another --output"
        ):
            bound(file, inputs(cases, settings), "fold 0")

    differs([case], {"epochs": 20}, "setting epochs was 10, is 20")
    differs([case], {"epochs": 10, "seed": 1}, "setting seed is new")
    differs([replace(case, patient="p2")], {"epochs": 10}, "case p1_t1 is other than it was")
    differs([replace(case, fold=1)], {"epochs": 10}, "case p1_t1 is other than it was")
    differs([replace(case, name="x")], {"epochs": 10}, "case p1_t1 is gone; case x is new")
    (tmp_path / "l.nii.gz").write_bytes(gzip.compress(b"lebal"))
    differs([case], {"epochs": 10}, "case p1_t1 is other than it was")
    differs(
        [], {str(i): 0 for i in range(9)}, r"case p1_t1 is gone; setting epochs is gone; setting 0 is new; and 8 more"
    )


def test_other_code_is_another_result(tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "inputs.json"
    bind(file, inputs([case]))
    monkeypatch.setattr(manifest, "code_digest", lambda: "other")
    with pytest.raises(CaseError, match="code custom_networks is other than it was"):
        bound(file, inputs([case]), "fold 0")


def test_a_damaged_binding_and_a_missing_file_are_sentences(tmp_path: Path, case: Case) -> None:
    (tmp_path / "inputs.json").write_text("{")
    with pytest.raises(CaseError, match=r"fold 0: .*not valid JSON"):
        bound(tmp_path / "inputs.json", inputs([case]), "fold 0")
    (tmp_path / "i.nii").unlink()
    with pytest.raises(CaseError, match=r"p1_t1: .*i\.nii cannot be read"):
        inputs([case])


def test_large_files_are_told_apart_by_time(tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "READ_WHOLE", 2)
    before = inputs([case])
    os.utime(tmp_path / "i.nii", (1, 1))
    assert inputs([case]) != before


def test_a_run_says_what_was_run(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text("{}")
    with record(tmp_path, "verb", {"datalist": str(tmp_path / "d.json"), "seed": 3}):
        warnings.warn("a word of warning", stacklevel=1)
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["verb"] == "verb"
    assert content["options"] == {"datalist": str(tmp_path / "d.json"), "seed": 3}
    assert list(content["inputs"]) == ["datalist"]
    assert {"python", "torch", "monai", "numpy", "platform"} <= set(content["versions"])
    assert content["seconds"] >= 0
    assert content["peak_memory_mib"] > 10
    assert content["warnings"] == ["UserWarning: a word of warning"]
    assert content["error"] == ""


def test_a_run_that_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(CaseError), record(tmp_path, "verb", {}):
        raise CaseError("c", "wrong", "do right")
    assert json.loads((tmp_path / "run.json").read_text())["error"] == "CaseError: c: wrong; do right."
    with record(tmp_path / "nowhere", "verb", {}):
        pass
    assert not (tmp_path / "nowhere").exists()


def test_a_refused_run_leaves_the_manifest_of_the_run_before(tmp_path: Path) -> None:
    with record(tmp_path, "plan", {}):
        pass
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(CaseError), record(tmp_path, "plan", {"workers": 3}):
        raise CaseError("datalist", "it has no cases", "pass another")
    assert (tmp_path / "run.json").read_bytes() == before
    # one that began to work and failed did change the folder
    with pytest.raises(OSError, match="full"), record(tmp_path, "plan", {"workers": 3}):
        raise OSError("disk full")
    assert "disk full" in (tmp_path / "run.json").read_text()


def test_what_may_name_a_patient_is_not_recorded(tmp_path: Path) -> None:
    def run() -> None:
        with record(tmp_path, "import", {"dicom_dir": "/exp/DOE", "seed": 1}, frozenset(["dicom_dir"])):
            warnings.warn("DOE^JANE", stacklevel=1)
            raise ValueError("Doe")

    with pytest.raises(ValueError, match="Doe"):
        run()
    text = (tmp_path / "run.json").read_text()
    assert "doe" not in text.lower()
    content = json.loads(text)
    assert content["options"] == {"dicom_dir": "not recorded", "seed": 1}
    assert content["warnings"] == ["1 not recorded"]
    assert content["error"] == "ValueError"


def test_the_commit_is_named_where_there_is_a_repository() -> None:
    commit = manifest.git_commit()
    if (Path(manifest.__file__).parents[2] / ".git").exists():
        assert len(commit.rstrip("+")) == 40
    else:
        assert commit == ""
