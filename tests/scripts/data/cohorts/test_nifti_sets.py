from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.data.cohorts.nifti_sets import _spans, geometry, import_scans, place_file, read_geometry
from scripts.data.cohorts.sets import Cohort
from scripts.data.dicom.outcome import ImportOutcome


def save(path: Path, shape: tuple[int, ...] = (4, 5, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), np.diag([-1.0, -2.0, 3.0, 1.0])), path)
    return path


def test_links_follow_the_data_set_and_copies_stand_alone(tmp_path: Path) -> None:
    file = save(tmp_path / "download" / "ct.nii.gz")
    assert place_file("images", "c1", file, tmp_path / "set", copy=False) == "images/c1.nii.gz"
    link = tmp_path / "set/images/c1.nii.gz"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    (tmp_path / "download").rename(tmp_path / "moved")
    assert not link.exists()
    place_file("images", "c1", tmp_path / "moved/ct.nii.gz", tmp_path / "set", copy=False)
    assert link.samefile(tmp_path / "moved/ct.nii.gz")
    place_file("images", "c2", tmp_path / "moved/ct.nii.gz", tmp_path / "set", copy=True)
    (tmp_path / "moved/ct.nii.gz").unlink()
    assert nib.load(tmp_path / "set/images/c2.nii.gz").shape == (4, 5, 6)


def test_a_file_in_its_place_is_not_linked_to_itself(tmp_path: Path) -> None:
    file = save(tmp_path / "images" / "c1.nii.gz")
    assert place_file("images", "c1", file, tmp_path, copy=False) == "images/c1.nii.gz"
    assert not file.is_symlink()


def test_headers_and_what_is_no_volume(tmp_path: Path) -> None:
    _, shape, affine = read_geometry("c", save(tmp_path / "a.nii.gz"))
    outcome = geometry(ImportOutcome("c"), shape, affine)
    assert (outcome.size, outcome.spacing, outcome.orientation) == ((4, 5, 6), (1.0, 2.0, 3.0), "LPS")
    (tmp_path / "text.nii.gz").write_text("no")
    for file, message in (
        (tmp_path / "none.nii.gz", "missing or empty"),
        (tmp_path / "text.nii.gz", "cannot be read as NIfTI"),
        (save(tmp_path / "flat.nii.gz", (4, 5, 1)), "not that of a volume"),
        (save(tmp_path / "time.nii.gz", (4, 5, 6, 2)), "not that of a volume"),
    ):
        with pytest.raises(CaseError, match=f"{file.name}.*{message}"):
            read_geometry("c", file)


def test_surplus_copies_and_gaps_are_told(tmp_path: Path) -> None:
    cohort = Cohort("T", "nifti", 4, "scans", "CT", "s", 0.0, r"c(?P<patient>\d)\.nii\.gz", numbers=4)
    for name in ("c1", "c3", "c7", "other"):
        save(tmp_path / "in/x" / f"{name}.nii.gz")
    save(tmp_path / "in/y/c3.nii.gz")
    outcomes = import_scans("t", cohort, tmp_path / "in", tmp_path / "out", False, 0)
    assert [outcome.case for outcome in outcomes if outcome.case] == ["t_1", "t_3"]
    told = " ".join(outcome.finding for outcome in outcomes if not outcome.case)
    assert "1 scans, because the paper's set ends at 4" in told
    assert "1 files, because a file of the same name was found before" in told
    assert "2 scans are not in the folder: 2, 4" in told


def test_spans() -> None:
    assert _spans([1, 2, 3, 5, 7, 8]) == "1-3, 5, 7-8"
    assert _spans([1, 3, 5], most=2) == "1, 3, …"
