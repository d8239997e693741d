"""Folds, and what inference takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from custom_networks import CaseError, case_name, fold_split, inference_cases

CASES = [{"case": f"p{i}", "patient": f"p{i // 2}", "image": f"images/{i}.nii.gz", "fold": i // 2} for i in range(6)]


def written(folder: Path, content: Any) -> Path:
    path = folder / "datalist.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_folds() -> None:
    train, val = fold_split(CASES, 1)
    assert [c["case"] for c in val] == ["p2", "p3"]
    assert len(train) == 4
    assert fold_split(CASES, -1) == (CASES, CASES)
    # an external test set has no folds, and its evaluation does not want any
    assert fold_split([], 0) == ([], [])
    with pytest.raises(CaseError, match=r"fold 7: it has no validation cases \(folds present: 0, 1, 2\)"):
        fold_split(CASES, 7)
    with pytest.raises(CaseError, match="fold 0: it has no training cases"):
        fold_split(CASES[:2], 0)
    leak = [*CASES, {"patient": "p1", "image": "x", "fold": 0}]
    with pytest.raises(CaseError, match="patient p1 is in training and in validation"):
        fold_split(leak, 1)
    with pytest.raises(CaseError, match="x: it names no patient"):
        fold_split([*CASES, {"image": "x", "fold": 0}], 1)
    with pytest.raises(CaseError, match="x: it has no fold, others have; run `python -m scripts split` again"):
        fold_split([*CASES, {"image": "x", "patient": "new"}], 1)


def test_what_inference_takes(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nii", "notes.txt", "._a.nii", ".partial_x.nii.gz"):
        (tmp_path / name).write_text("")
    assert [case_name(c) for c in inference_cases(tmp_path)] == ["a", "b"]
    assert inference_cases(tmp_path / "a.nii") == [{"image": str(tmp_path / "a.nii")}]
    with pytest.raises(CaseError, match="no NIfTI image"):
        inference_cases(tmp_path / "nowhere")
    (tmp_path / "a.nii.gz").write_text("")
    with pytest.raises(CaseError, match="one name for their predictions"):
        inference_cases(tmp_path)
    with pytest.raises(CaseError, match="one name for their predictions"):
        inference_cases(written(tmp_path, {"testing": ["p1/t2.nii.gz", "p2/t2.nii.gz"]}))
    with pytest.raises(CaseError, match="'testing' is empty"):
        inference_cases(written(tmp_path, {"training": ["p1/t2.nii.gz"], "testing": []}))
