"""The synthetic dose: closed form about one dwell position, point A, and through DICOM and back."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.__main__ import main
from scripts.core.datalist import Datalist
from scripts.data.phantom.canvas import Protocol
from scripts.data.phantom.ct import make_ct_case
from scripts.data.phantom.dose import PRESCRIBED, Implant, Radial, dose_at, dose_grid, read_radial

ONE = Implant(np.zeros((1, 3)), np.array([[20.0, 0, 0], [-20, 0, 0]]))


def test_one_dwell_position_is_the_inverse_square() -> None:
    points = np.array([[20.0, 0, 0], [0, 40, 0], [0, 0, 10], [0, 0, 0], [0, 2, 0]])
    np.testing.assert_allclose(dose_at(points, ONE), [7, 1.75, 28, 700, 700], rtol=1e-6)


def test_a_radial_function_replaces_1() -> None:
    radial = Radial(np.array([10.0, 20, 40]), np.array([1.0, 0.9, 0.5]))
    points = np.array([[10.0, 0, 0], [30, 0, 0], [80, 0, 0]])
    expected = [7 * 4 / 0.9, 7 * (20 / 30) ** 2 * 0.7 / 0.9, 7 / 16 * 0.5 / 0.9]
    np.testing.assert_allclose(dose_at(points, ONE, radial), expected, rtol=1e-6)


def test_the_phantoms_applicator_gives_the_prescribed_dose_to_point_a_and_covers_the_image() -> None:
    for patient in range(2):
        case = make_ct_case(0, patient, 0, Protocol(matrix=48, slices=30))
        assert case.implant is not None
        assert dose_at(case.implant.point_a, case.implant).mean() == pytest.approx(PRESCRIBED)
        right, left = case.implant.point_a
        assert np.linalg.norm(right - left) == pytest.approx(40)
        # the source dwells in tissue that the label map calls HR-CTV or uterus, or beside its mouth
        assert 10 < len(case.implant.dwell) < 30
        dose, affine = dose_grid(case.image.shape, case.affine, case.implant)
        index = np.linalg.inv(affine) @ case.affine
        corners = np.array([[-0.5, -0.5, -0.5, 1], [*(np.array(case.image.shape) - 0.5), 1]])
        ends = corners @ index.T
        assert (ends[0, :3] >= -1e-6).all()
        assert (ends[1, :3] <= np.array(dose.shape) - 1 + 1e-6).all()
        target = np.argwhere(case.label == 1) @ case.affine[:3, :3].T + case.affine[:3, 3]
        bladder = np.argwhere(case.label == 2) @ case.affine[:3, :3].T + case.affine[:3, 3]
        assert np.median(dose_at(target, case.implant)) > 2 * np.median(dose_at(bladder, case.implant))


def test_through_dicom_and_back(tmp_path: Path) -> None:
    words = ["phantom", "--modality", "ct", "--cases", "1", "--matrix", "64", "--slices", "24", "--dicom", "--dose"]
    assert main([*words, "--output", str(tmp_path / "drawn")]) == 0
    labels = "{HR-CTV: 'HR-CTV', bladder: bladder, rectum: rectum, uterus: uterus, sigmoid: sigmoid}"
    words = ["import_dicom", str(tmp_path / "drawn/dicom"), str(tmp_path / "data"), "--modality", "CT"]
    assert main([*words, "--labels", labels]) == 0
    drawn, found = (Datalist.read(tmp_path / name / "datalist.json").cases[0] for name in ("drawn", "data"))
    assert drawn.more["fractions"] == found.more["fractions"] == 1
    doses: list[Any] = [nib.as_closest_canonical(nib.load(str(case.file("dose")))) for case in (drawn, found)]
    np.testing.assert_allclose(doses[0].affine, doses[1].affine, atol=1e-4)
    arrays = [dose.get_fdata() for dose in doses]
    # 32 bits, and NIfTI in single precision
    assert np.abs(arrays[0] - arrays[1]).max() <= arrays[0].max() * (0.5 / (2**32 - 1) + 2**-23)
    info = json.loads((tmp_path / "drawn/phantom.json").read_text())
    assert info["p001_t1"]["dose"].startswith("synthetic: inverse square with radial function 1, ")
    # what users do next
    words = ["dose", str(tmp_path / "data/datalist.json"), str(tmp_path / "out"), "--section", "training"]
    assert main([*words, "--external_dose", "45", "--external_fractions", "25", "--course_fractions", "1"]) == 0
    assert "passed" in (tmp_path / "out/constraints.csv").read_text()


@pytest.mark.parametrize("text", ["[]", "3", "[[1, 2], [1, 2]]", "[[5, 1], [2, 1]]", "[[5, 0]]", '[["a", 1]]', "[1]"])
def test_a_bad_radial_function_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(CaseError, match="--radial"):
        read_radial(str(tmp_path / "r.json"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dose"], "--dose is given for mr"),
        (["--modality", "ct", "--radial", "r.json"], "--radial is given without --dose"),
        (["--modality", "ct", "--dose", "--radial", "nowhere.json"], "does not exist"),
    ],
)
def test_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["phantom", "--cases", "1", "--output", str(tmp_path / "o"), *words]) == 2
    assert said in capsys.readouterr().err
