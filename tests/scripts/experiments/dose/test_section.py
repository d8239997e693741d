"""`evaluate --dose`: a section of the report and the tables beside it."""

from typing import Any

import pytest

from scripts.__main__ import main
from tests.scripts.experiments.dose.conftest import save, slope


def evaluate(cohort: Any) -> int:
    words = ["evaluate", str(cohort.datalist), str(cohort.folder / "pred"), str(cohort.folder / "out"), "--dose"]
    return main([*words, "--workers", "1", "--pictures", "0", "--viewer", "0"])


def test_the_report_has_the_dose(cohort: Any) -> None:
    assert evaluate(cohort) == 0
    page = (cohort.folder / "out/report.html").read_text("utf-8")
    for words in ("D2cm3", "change, mean", "not computable", "EMBRACE II", "a1: largest change of a dose"):
        assert words in page
    assert sorted(path.name for path in (cohort.folder / "out/dose").iterdir()) == [
        "constraints.csv",
        "dose.csv",
        "dose.md",
        "dvh",
        "summary.csv",
    ]


def test_a_faulty_dose_is_told_and_the_rest_goes_on(cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    save(cohort.folder / "doses/a2.nii.gz", slope() * 0)
    assert evaluate(cohort) == 1
    assert "zero everywhere" in capsys.readouterr().out
    assert "D2cm3" in (cohort.folder / "out/report.html").read_text("utf-8")


def test_without_any_dose_it_is_refused(cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cohort.edit(lambda content: [case.pop("dose") for case in content["testing"]])
    assert evaluate(cohort) == 2
    assert "no case with a label and a dose" in capsys.readouterr().err
