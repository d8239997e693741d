"""The verb: tables, constraints over a patient's fractions, pictures, run.json."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from scripts.__main__ import main
from tests.scripts.experiments.dose.conftest import save, slope


def run(cohort: Any, *words: str) -> int:
    return main(["dose", str(cohort.datalist), str(cohort.folder / "out"), "--workers", "1", *words])


def table(cohort: Any, name: str) -> list[dict[str, str]]:
    with (cohort.folder / "out" / name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_tables_pictures_and_constraints(cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    # patient a: two cases of two fractions each, patient b only one of them
    words = ["--predictions", str(cohort.folder / "pred"), "--prescription", "7"]
    assert run(cohort, *words, "--external_dose", "45", "--external_fractions", "25", "--course_fractions", "4") == 0
    rows = table(cohort, "dose.csv")
    assert len(rows) == 3 * 2 * 7
    assert {row["case"] for row in rows} == {"a1", "a2", "b1"}
    summary = {(row["structure"], row["measure"]): row for row in table(cohort, "summary.csv")}
    target = summary["HR-CTV", "D90"]
    assert (target["cases"], target["patients compared"]) == ("3", "2")
    assert float(target["change, mean"]) == pytest.approx(-0.25, abs=0.01)
    held = {(r["patient or case"], r["structure"], r["constraint"]): r for r in table(cohort, "constraints.csv")}
    assert len(held) == 2 * 4
    organ = held["a", "Rectum", "D2cm3 <="]
    one = next(
        float(r["eqd2_manual"]) for r in rows if (r["case"], r["structure"], r["measure"]) == ("a1", "Rectum", "D2cm3")
    )
    assert float(organ["manual"]) == pytest.approx(43.2 + 2 * one)
    assert (organ["manual, aim"], organ["manual, limit"], organ["automatic, limit"]) == ("passed", "passed", "passed")
    assert held["a", "HR-CTV", "D90 >="]["manual, limit"] == "missed"
    alone = held["b", "Rectum", "D2cm3 <="]
    assert (alone["manual"], alone["manual, limit"]) == ("", "not computable")
    assert alone["remark"] == "there are doses of 2 of 4 fractions"
    assert all("EMBRACE II" in row["source"] for row in held.values())
    assert sorted(path.name for path in (cohort.folder / "out/dvh").iterdir()) == ["a1.png", "a2.png", "b1.png"]
    assert "EMBRACE II" in (cohort.folder / "out/dose.md").read_text("utf-8")
    assert json.loads((cohort.folder / "out/run.json").read_text())["verb"] == "dose"
    assert "change, mean" in capsys.readouterr().out


def test_physical_dose_is_constrained_case_by_case(cohort: Any) -> None:
    lines = [
        {"structures": ["Rectum"], "measure": "D1cm3", "quantity": "dose", "at": "most", "limit": 6, "source": "x"}
    ]
    (cohort.folder / "c.json").write_text(json.dumps(lines))
    save(cohort.folder / "doses/b1.nii.gz", slope(8))
    assert run(cohort, "--constraints", str(cohort.folder / "c.json"), "--measures", "D2cm3") == 0
    held = {row["patient or case"]: row for row in table(cohort, "constraints.csv")}
    assert {name: row["manual, limit"] for name, row in held.items()} == {
        "a1": "missed",
        "a2": "missed",
        "b1": "passed",
    }
    # 1 cm3 of an organ with 0.8 cm3 a layer that begins at 13.5
    assert float(held["a1"]["manual"]) == pytest.approx(10 - 0.25 * (13.5 + 1.25), rel=0.005)
    assert held["a1"]["automatic, limit"] == ""


def test_one_bad_case_does_not_stop_the_others(cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    save(cohort.folder / "doses/a2.nii.gz", slope() * 0)
    (cohort.folder / "pred/b1.nii.gz").unlink()
    assert run(cohort, "--predictions", str(cohort.folder / "pred")) == 1
    assert {row["case"] for row in table(cohort, "dose.csv")} == {"a1", "b1"}
    said = capsys.readouterr().out
    assert "not measured: a2: dose" in said
    assert "b1: there is no prediction" in said


def test_on_real_planned_doses(samples: Path, tmp_path: Path) -> None:
    folder = samples / "openkbp"
    names = json.loads((folder / "index.json").read_text())["labels"]
    case = {"case": "pt_001", "patient": "pt_001"}
    for key, place in (("image", "images"), ("label", "labels"), ("dose", "dose")):
        case[key] = str(folder / place / "pt_001.nii.gz")
    (tmp_path / "d.json").write_text(json.dumps({"labels": names, "modality": "CT", "testing": [case]}))
    words = ["--measures", "D95,mean", "--classes", "PTV70,SpinalCord"]
    assert main(["dose", str(tmp_path / "d.json"), str(tmp_path / "out"), *words]) == 0
    with (tmp_path / "out/dose.csv").open(encoding="utf-8") as stream:
        found = {(row["structure"], row["measure"]): float(row["manual"]) for row in csv.DictReader(stream)}
    # planned to 70 Gy
    assert 65 < found["PTV70", "D95"] < 70 < found["PTV70", "mean"] < 75
    assert found["SpinalCord", "mean"] < 45
