"""What cannot be fitted or read, each in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.core.predictions import MADE_BY, write_made_by
from scripts.experiments.quality.file import read_quality
from scripts.experiments.quality.model import fit
from scripts.experiments.quality.signs import Signs


def said(cohort: Any, capsys: Any, *extra: str) -> str:
    assert cohort.run(*extra) == 2
    err = str(capsys.readouterr().err)
    assert len(err.strip().splitlines()) == 1
    assert not (cohort.folder / "out").exists()
    return err


def test_bad_input_of_the_verb(cohort: Any, capsys: Any) -> None:
    assert "'lump' is no structure; name one of box" in said(cohort, capsys, "--thresholds", '{"lump": 0.5}')
    assert "73 of box is no DSC" in said(cohort, capsys, "--thresholds", '{"box": 73}')
    assert "'organ' is no class" in said(cohort, capsys, "--classes", "organ")
    assert "section 'testing'" in said(cohort, capsys, "--section", "testing")
    (cohort.folder / "empty").mkdir()
    empty = said(cohort, capsys, "--predictions", str(cohort.folder / "empty"))
    assert "there is none for a labelled case" in empty
    assert "40 of 40 cases have a DSC below 0.990" in said(cohort, capsys, "--thresholds", '{"box": 0.99}')
    file = cohort.folder / "pred" / MADE_BY
    file.write_text('{"entropy": 1}')
    assert "it is damaged" in said(cohort, capsys)
    write_made_by(file.parent, ["a" * 64], {}, networks=5)
    assert "each predicted by 5 networks, all but one of which were trained on them" in said(cohort, capsys)


def test_too_few_cases(cohort: Any, capsys: Any) -> None:
    cohort.edit(lambda content: content.update(training=content["training"][:19]))
    assert "19 cases in which it was found and drawn are too few" in said(cohort, capsys)


def test_one_bad_case_stops_none_of_the_others(cohort: Any, capsys: Any) -> None:
    image = nib.load(cohort.folder / "pred/c05.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([1.0, 1, 1, 1])), cohort.folder / "pred/c05.nii.gz")
    (cohort.folder / "labels/c06.nii.gz").write_bytes(b"no")
    assert cohort.run() == 1
    out = capsys.readouterr().out
    assert "c05: " in out
    assert "c06: " in out
    assert cohort.fitted["models"]["box"]["cases"] == 38


def test_one_kind_of_contour_or_one_patient_is_no_cohort() -> None:
    rng = np.random.default_rng(0)
    signs = [Signs("a", 1.0, entropy=float(rng.uniform())) for _ in range(30)]
    same = [(sign, 0.8, f"p{i}") for i, sign in enumerate(signs)]
    with pytest.raises(CaseError, match=r"structure a: 0 of 30 cases have a DSC below 0\.800"):
        fit("a", same)
    # every bad one is of one patient
    one = [(sign, 0.3 if i < 8 else 0.8, "bad" if i < 8 else f"p{i}") for i, sign in enumerate(signs)]
    with pytest.raises(CaseError, match="of too few patients"):
        fit("a", one, 0.5)
    dull = [(Signs("a", 1.0), 0.3 if i < 8 else 0.8, f"p{i}") for i in range(30)]
    with pytest.raises(CaseError, match="no sign differs"):
        fit("a", dull)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("models"),
        lambda c: c["models"]["box"].update(coefficients=[1.0]),
        lambda c: c["models"]["box"].update(intercept=float("nan")),
        lambda c: c["models"]["box"].update(features=["age"] * len(c["models"]["box"]["features"])),
        lambda c: c["models"]["box"]["scales"].__setitem__(0, 0.0),
        lambda c: c["usual"].update(box={}),
    ],
)
def test_damaged_files_are_refused(cohort: Any, tmp_path: Path, change: Any) -> None:
    cohort.run()
    content = cohort.fitted
    change(content)
    (tmp_path / "q.json").write_text(json.dumps(content))
    with pytest.raises(CaseError, match=r"q\.json: it is not one"):
        read_quality(tmp_path / "q.json")
