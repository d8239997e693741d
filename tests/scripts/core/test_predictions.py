"""Which files belong together, and that both lie on one grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from custom_networks import CaseError
from scripts.core.datalist import Case
from scripts.core.files import write_nifti
from scripts.core.predictions import find_prediction, read_pair, region


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
