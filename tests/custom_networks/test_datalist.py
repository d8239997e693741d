import json

import pytest

from custom_networks import CaseError, case_name, fold_split, inference_cases, read_datalist

CASES = [{"case": f"p{i}", "patient": f"p{i // 2}", "image": f"images/{i}.nii.gz", "fold": i // 2} for i in range(6)]


def test_paths_become_absolute_and_nothing_else_changes(tmp_path):
    (tmp_path / "datalist.json").write_text(json.dumps({"training": CASES, "testing": ["a.nii.gz"]}))
    cases = read_datalist(tmp_path / "datalist.json")
    assert cases[0] == {**CASES[0], "image": str(tmp_path / "images/0.nii.gz")}
    assert read_datalist(tmp_path / "datalist.json", "elsewhere", "testing") == [{"image": "elsewhere/a.nii.gz"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "does not exist"), ("{", "not valid JSON"), ("{}", "no list named"), ('{"training": [{"label": "x"}]}', "no image"),
     ("[]", "no list named"), ('{"training": [5]}', "no image"), ('{"training": [{"image": 5}]}', "no image")],
)  # fmt: skip
def test_bad_datalists(tmp_path, text, message):
    if text is not None:
        (tmp_path / "d.json").write_text(text)
    with pytest.raises(CaseError, match=message):
        read_datalist(tmp_path / "d.json")


def test_folds():
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


def test_what_inference_takes(tmp_path):
    for name in ("b.nii.gz", "a.nii", "notes.txt"):
        (tmp_path / name).write_text("")
    assert [case_name(c) for c in inference_cases(tmp_path)] == ["a", "b"]
    assert inference_cases(tmp_path / "a.nii") == [{"image": str(tmp_path / "a.nii")}]
    with pytest.raises(CaseError, match="no NIfTI image"):
        inference_cases(tmp_path / "nowhere")
    (tmp_path / "a.nii.gz").write_text("")
    with pytest.raises(CaseError, match="one name for their predictions"):
        inference_cases(tmp_path)
    (tmp_path / "d.json").write_text(json.dumps({"testing": ["p1/t2.nii.gz", "p2/t2.nii.gz"]}))
    with pytest.raises(CaseError, match="one name for their predictions"):
        inference_cases(tmp_path / "d.json")
    (tmp_path / "d.json").write_text(json.dumps({"testing": []}))
    with pytest.raises(CaseError, match="'testing' is empty"):
        inference_cases(tmp_path / "d.json")
