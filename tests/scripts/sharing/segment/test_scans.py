from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.sharing.segment.scans import Scan, find_scans, read_scan


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, 2.0, 3.0, 1.0])), path)
    return path


@pytest.fixture
def mr() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 500, (20, 10, 5)).astype(np.int16)


def test_files_folders_and_own_results(tmp_path: Path, mr: np.ndarray) -> None:
    one = save(tmp_path / "a/b c.nii.gz", mr)
    save(tmp_path / "d.nii", mr)
    save(tmp_path / "out/earlier.nii.gz", mr)
    save(tmp_path / "a/.hidden.nii.gz", mr)
    scans, left_out = find_scans(str(one), "MR")
    assert ([scan.file for scan in scans], left_out) == ([one], [])
    scans, _ = find_scans(str(tmp_path), "MR", output=tmp_path / "out")
    assert [scan.file for scan in scans] == [one, tmp_path / "d.nii"]
    names = [scan.name for scan in scans]
    assert len(set(names)) == 2
    assert all("/" not in name and " " not in name for name in names)


def test_a_series_is_named_by_number_and_keeps_its_geometry(tmp_path: Path, mr_series) -> None:
    written = mr_series("one")
    mr_series("ct", modality="CT")
    scans, left_out = find_scans(str(tmp_path / "in"), "MR")
    assert [scan.name for scan in scans] == ["scan001"]
    assert len(left_out) == 1
    found = read_scan(scans[0], tmp_path, "MR")
    assert found.source is not None
    assert found.array.shape == nib.load(found.image).shape
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    np.testing.assert_allclose(found.affine, to_ras @ written.affine, atol=1e-3)


def test_field_of_view_is_told_along_the_patient(tmp_path: Path, mr: np.ndarray) -> None:
    scan = Scan("s", file=save(tmp_path / "s.nii.gz", mr))
    assert read_scan(scan, tmp_path, "MR", [20, 20, 15]).array.shape == (20, 10, 5)
    with pytest.raises(
        CaseError, match="s: its field of view is only 15 mm head to foot; this bundle needs 20 x 20 x 16"
    ):
        read_scan(scan, tmp_path, "MR", [20, 20, 16])


@pytest.mark.parametrize(
    ("shift", "modality", "message"), [(0, "CT", "no Hounsfield units"), (-1024, "MR", "as in CT")]
)
def test_grey_values_of_another_modality(
    tmp_path: Path, mr: np.ndarray, shift: int, modality: str, message: str
) -> None:
    scan = Scan("s", file=save(tmp_path / "s.nii.gz", mr + shift))
    with pytest.raises(CaseError, match=message):
        read_scan(scan, tmp_path, modality)
