"""One bad file of three: `check`, `split`, `plan` and `preprocess` say so in one sentence, never with a traceback."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.__main__ import main
from scripts.data.check.check import check
from scripts.data.split.split import split
from tests.bad_volumes import AFFINE, IMAGES, LABELS, SHAPE

BUNDLE = Path(__file__).parents[3] / "bundles/organ_pocketnet"


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    entries = []
    for i in range(3):
        label = np.zeros(SHAPE, np.uint8)
        label[4:8, 4:8, 3:6] = 1
        image = np.random.default_rng(i).normal(100, 10, SHAPE).astype(np.float32)
        nib.save(nib.Nifti1Image(image, AFFINE), tmp_path / f"i{i}.nii.gz")
        nib.save(nib.Nifti1Image(label, AFFINE), tmp_path / f"l{i}.nii.gz")
        entries.append({"case": f"c{i}", "patient": f"p{i}", "image": f"i{i}.nii.gz", "label": f"l{i}.nii.gz"})
    content = {"labels": {"0": "background", "1": "organ"}, "modality": "MR", "training": entries, "testing": []}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    return tmp_path


def faults() -> list[tuple[str, str]]:
    return [*(("i1.nii.gz", name) for name in IMAGES), *(("l1.nii.gz", name) for name in LABELS)]


@pytest.mark.parametrize(("file", "fault"), faults())
def test_check_names_the_case_and_looks_at_the_others(cohort: Path, file: str, fault: str) -> None:
    make, words = {**IMAGES, **LABELS}[fault]
    make(cohort / file)
    assert check(datalist=str(cohort / "datalist.json"), sheet=False) == 1
    with (cohort / "check/check.csv").open() as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert words in rows["c1"]["findings"]
    assert rows["c1"]["verdict"] == "error"
    assert rows["c0"]["shape"] == rows["c2"]["shape"] == "12 x 10 x 8"
    assert {rows[name]["verdict"] for name in ("c0", "c2")} == {"ok"}


@pytest.mark.parametrize(("file", "fault"), faults())
def test_plan_leaves_it_out_and_says_so(
    cohort: Path, file: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = {**IMAGES, **LABELS}[fault]
    make(cohort / file)
    command = ["plan", "--datalist", str(cohort / "datalist.json"), "--bundle", str(BUNDLE)]
    assert main([*command, "--output", str(cohort / "plan.json")]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: c1: "))
    assert words in line
    reasons = json.loads((cohort / "plan.json").read_text())["_plan_"]
    assert reasons["cases"] == 2
    assert list(reasons["left out"]) == ["c1"]


@pytest.mark.parametrize("fault", LABELS)
def test_split_refuses_its_label(cohort: Path, fault: str) -> None:
    make, words = LABELS[fault]
    make(cohort / "l1.nii.gz")
    before = (cohort / "datalist.json").read_bytes()
    with pytest.raises(CaseError, match=r"^c1: ") as error:
        split(datalist=str(cohort / "datalist.json"), folds=2, test=0)
    assert words in str(error.value)
    assert (cohort / "datalist.json").read_bytes() == before


def test_split_names_every_label_that_it_cannot_use(cohort: Path) -> None:
    for i, fault in ((0, "NaN"), (2, "noise")):
        LABELS[fault][0](cohort / f"l{i}.nii.gz")
    with pytest.raises(CaseError, match=r"^2 cases: their labels cannot be used \(c0: label .*; c2: label .*leave"):
        split(datalist=str(cohort / "datalist.json"), folds=2, test=0)
