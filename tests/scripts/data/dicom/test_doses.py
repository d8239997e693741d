"""RTDOSE through `import_dicom`: which case it goes to, its fractions, and what costs the dose but not the case."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.__main__ import main
from tests.rtdose_files import SCALING, plan_reference, rtdose, rtplan, stored_dose

IMAGE = np.arange(14 * 12 * 8).reshape(14, 12, 8).astype(np.int16)


@pytest.fixture
def export(dicom: Any, tmp_path: Path) -> Path:
    dicom.series(tmp_path / "tree/ct", IMAGE, modality="CT", study="1.2.9", frame="1.2.3")
    return tmp_path / "tree"


def imported(export: Path) -> tuple[dict[str, Any], str, Path]:
    """The one case, everything that the report says, the folder."""
    output = export.parent / "data"
    assert main(["import_dicom", str(export), str(output), "--modality", "CT", "--workers", "1"]) == 0
    (case,) = json.loads((output / "datalist.json").read_text())["training"]
    with (output / "import_report.csv").open(encoding="utf-8") as stream:
        text = "\n".join(row["notes"] + row["finding"] for row in csv.DictReader(stream))
    return case, text, output


def test_a_dose_comes_with_its_image_and_its_fractions(export: Path) -> None:
    stored = stored_dose()
    orientation, offsets = (-1, 0, 0, 0, 1, 0), [0, -3, -6, -9, -12]
    rtdose(export / "d.dcm", stored, orientation=orientation, offsets=offsets)
    rtplan(export / "p.dcm", fractions=(4,))
    rtplan(export / "other.dcm", "1.2.8", (9,))
    case, text, output = imported(export)
    assert case["fractions"] == 4
    dose: Any = nib.load(output / case["dose"])
    assert dose.get_data_dtype() == np.float32
    for k, z in enumerate([30, 33, 36, 39, 42]):
        # LPS to RAS; a row that runs to the right
        index = np.linalg.inv(dose.affine) @ [10 + 2 * 2.5, -(20 + 3 * 2.0), z, 1]
        place = tuple(np.rint(index[:3]).astype(int))
        np.testing.assert_allclose(index[:3], place, atol=1e-5)
        assert dose.get_fdata()[place] == pytest.approx(stored[2, 3, k] * SCALING, rel=1e-6)
    assert text == ""


def write_beams(export: Path, *numbers: int) -> None:
    for number in numbers:
        reference = [plan_reference("1.2.7", number)]
        edits: dict[str, Any] = {"DoseSummationType": "BEAM", "ReferencedRTPlanSequence": reference}
        rtdose(export / f"{number}.dcm", stored_dose(16), bits=16, **edits)


def test_beams_are_added_and_it_is_said(export: Path) -> None:
    write_beams(export, 1, 2)
    rtplan(export / "p.dcm", beams=2)
    case, text, output = imported(export)
    array = nib.load(output / case["dose"]).get_fdata()
    assert array.max() == pytest.approx(2 * stored_dose(16).max() * SCALING)
    assert "sum of 2 RTDOSE of beams" in text
    assert case["fractions"] == 4


@pytest.mark.parametrize(("numbers", "beams"), [((1,), 2), ((1, 2), 3), ((1,), 0)])
def test_beams_that_may_not_be_all_have_no_fractions(export: Path, numbers: tuple[int, ...], beams: int) -> None:
    write_beams(export, *numbers)
    rtplan(export / "p.dcm", beams=beams)
    case, text, _ = imported(export)
    assert "dose" in case
    assert "fractions" not in case
    assert "that they are all beams of its plan is not said" in text


@pytest.mark.parametrize(
    ("summation", "groups", "words"),
    [
        ("PLAN", None, "no RTPLAN of its dose is there"),
        ("PLAN", (None,), "does not say one number of fractions"),
        ("PLAN", (2, 3), "does not say one number of fractions"),
        ("FRACTION", (4,), "of how many fractions is not said"),
    ],
)
def test_fractions_are_never_guessed(export: Path, summation: str, groups: Any, words: str) -> None:
    rtdose(export / "d.dcm", stored_dose(), DoseSummationType=summation)
    if groups is not None:
        rtplan(export / "p.dcm", fractions=groups)
    case, text, _ = imported(export)
    assert "dose" in case
    assert "fractions" not in case
    assert words in text


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"DoseUnits": "RELATIVE"}, "its dose was left out: its RTDOSE has DoseUnits RELATIVE"),
        ({"DoseGridScaling": None}, "no positive DoseGridScaling"),
        ({"PixelData": b"\1" * 400}, "cut off"),
        ({"frame": "1.2.4"}, "1 RTDOSE of its study lie in another frame of reference and were left out"),
        ({"PatientID": "ID2", "PatientName": "C^D"}, "1 RTDOSE, because they belong to no imported image"),
    ],
)
def test_a_faulty_dose_costs_the_dose_and_not_the_case(export: Path, edits: dict[str, Any], words: str) -> None:
    rtdose(export / "d.dcm", stored_dose(), **edits)
    case, text, output = imported(export)
    assert "dose" not in case
    assert not (output / "doses").exists()
    assert words in text


def test_two_plans_are_not_mixed(export: Path) -> None:
    rtdose(export / "a.dcm", stored_dose())
    rtdose(export / "b.dcm", stored_dose(), ReferencedRTPlanSequence=[plan_reference("1.2.8")])
    case, text, _ = imported(export)
    assert "dose" not in case
    assert "2 RTDOSE are of several plans" in text
