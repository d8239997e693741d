"""The verb as users run it."""

import csv
import json
from typing import Any

import pytest

from scripts.__main__ import main


def run(cohort: Any, *words: str) -> int:
    return main(["fractions", str(cohort.datalist), str(cohort.folder / "out"), *words])


def table(cohort: Any, name: str) -> list[dict[str, str]]:
    with (cohort.folder / "out" / name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_page_per_patient_and_tables(cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cohort, "--external_dose", "45", "--external_fractions", "25") == 0
    out = cohort.folder / "out"
    assert {file.name for file in out.glob("*.html")} == {"a.html", "b.html"}
    assert json.loads((out / "run.json").read_text())["verb"] == "fractions"
    rows = {(row["case"], row["structure"]): row for row in table(cohort, "contours.csv")}
    assert len(rows) == 8
    assert float(rows["a2", "HR-CTV"]["dsc_previous"]) == pytest.approx(0.704, abs=0.02)
    assert rows["a2", "HR-CTV"]["jump"] == ""
    assert "HR-CTV, fraction 3 against fraction 2: DSC" in rows["a3", "HR-CTV"]["jump"]
    assert f"a: {rows['a3', 'HR-CTV']['jump']}" in capsys.readouterr().out
    # 12 x 4 x 4 voxels of 8 mm3
    assert float(rows["b1", "Rectum"]["volume_ml"]) == pytest.approx(1.536)
    doses = {(row["case"], row["structure"], row["measure"]): row for row in table(cohort, "dose.csv")}
    # by hand: 45 Gy in 25 are 44.25 Gy at 10 Gy, then 7, 6 and 5 Gy
    found = [float(doses[case, "HR-CTV", "D90"]["accumulated_eqd2"]) for case in ("a1", "a2", "a3")]
    assert found == pytest.approx([44.25 + 119 / 12, 44.25 + 119 / 12 + 8, 44.25 + 119 / 12 + 8 + 6.25], rel=1e-5)
    assert doses["b1", "Rectum", "D2cm3"]["remark"].startswith("fraction 1: the structure has 1.54 cm3")


def test_predictions_in_place_of_labels(cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a1", "a2", "a3"):
        (cohort.folder / f"data/labels/{name}.nii.gz").unlink()
    cohort.edit(lambda content: [entry.pop("label") for entry in content["testing"]])
    (cohort.folder / "predictions/a2.nii.gz").unlink()
    assert run(cohort, "--predictions", str(cohort.folder / "predictions")) == 1
    assert "not used: a2: there is no prediction" in capsys.readouterr().out
    rows = table(cohort, "contours.csv")
    assert {row["case"] for row in rows} == {"a1", "a3", "b1"}
    assert all(
        "the external beam" in row["remark"] for row in table(cohort, "dose.csv") if row["eqd2"] and row["case"] != "a3"
    )


def test_a_bad_case_costs_itself_only(cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (cohort.folder / "data/doses/a1.nii.gz").write_bytes(b"no image")
    cohort.edit(lambda content: content["testing"].append({**content["testing"][0], "case": "b2", "fraction": "two"}))
    cohort.edit(lambda content: content["testing"].append({**content["testing"][0], "case": "b3", "fraction": None}))
    assert run(cohort) == 1
    said = capsys.readouterr().out
    assert "not used: a1: " in said
    assert "not used: b2: its fraction is 'two'" in said
    assert "1 of 6 cases have no fraction and are left out." in said
    assert {row["case"] for row in table(cohort, "contours.csv")} == {"a2", "a3", "b1"}


def test_pages_of_an_earlier_run_do_not_stay(cohort: Any) -> None:
    mine = cohort.folder / "out" / "mine.html"
    mine.parent.mkdir()
    mine.write_text("a page of something else")
    assert run(cohort) == 0
    cohort.edit(lambda content: content.update(testing=[e for e in content["testing"] if e["patient"] == "b"]))
    assert run(cohort) == 0
    out = cohort.folder / "out"
    assert {file.name for file in out.rglob("*.html")} | {file.name for file in out.rglob("*.png")} == {
        "b.html",
        "b1.png",
        "mine.html",
    }


def test_a_run_that_is_refused_leaves_the_earlier_one_as_it_is(cohort: Any) -> None:
    cohort.edit(lambda content: content.update(testing=[e for e in content["testing"] if e["patient"] == "b"]))
    assert run(cohort) == 0
    out = cohort.folder / "out"
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    (cohort.folder / "data/labels/b1.nii.gz").write_bytes(b"no image")
    assert run(cohort) == 2
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
