"""The page of a patient says what is flagged, and holds all it needs."""

from pathlib import Path

from custom_networks import CaseError
from scripts.experiments.dose.constraints import Course
from scripts.experiments.fractions.contours import Contour, Jump, contour_rows
from scripts.experiments.fractions.doses import Dosed, dose_rows
from scripts.experiments.fractions.follow import Followed
from scripts.experiments.fractions.page import write_patient
from tests.scripts.experiments.fractions.conftest import WANTED, contoured, grid, sphere


def test_a_page(tmp_path: Path) -> None:
    first, second = (contoured(number, grid(), sphere(grid(), (0.0, 0.0, 0.0))).fraction for number in (1, 2))
    (tmp_path / "x.png").write_bytes(b"picture")
    doses = {number: Dosed(1, {("HR-CTV", "D90"): 7.0}) for number in (1, 2)}
    found = Followed(
        "<a>",
        [first, second],
        contour_rows(first, [Contour("HR-CTV", 20.0)], None)
        + contour_rows(second, [Contour("HR-CTV", 40.0, 100.0, 0.4321, "HR-CTV jumps.")], first),
        [row for one in (first, second) for row in dose_rows(one, doses, WANTED, Course(0.0))],
        [("Fraction 1", tmp_path / "x.png")],
        [CaseError("a3", "it has no label", "give it one")],
    )
    text = write_patient(tmp_path / "a.html", found, Jump(0.6, 30)).read_text("utf-8")
    assert "&lt;a&gt;" in text
    assert "<a>" not in text
    for said in ("HR-CTV jumps.", "DSC below 0.6", "more than 30 %", "0.432", "+100", "19.8", "a3: it has no label"):
        assert said in text
    assert 'class="alarm"' in text
    assert "data:image/png;base64,cGljdHVyZQ==" in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_no_jump_and_no_dose_are_said(tmp_path: Path) -> None:
    first = contoured(1, grid(), sphere(grid(), (0.0, 0.0, 0.0))).fraction
    doses = {1: Dosed(None, {("HR-CTV", "D90"): "it has no dose"})}
    rows = dose_rows(first, doses, WANTED, Course(0.0))
    found = Followed("a", [first], contour_rows(first, [Contour("HR-CTV", 20.0)], None), rows)
    text = write_patient(tmp_path / "a.html", found, Jump()).read_text("utf-8")
    assert "No contour has a DSC below 0.5" in text
    assert "No fraction has a number of dose." in text
    assert 'class="alarm"' not in text
