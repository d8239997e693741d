"""Bad input costs one case and one sentence; what cannot be evaluated at all is refused before anything is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("shape", "has shape (31, 24, 12), its image (32, 24, 12)"),
        ("affine", "lie on different grids (apart by 11.00 mm)"),
        ("fraction", "whole numbers"),
        ("value", "unknown label values [3, 6]"),
        ("truncated", "damaged"),
        ("four dimensions", "4-D"),
        ("label", "label"),
    ],
)
def test_one_bad_case_costs_one_sentence(
    cohort: Any, boxes: Any, capsys: pytest.CaptureFixture[str], damage: str, said: str
) -> None:
    save, label_map = boxes
    # the last case: all before it must not be lost
    file = cohort.folder / "pred/p2_t3.nii.gz"
    if damage == "shape":
        save(file, label_map()[1:])
    elif damage == "affine":
        save(file, label_map(), (2.0, 2.0, 4.0))
    elif damage == "fraction":
        save(file, label_map() * np.float32(0.4))
    elif damage == "value":
        save(file, label_map() * np.uint8(3))
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-60])
    elif damage == "four dimensions":
        nib.save(nib.Nifti1Image(label_map()[..., None], np.eye(4)), file)
    elif damage == "label":
        (cohort.folder / "labels/p2_t3.nii.gz").unlink()
    assert cohort.run("--pictures", "1") == 1
    captured = capsys.readouterr()
    sentence = next(text for text in captured.out.splitlines() if text.startswith("not measured: "))
    assert sentence.startswith("not measured: p2_t3: ")
    assert said in sentence
    assert "Traceback" not in captured.err
    table = cohort.table()
    assert sorted(set(table.index.get_level_values("case"))) == ["p0_t0", "p1_t1", "p2_t2"]
    assert cohort.table("summary.csv", "class", "metric").loc[("tumor", "dsc"), "n"] == 3
    assert "not measured: p2_t3" in (cohort.folder / "out/report.html").read_text()


@pytest.mark.parametrize("damage", ["shape", "affine", "absent"])
def test_an_image_on_another_grid_is_not_drawn(
    cohort: Any, boxes: Any, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    save, _ = boxes
    image = cohort.folder / "images/p0_t0.nii.gz"
    if damage == "absent":
        image.unlink()
    else:
        voxels = np.zeros((32, 24, 12 if damage == "affine" else 11), np.float32)
        save(image, voxels, (2.0, 2.0, 5.0 if damage == "shape" else 4.0))
    assert cohort.run("--pictures", "3") == 1
    assert "not drawn: p0_t0: " in capsys.readouterr().out
    names = {p.name for p in (cohort.folder / "out/pictures").iterdir()}
    assert names == {"boxplots.png", "median_p1_t1.png", "worst_p2_t3.png"}
    assert "not drawn: p0_t0" in (cohort.folder / "out/report.html").read_text()
    assert len(cohort.table()) == 8, "the figures need no image"


OPTIONS = {
    "labels as predictions": (["--predictions", "{}/labels"], "is the label of p0_t0"),
    "links to labels": (["--predictions", "{}/links"], "is the label of p0_t0"),
    "labels compared": (["--compare", "{}/labels"], "is the label of p0_t0"),
    "output is predictions": (["--output", "{}/pred"], "it is a folder of the data"),
    "output is labels": (["--output", "{}/pred/../labels"], "it is a folder of the data"),
    "nothing matches": (["--predictions", "{}/others"], "there is none for any of the 4 cases, such as p0_t0.nii.gz"),
    "all damaged": (["--predictions", "{}/damaged"], "unknown label values"),
    "no folder": (["--compare", "{}/nowhere"], "does not exist"),
    "no section": (["--section", "validation"], "choose training, testing"),
    "strata": (["--strata", "small,large"], "option --strata: 'small' is not a number"),
    "negative strata": (["--strata", "-3"], "is no list of volumes in ml"),
    "too many cases in the viewer": (["--viewer", "7"], "7 is no number of cases from 0 to 6"),
    "no yardstick": (["--yardstick", "{}/nowhere.json"], "the file does not exist"),
    "yardstick without source": (["--yardstick", "{}/own.json"], "entry 1 is not complete"),
    "unknown class": (["--classes", "uterus"], "'uterus' is no class"),
}


@pytest.mark.parametrize("what", OPTIONS)
def test_what_cannot_be_evaluated_is_refused_and_nothing_is_written(
    cohort: Any, boxes: Any, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    save, label_map = boxes
    folder: Path = cohort.folder
    save(folder / "others/other.nii.gz", label_map())
    (folder / "links").mkdir()
    for file in (folder / "labels").iterdir():
        (folder / "links" / file.name).symlink_to(file)
        save(folder / "damaged" / file.name, label_map() * np.uint8(3))
    (folder / "own.json").write_text(json.dumps([{"classes": ["organ"], "metric": "dsc", "value": 1}]))
    before = _files(folder)
    words, said = OPTIONS[what]
    assert cohort.run("--pictures", "0", *(word.format(folder) for word in words)) == 2
    _refused(cohort, capsys, said)
    assert _files(folder) == before


def _files(folder: Path) -> list[Path]:
    """All but the record that every verb keeps of its runs."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in {".run.lock", "run.json"})


def test_a_datalist_that_cannot_be_evaluated_is_refused(cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cases = cohort.cases()
    cohort.edit(testing=[{k: v for k, v in case.items() if k != "label"} for case in cases])
    assert cohort.run() == 2
    _refused(cohort, capsys, "no labelled case")
    cohort.edit(testing=[case | {"case": "p0_t0"} for case in cases])
    assert cohort.run() == 2
    _refused(cohort, capsys, "have this name")


def _refused(cohort: Any, capsys: pytest.CaptureFixture[str], said: str) -> None:
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("evaluate: ")
    assert said in error
    assert error.endswith(".")
    assert not _files(cohort.folder / "out")


def test_slashes_in_a_name_neither_fail_nor_leave_the_folder(cohort: Any, boxes: Any) -> None:
    save, label_map = boxes
    cases = cohort.cases()
    cases[0]["case"], cases[1]["case"] = "a/b", "../../p1"
    cohort.edit(testing=cases)
    # what lies outside under such a name is not taken for a prediction; SaveImaged's name is
    save(cohort.folder.parent / "p1.nii.gz", label_map(5))
    before = {p for p in cohort.folder.parent.rglob("*") if "out" not in p.parts}
    assert cohort.run("--pictures", "3") == 0
    names = {p.name for p in (cohort.folder / "out/pictures").iterdir()}
    assert {"best_a%2Fb.png", "median_%2E.%2F..%2Fp1.png"} <= names
    assert {p for p in cohort.folder.parent.rglob("*") if "out" not in p.parts} == before
    assert cohort.table().loc[("../../p1", "organ"), "dsc"] == pytest.approx(0.9)


def test_a_label_that_cannot_be_read_is_named_once_for_all_models(
    cohort: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(cohort.folder / "pred", cohort.folder / "same")
    (cohort.folder / "labels/p1_t1.nii.gz").write_bytes(b"")
    assert cohort.run("--pictures", "0", "--compare", str(cohort.folder / "same")) == 1
    assert capsys.readouterr().out.count("not measured: p1_t1") == 1
    row = cohort.table("statistics.csv", "class", "metric").loc[("organ", "dsc")]
    assert (row["cases"], row["difference"]) == (3, 0)


def test_one_case_alone_and_all_equal(cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cohort.edit(testing=cohort.cases()[:1])
    shutil.copytree(cohort.folder / "pred", cohort.folder / "same")
    assert cohort.run("--pictures", "3", "--compare", str(cohort.folder / "same")) == 0
    row = cohort.table("statistics.csv", "class", "metric").loc[("tumor", "dsc")]
    assert (row["cases"], row["difference"], row["p_permutation"]) == (1, 0, 1)
    assert np.isnan(row["p_anova"])
    summary = cohort.table("summary.csv", "class", "metric").loc[("tumor", "dsc")]
    assert np.isnan(summary[["sd", "ci_low", "ci_high"]].astype(float)).all()
    assert "nan" not in capsys.readouterr().out


def test_a_prediction_of_no_case_is_named(cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cohort.run("--pictures", "0", "--viewer", "0") == 0
    assert "is called so" not in capsys.readouterr().out
    # the other section's are no strangers
    cohort.edit(testing=cohort.cases()[1:], training=cohort.cases()[:1])
    shutil.copy(cohort.folder / "pred/p1_t1.nii.gz", cohort.folder / "pred/p1-t1.nii.gz")
    assert cohort.run("--pictures", "0", "--viewer", "0") == 0
    assert "not used, as no case of the datalist is called so: p1-t1.nii.gz" in capsys.readouterr().out
    assert "pred: p1-t1.nii.gz" in (cohort.folder / "out/report.html").read_text(encoding="utf-8")
