"""Which files belong together, and that both lie on one grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from custom_networks import CaseError
from scripts.core.datalist import Case
from scripts.core.files import write_nifti
from scripts.core.predictions import (
    find_prediction,
    made_by,
    read_pair,
    region,
    unknown_predictions,
    write_made_by,
)


def test_predictions_are_found_by_case_and_as_monai_saves_them(tmp_path: Path) -> None:
    case = Case("p1/t1", {"image": "images/scan.nii.gz"})
    assert find_prediction(tmp_path, case) is None
    for name in ("scan/scan_pred.nii.gz", "scan_pred.nii", "p1%2Ft1_pred.nii.gz", "p1%2Ft1.nii.gz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert find_prediction(tmp_path, case) == path, "the later ones are nearer to the case's name"


def test_a_name_finds_nothing_outside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "pred"
    folder.mkdir()
    (tmp_path / "x.nii.gz").touch()
    for name in ("../x", str(tmp_path / "x"), "a/../../x"):
        assert find_prediction(folder, Case(name, {"image": "scan.nii.gz"})) is None


def test_what_no_case_takes_is_unknown(tmp_path: Path) -> None:
    cases = [Case("p1/t1", {"image": "images/scan.nii.gz"}), Case("p2", {"image": "images/other.nii"})]
    taken = ("p1%2Ft1.nii.gz", "p2_pred.nii", "scan/scan_pred.nii.gz", "other/label.nii.gz")
    for name in (*taken, "p3.nii.gz", "scans/scans_pred.nii.gz", "p4/label.nii", "scan/ct.nii.gz", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in unknown_predictions(tmp_path, cases)]
    assert found == ["p3.nii.gz", "p4/label.nii", "scans/scans_pred.nii.gz"]


def test_a_region_is_where_any_of_its_values_is() -> None:
    assert region(np.array([0, 1, 2, 3]), [1, 3]).tolist() == [False, True, False, True]


def test_a_pair_lies_on_one_grid_or_is_refused(tmp_path: Path) -> None:
    label = np.zeros((5, 4, 3), np.uint8)
    label[2, 2, 1] = 1
    write_nifti(tmp_path / "label.nii.gz", label, np.eye(4))
    case = Case("c", {"image": "c.nii.gz", "label": str(tmp_path / "label.nii.gz")})
    truth, guess, affine = read_pair(case, tmp_path, [0, 1])
    assert (truth.sum(), guess) == (1, None)
    assert np.array_equal(affine, np.eye(4))
    write_nifti(tmp_path / "c.nii.gz", label, np.eye(4))
    assert np.array_equal(read_pair(case, tmp_path)[1], label)
    write_nifti(tmp_path / "c.nii.gz", label, np.diag([1, 1, 2, 1]))
    with pytest.raises(CaseError, match="c: "):
        read_pair(case, tmp_path)


def test_what_is_known_of_the_networks_goes_with_their_predictions(tmp_path: Path) -> None:
    assert made_by(tmp_path).weights == ()
    write_made_by(tmp_path, ["abc"], {"p0/t2": {1: (0.5, 7)}}, 5, {"p0/t2": {"organ": 0.75, "tumor": None}})
    made = made_by(tmp_path)
    assert (made.weights, made.networks) == (("abc",), 5)
    assert made.of(Case("p0/t2", {"image": "x.nii.gz"})) == ({1: (0.5, 7.0)}, {"organ": 0.75})
    assert made.of(Case("other", {"image": "p0.nii.gz"})) == ({}, {})
    # `segment` names a scan after its file
    write_made_by(tmp_path, [], {"scan%201": {1: (0.5, 7)}})
    assert made_by(tmp_path).of(Case("p0", {"image": "images/scan 1.nii.gz"}))[0] == {1: (0.5, 7.0)}
    (tmp_path / "predictions.json").write_text('{"entropy": {}}')
    with pytest.raises(CaseError, match="it is damaged"):
        made_by(tmp_path)
