"""The verb end to end on small files whose right answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from custom_networks.errors import CaseError
from scripts.__main__ import main
from scripts.experiments.evaluate.evaluate import evaluate
from scripts.experiments.evaluate.measure import find_prediction, read_classes, same_grid

SPACING = (2.0, 2.0, 5.0)


def save(path: Path, voxels: np.ndarray, spacing: tuple[float, ...] = SPACING) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])), path)


def label_map(shift: int = 0, tumor: bool = True) -> np.ndarray:
    """An organ of 10 x 8 x 4 voxels holding a tumour of 4 x 4 x 2, moved by `shift` voxels of 2 mm."""
    voxels = np.zeros((32, 24, 12), dtype=np.uint8)
    voxels[6 + shift : 16 + shift, 6:14, 4:8] = 1
    if tumor:
        voxels[8 + shift : 12 + shift, 8:12, 5:7] = 2
    return voxels


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Four cases of three patients; predictions are the truth moved by 0, 1, 2 voxels, and one without its tumour."""
    rng = np.random.default_rng(0)
    cases = []
    for i in range(4):
        name = f"p{min(i, 2)}_t{i}"
        save(
            tmp_path / f"images/{name}.nii.gz", rng.normal(100, 20, (32, 24, 12)).astype(np.float32) + 50 * label_map()
        )
        save(tmp_path / f"labels/{name}.nii.gz", label_map())
        save(tmp_path / f"pred/{name}.nii.gz", label_map(min(i, 2), tumor=i < 3))
        cases.append(
            {
                "case": name,
                "patient": f"p{min(i, 2)}",
                "image": f"images/{name}.nii.gz",
                "label": f"labels/{name}.nii.gz",
            }
        )
    content = {
        "labels": {"0": "background", "1": "organ", "2": "tumor"},
        "modality": "mr",
        "training": [],
        "testing": cases,
    }
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    return tmp_path


def run(cohort: Path, *extra: str) -> int:
    return main(
        [
            "evaluate",
            "--datalist",
            str(cohort / "datalist.json"),
            "--predictions",
            str(cohort / "pred"),
            "--output",
            str(cohort / "out"),
            *extra,
        ]
    )


def test_values_in_mm_and_ml(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cohort, "--pictures", "0") == 0
    table = pd.read_csv(cohort / "out/cases.csv").set_index(["case", "class"])
    # the organ holds the tumour: 10 x 8 x 4 voxels of 20 mm3
    assert table.loc[("p0_t0", "organ"), "label_ml"] == pytest.approx(6.4)
    assert table.loc[("p0_t0", "tumor"), "label_ml"] == pytest.approx(0.64)
    assert table.loc[("p0_t0", "organ"), ["dsc", "hd95_mm", "asd_mm"]].tolist() == [1, 0, 0]
    assert table.loc[("p1_t1", "organ"), "dsc"] == pytest.approx(0.9)
    assert table.loc[("p1_t1", "organ"), "hd95_mm"] == pytest.approx(2.0), "one voxel is 2 mm"
    assert table.loc[("p2_t2", "tumor"), "hd95_mm"] == pytest.approx(4.0)
    missed = table.loc[("p2_t3", "tumor")]
    assert (missed["outcome"], missed["dsc"], missed["missed"]) == ("missed", 0, 1)
    assert np.isnan(missed["hd95_mm"])
    summary = pd.read_csv(cohort / "out/summary.csv").set_index(["class", "metric"])
    dsc = summary.loc[("tumor", "dsc")]
    assert (dsc["n"], dsc["missed"], dsc["cases"], dsc["patients"]) == (4, 1, 4, 3)
    assert dsc["mean"] == pytest.approx((1 + 0.75 + 0.5 + 0) / 4)
    assert dsc["median"] == pytest.approx(0.625)
    assert summary.loc[("tumor", "hd95_mm"), "n"] == 3
    printed = capsys.readouterr().out
    assert "3 of 4" in printed
    assert "0.625" in printed


def test_pictures_and_page(cohort: Path) -> None:
    assert run(cohort, "--pictures", "3") == 0
    pictures = {p.name for p in (cohort / "out/pictures").iterdir()}
    assert pictures == {"boxplots.png", "best_p0_t0.png", "median_p1_t1.png", "worst_p2_t3.png"}
    page = (cohort / "out/report.html").read_text()
    for name in pictures:
        assert f"src='pictures/{name}'" in page
    assert "http" not in page


def test_a_missing_prediction_is_a_miss_and_the_rest_is_written(
    cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cohort / "pred/p1_t1.nii.gz").unlink()
    assert run(cohort, "--pictures", "1") == 1
    assert "1 of 4 predictions are missing" in capsys.readouterr().out
    table = pd.read_csv(cohort / "out/cases.csv").set_index(["case", "class"])
    assert table.loc[("p1_t1", "organ"), "outcome"] == "no prediction"
    assert table.loc[("p1_t1", "organ"), "dsc"] == 0
    summary = pd.read_csv(cohort / "out/summary.csv").set_index(["class", "metric"])
    assert summary.loc[("organ", "dsc"), ["n", "missed"]].tolist() == [4, 1]
    assert (cohort / "out/report.html").is_file()


def test_comparison_of_two_models(cohort: Path) -> None:
    for i in range(4):
        save(cohort / f"second/p{min(i, 2)}_t{i}/p{min(i, 2)}_t{i}_pred.nii.gz", label_map())
    assert run(cohort, "--pictures", "0", "--compare", str(cohort / "second")) == 0
    tests = pd.read_csv(cohort / "out/statistics.csv").set_index(["class", "metric"])
    row = tests.loc[("tumor", "hd95_mm")]
    assert (row["cases"], row["left_out"], row["model_b"]) == (3, 1, "second")
    # differences 0, 2, 4 mm: of 8 sign patterns, the 4 with equal signs of the last two reach the observed sum
    assert row["p_permutation"] == pytest.approx(0.5)
    assert row["difference"] == pytest.approx(2.0)
    assert (cohort / "out/compare/second/cases.csv").is_file()


def test_false_positive_and_absent(cohort: Path) -> None:
    save(cohort / "labels/p0_t0.nii.gz", label_map(tumor=False))
    save(cohort / "labels/p2_t3.nii.gz", label_map(tumor=False))
    assert run(cohort, "--pictures", "2") == 0
    table = pd.read_csv(cohort / "out/cases.csv").set_index(["case", "class"])
    assert table.loc[("p0_t0", "tumor"), ["outcome", "dsc"]].tolist() == ["false positive", 0]
    assert table.loc[("p2_t3", "tumor"), "outcome"] == "absent"
    summary = pd.read_csv(cohort / "out/summary.csv").set_index(["class", "metric"])
    assert summary.loc[("tumor", "dsc"), ["n", "cases", "false_positive", "missed"]].tolist() == [3, 3, 1, 0]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("shape", "has shape"),
        ("affine", "another grid"),
        ("fraction", "whole numbers"),
        ("value", "unknown label values"),
        ("truncated", "damaged"),
        ("folder", "does not exist"),
        ("unlabelled", "no labelled case"),
        ("section", "choose training or testing"),
    ],
)
def test_bad_input_is_named_in_one_sentence(
    cohort: Path, capsys: pytest.CaptureFixture[str], damage: str, said: str
) -> None:
    file, extra = cohort / "pred/p1_t1.nii.gz", []
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
    elif damage == "folder":
        extra = ["--compare", str(cohort / "nowhere")]
    elif damage == "unlabelled":
        content = json.loads((cohort / "datalist.json").read_text())
        content["testing"] = [{k: v for k, v in case.items() if k != "label"} for case in content["testing"]]
        (cohort / "datalist.json").write_text(json.dumps(content))
    elif damage == "section":
        extra = ["--section", "validation"]
    assert run(cohort, "--pictures", "0", *extra) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_classes(tmp_path: Path) -> None:
    file = tmp_path / "datalist.json"

    def write(**content: object) -> Path:
        file.write_text(json.dumps({"testing": ["a.nii.gz"], **content}))
        return file

    mr = {"0": "background", "1": "organ", "2": "tumor"}
    assert read_classes(write(labels=mr))[0] == {"organ": [1, 2], "tumor": [2]}
    assert read_classes(write(labels=mr), "tumor")[0] == {"tumor": [2]}
    assert read_classes(write(labels=mr), {"rim": [1]})[0] == {"rim": [1]}
    assert read_classes(write(labels=mr, regions={"organ": [1], "tumor": 2}))[0] == {"organ": [1], "tumor": [2]}
    ct = {"0": "background", "1": "HR-CTV", "2": "bladder"}
    assert read_classes(write(labels=ct)) == ({"HR-CTV": [1], "bladder": [2]}, [0, 1, 2])
    for content, wanted in (
        ({"labels": mr}, "uterus"),
        ({}, None),
        ({"regions": {"organ": []}}, None),
        ({"regions": [1]}, None),
    ):
        with pytest.raises(CaseError):
            read_classes(write(**content), wanted)


def test_predictions_are_found_by_case_and_as_monai_saves_them(tmp_path: Path) -> None:
    case = {"case": "p1_t1", "image": "images/scan.nii.gz"}
    assert find_prediction(tmp_path, case) is None
    for name in ("scan/scan_pred.nii.gz", "scan_pred.nii", "p1_t1_pred.nii.gz", "p1_t1.nii.gz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert find_prediction(tmp_path, case) == path, "the later ones are nearer to the case's name"


def test_the_same_grid_allows_rounding_only() -> None:
    affine = np.diag([0.5, 0.5, 5.0, 1.0])
    nearly = affine.copy()
    nearly[0, 3] = 0.01
    assert same_grid(((8, 8, 8), affine), ((8, 8, 8), nearly)) is None
    flipped = affine @ np.diag([-1.0, 1, 1, 1])
    assert same_grid(((8, 8, 8), affine), ((8, 8, 8), flipped)) is not None


def test_two_cases_of_one_name_are_refused(cohort: Path) -> None:
    content = json.loads((cohort / "datalist.json").read_text())
    content["testing"][1]["case"] = content["testing"][0]["case"]
    (cohort / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(CaseError, match="two cases"):
        evaluate(str(cohort / "datalist.json"), str(cohort / "pred"), str(cohort / "out"))
