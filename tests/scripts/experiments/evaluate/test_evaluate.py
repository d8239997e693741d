"""The verb end to end on small files whose right answers are known."""

from __future__ import annotations

import base64
import gzip
import inspect
import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from scripts.core.page.viewer import within
from scripts.experiments.evaluate import pictures
from scripts.experiments.evaluate.evaluate import evaluate
from scripts.experiments.evaluate.significance import TESTS


def test_values_in_mm_and_ml(cohort: Any) -> None:
    assert cohort.run("--pictures", "0") == 0
    table = cohort.table()
    # the organ holds the tumour: 10 x 8 x 4 voxels of 20 mm3
    assert table.loc[("p0_t0", "organ"), "label_ml"] == pytest.approx(6.4)
    assert table.loc[("p0_t0", "tumor"), "label_ml"] == pytest.approx(0.64)
    assert table.loc[("p0_t0", "organ"), ["dsc", "nsd", "hd95_mm", "asd_mm"]].tolist() == [1, 1, 0, 0]
    assert table.loc[("p1_t1", "organ"), "dsc"] == pytest.approx(0.9)
    assert table.loc[("p1_t1", "organ"), "hd95_mm"] == pytest.approx(2.0), "one voxel is 2 mm"
    assert table.loc[("p2_t2", "tumor"), "hd95_mm"] == pytest.approx(4.0)
    missed = table.loc[("p2_t3", "tumor")]
    assert (missed["outcome"], missed["dsc"], missed["nsd"], missed["missed"]) == ("missed", 0, 0, 1)
    assert np.isnan(missed["hd95_mm"])
    assert (missed["volume_error_ml"], missed["volume_error_percent"]) == (pytest.approx(-0.64), -100)
    dsc = cohort.table("summary.csv", "class", "metric").loc[("tumor", "dsc")]
    assert (dsc["n"], dsc["missed"], dsc["cases"], dsc["patients"]) == (4, 1, 4, 3)
    assert dsc["mean"] == pytest.approx((1 + 0.75 + 0.5 + 0) / 4)
    assert dsc["mean_by_patient"] == pytest.approx((1 + 0.75 + 0.25) / 3)
    assert dsc["median"] == pytest.approx(0.625)
    assert cohort.table("summary.csv", "class", "metric").loc[("tumor", "hd95_mm"), "n"] == 3


def test_tolerance_of_the_surface_dice(cohort: Any) -> None:
    """The tumour of the second case is one voxel of 2 mm off."""
    scores = []
    for tolerance in ("1.9", "2.1"):
        assert cohort.run("--pictures", "0", "--tolerance", tolerance) == 0
        scores.append(cohort.table().loc[("p1_t1", "tumor"), "nsd"])
        assert f"within {tolerance} mm" in (cohort.folder / "out/report.html").read_text()
    assert scores[0] < 0.9
    assert scores[1] == 1


PRINTED = """\
class              metric                  n   mean    SD  median       quartiles  patients  mean by patient   95 % interval  missed  false pos.    experts
-----------------  -----------------  ------  -----  ----  ------  --------------  --------  ---------------  --------------  ------  ----------  ---------
tumor              DSC                4 of 4  0.562  0.427   0.625  0.375 to 0.812         3            0.667  0.000 to 1.000       1           0  0.780 [1]
tumor              HD95 (mm)          3 of 4    2.0   2.0     2.0      1.0 to 3.0         3              2.0      0.0 to 7.0       1           0
tumor              volume error (ml)  4 of 4   -0.2   0.3     0.0     -0.2 to 0.0         3             -0.1     -0.6 to 0.4       1           0
tumor              volume error (%)   4 of 4  -25.0  50.0     0.0    -25.0 to 0.0         3            -16.7    -88.4 to 55.0       1           0
"""


def test_what_is_printed(cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cohort.run("--pictures", "0") == 0
    printed = capsys.readouterr().out
    squeezed = {re.sub(" +", " ", text).strip() for text in printed.splitlines()}
    for text in PRINTED.splitlines():
        if not text.startswith("-"):
            assert re.sub(" +", " ", text).strip() in squeezed
    text = " ".join(printed.split())
    assert "DSC and NSD count a missed or falsely found class as 0." in text
    assert "Fewer than 20 patients: the interval holds for scores without misses" in text
    assert "it is optimistic" in text
    assert printed.rstrip().endswith(f"{cohort.folder / 'out'}: cases.csv, summary.csv, pictures/, report.html")


def test_a_missing_prediction_is_a_miss_and_the_rest_is_written(
    cohort: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (cohort.folder / "pred/p1_t1.nii.gz").unlink()
    assert cohort.run("--pictures", "1") == 1
    assert "1 of 4 predictions are missing and count as missed: p1_t1" in capsys.readouterr().out
    table = cohort.table()
    assert table.loc[("p1_t1", "organ"), "outcome"] == "no prediction"
    assert table.loc[("p1_t1", "organ"), "dsc"] == 0
    summary = cohort.table("summary.csv", "class", "metric")
    assert summary.loc[("organ", "dsc"), ["n", "missed"]].tolist() == [4, 1]
    assert "count as missed: p1_t1" in (cohort.folder / "out/report.html").read_text()


def test_comparison_of_three_models(cohort: Any, boxes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    save, label_map = boxes
    for i in range(4):
        name = f"p{min(i, 2)}_t{i}"
        save(cohort.folder / f"second/{name}/{name}_pred.nii.gz", label_map())
        save(cohort.folder / f"third/{name}_pred.nii.gz", label_map(3))
    others = f"{cohort.folder / 'second'},{cohort.folder / 'third'}"
    assert cohort.run("--pictures", "0", "--compare", others) == 0
    tests = cohort.table("statistics.csv", "class", "metric", "model_b")
    row = tests.loc[("tumor", "hd95_mm", "second")]
    assert (row["cases"], row["left_out"], row["model_a"]) == (3, 1, "pred")
    # differences 0, 2, 4 mm: of 8 sign patterns, the 4 with equal signs of the last two reach the observed sum
    assert row["p_permutation"] == pytest.approx(0.5)
    assert row["difference"] == pytest.approx(2.0)
    assert 0 < row["p_friedman"] < 1
    assert ("mean over classes", "dsc", "third") in tests.index
    for name in ("second", "third"):
        assert (cohort.folder / f"out/compare/{name}/cases.csv").is_file()
    printed = " ".join(capsys.readouterr().out.split())
    assert "ANOVA: one-way, over all models (preprint). Ignores that the models saw the same cases" in printed
    page = (cohort.folder / "out/report.html").read_text()
    assert "Models compared" in page
    assert "third" in page.split('id="s-distributions"')[1].split("</section>")[0], "a row of the charts for each model"
    # without the others, nothing of them is left to be read as today's
    assert cohort.run("--pictures", "0") == 0
    assert not (cohort.folder / "out/statistics.csv").exists()
    assert not list((cohort.folder / "out").glob("compare/*/*.csv"))


def test_false_positive_and_absent(cohort: Any, boxes: Any) -> None:
    save, label_map = boxes
    save(cohort.folder / "labels/p0_t0.nii.gz", label_map(tumor=False))
    save(cohort.folder / "labels/p2_t3.nii.gz", label_map(tumor=False))
    assert cohort.run("--pictures", "2") == 0
    table = cohort.table()
    found = table.loc[("p0_t0", "tumor")]
    assert found[["outcome", "dsc", "volume_error_ml"]].tolist() == ["false positive", 0, pytest.approx(0.64)]
    assert np.isnan(found["volume_error_percent"]), "there is no volume to take a percentage of"
    absent = table.loc[("p2_t3", "tumor")]
    assert absent["outcome"] == "absent"
    assert absent[["dsc", "nsd", "volume_error_ml"]].isna().all()
    summary = cohort.table("summary.csv", "class", "metric")
    assert summary.loc[("tumor", "dsc"), ["n", "cases", "false_positive", "missed"]].tolist() == [3, 3, 1, 0]


def test_strata_of_tumour_size(cohort: Any, boxes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    save, label_map = boxes
    big = label_map()
    big[big > 0] = 2
    save(cohort.folder / "labels/p0_t0.nii.gz", big)
    assert cohort.run("--pictures", "0", "--strata", "1") == 0
    strata = cohort.table("strata.csv", "stratum", "metric")
    assert strata.loc[("under 1.0 ml", "dsc"), ["n", "missed"]].tolist() == [3, 1]
    assert strata.loc[("from 1.0 ml", "dsc"), "mean"] == pytest.approx(2 * 32 / (320 + 32))
    assert "under 1.0 ml" in capsys.readouterr().out
    assert "By true volume of tumor" in (cohort.folder / "out/report.html").read_text()
    # four cases are too few for thirds, and the strata of the run before are gone
    assert cohort.run("--pictures", "0") == 0
    assert not (cohort.folder / "out/strata.csv").exists()


def test_a_label_called_tumour_is_inside_the_organ_too(cohort: Any) -> None:
    assert cohort.run("--pictures", "0") == 0
    expected = cohort.table().loc[("p2_t3", "organ"), "dsc"]
    cohort.edit(labels={"0": "background", "1": "Organ", "2": "Tumour"})
    assert cohort.run("--pictures", "1") == 0
    assert cohort.table().loc[("p2_t3", "Organ"), "dsc"] == expected
    assert "by DSC of Tumour" in (cohort.folder / "out/report.html").read_text()


def test_pictures_of_an_earlier_run_are_gone(cohort: Any) -> None:
    assert cohort.run("--pictures", "3") == 0
    pictures = cohort.folder / "out/pictures"
    names = {"boxplots.png", "best_p0_t0.png", "median_p1_t1.png", "worst_p2_t3.png"}
    assert {p.name for p in pictures.iterdir()} == names
    assert cohort.run("--pictures", "1") == 0
    assert {p.name for p in pictures.iterdir()} == {"boxplots.png", "median_p1_t1.png"}


def test_a_yardstick_of_ones_own(cohort: Any) -> None:
    figure = {
        "classes": ["organ"],
        "modality": "",
        "metric": "dsc",
        "value": 0.9,
        "what": "our two readers",
        "source": "X",
    }
    (cohort.folder / "own.json").write_text(json.dumps([figure]))
    assert cohort.run("--pictures", "0", "--yardstick", str(cohort.folder / "own.json")) == 0
    page = (cohort.folder / "out/report.html").read_text()
    assert "our two readers: DSC 0.9 (X)" in page
    assert "0.900 [1]" in page
    assert "Hodneland" not in page


def test_csv_files_hold_what_was_computed(cohort: Any) -> None:
    """Ten figures, empty cells for what does not exist, and no cell that a spreadsheet would run."""
    cases = cohort.cases()
    cases[0]["patient"] = "=HYPERLINK(1)"
    cohort.edit(testing=cases)
    assert cohort.run("--pictures", "0") == 0
    text = (cohort.folder / "out/cases.csv").read_text()
    assert "nan" not in text
    assert "'=HYPERLINK(1)" in text
    raw = pd.read_csv(cohort.folder / "out/cases.csv", dtype=str).set_index(["case", "class"])
    assert raw.loc[("p2_t3", "organ"), "dsc"] == "0.8"
    assert re.fullmatch(r"0\.\d{9,10}", raw.loc[("p1_t1", "organ"), "asd_mm"])


def in_the_viewer(page: str) -> dict[str, Any]:
    """What the page's viewer is told of cases and labels."""
    found = re.search(r'<script type="application/json" id="viewer-cases">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


def test_the_viewer_is_given_the_cases_of_the_first_model_and_the_names_of_the_labels(cohort: Any, boxes: Any) -> None:
    save, label_map = boxes
    cohort.edit(labels={"0": "background", "1": "Organ & more", "2": "tumor"})
    for case in cohort.cases():
        save(cohort.folder / f"second/{case['case']}.nii.gz", label_map(5))
    options = ["--classes", '{"organ": [1, 2], "tumor": [2]}', "--compare", str(cohort.folder / "second")]
    assert cohort.run("--pictures", "0", "--viewer", "3", *options) == 0
    page = (cohort.folder / "out/report.html").read_text()
    shown = in_the_viewer(page)
    assert [case["caption"].split(":")[0] for case in shown["cases"]] == ["p2_t3", "p1_t1", "p0_t0"]
    assert {label["value"]: label["name"] for label in shown["labels"]} == {1: "Organ & more", 2: "tumor"}
    assert "Too large for this page" not in page
    for index, (name, values) in enumerate((("p2_t3", {1}), ("p1_t1", {1, 2}))):
        text = re.search(f'id="viewer-{index}-prediction">(.*?)</script>', page)
        assert text
        given = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text[1])))
        voxels, own = (np.asarray(file.dataobj) for file in (given, nib.load(cohort.folder / f"pred/{name}.nii.gz")))
        assert set(np.unique(voxels)) - {0} == values
        # cropped to 20 mm around both: the place is told by the affine
        corners = [
            nib.affines.apply_affine(a, np.argwhere(v > 0).min(axis=0))
            for v, a in ((voxels, given.affine), (own, np.diag([-2.0, -2.0, 5.0, 1.0])))
        ]
        assert corners[0] == pytest.approx(corners[1])


def test_cases_that_the_page_cannot_hold_are_named_even_where_none_is_left(cohort: Any, monkeypatch: Any) -> None:
    sentence = "Too large for this page: {}: worst, DSC of tumor 0.000"
    for cases_kept in (1, 0):
        monkeypatch.setattr(
            pictures, "within", lambda cases, kept=cases_kept: within(cases, sum(c.size for c in cases[:kept]))
        )
        assert cohort.run("--pictures", "0", "--viewer", "2") == 0
        page = (cohort.folder / "out/report.html").read_text()
        assert ("niivue.Niivue(" in page) == bool(cases_kept)
        if cases_kept:
            assert [case["caption"][:5] for case in in_the_viewer(page)["cases"]] == ["p2_t3"]
            assert "Too large for this page: p0_t0: best" in page
        else:
            assert sentence.format("p2_t3") in page
            assert "p0_t0: best, DSC of tumor 1.000." in page
    assert cohort.run("--pictures", "0", "--viewer", "0") == 0
    assert 'id="s-viewer"' not in (cohort.folder / "out/report.html").read_text()


def test_what_only_the_viewer_reads_is_told_where_it_cannot_be_read(
    cohort: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (cohort.folder / "images/p1_t1.nii.gz").unlink()
    assert cohort.run("--pictures", "0") == 1
    assert "not drawn: p1_t1: " in capsys.readouterr().out
    page = (cohort.folder / "out/report.html").read_text()
    assert "not drawn: p1_t1: " in page
    assert [case["caption"][:5] for case in in_the_viewer(page)["cases"]] == ["p2_t3", "p2_t2", "p0_t0"]


def test_the_trainings_behind_the_predictions(cohort: Any) -> None:
    """Their curves and which weights they left: named by the user, or those beside a cross-validation's predictions."""
    training = cohort.folder / "cv/fold3"
    training.mkdir(parents=True)
    (training / "log.txt").write_text(
        "x - INFO - Epoch[1] Metrics -- train_loss: 0.9 \nx - INFO - Epoch[2] Metrics -- train_loss: 0.8 \n"
    )
    record = {"evaluation": {"checkpoint": "final", "weights": "0123456789abcdef"}}
    (training / "training.json").write_text(json.dumps(record))
    (cohort.folder / "pred").rename(cohort.folder / "cv/out_of_fold")
    (cohort.folder / "elsewhere").symlink_to(cohort.folder / "cv/out_of_fold")
    beside = ["--predictions", str(cohort.folder / "cv/out_of_fold")]
    named = ["--predictions", str(cohort.folder / "elsewhere"), "--training", str(training)]
    for options in (beside, named):
        assert cohort.run("--pictures", "0", "--viewer", "0", *options) == 0
        page = (cohort.folder / "out/report.html").read_text()
        assert "Learning curves" in page
        assert "<title>fold3: 0.8</title>" in page
        assert "fold3 final (0123456789ab)" in page
    assert cohort.run("--pictures", "0", "--viewer", "0", *named[:2]) == 0
    assert "Learning curves" not in (cohort.folder / "out/report.html").read_text()


def test_every_option_is_in_the_docs() -> None:
    text = (Path(__file__).resolve().parents[4] / "docs/evaluation.md").read_text()
    for name in inspect.signature(evaluate).parameters:
        assert f"--{name}" in text
    for heading, _ in TESTS.values():
        assert f"| {heading} |" in text
