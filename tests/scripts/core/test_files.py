from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.core.files import atomic_file, write_nifti, write_text


@pytest.mark.parametrize(
    ("dtype", "stored"), [("bool", "uint8"), ("int16", "int16"), ("float64", "float32"), ("int64", "int32")]
)
def test_nifti_keeps_voxels_and_oblique_affine(tmp_path: Path, dtype: str, stored: str) -> None:
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [0.5, 0.7, 3], [10, -20, 30]
    array = (np.random.default_rng(0).random((4, 5, 3)) * 9).astype(dtype)
    image = nib.load(write_nifti(tmp_path / "a" / "v.nii.gz", array, affine))
    assert image.get_data_dtype() == np.dtype(stored)
    np.testing.assert_allclose(np.asanyarray(image.dataobj), array, rtol=1e-6)
    np.testing.assert_allclose(image.affine, affine, atol=1e-4)
    np.testing.assert_allclose(image.get_qform(), affine, atol=1e-4)
    assert image.header.get_xyzt_units()[0] == "mm"


def _half_write(path: Path) -> None:
    with atomic_file(path) as partial:
        partial.write_text("half")
        raise RuntimeError("power cut")


def test_interrupted_write_leaves_old_file_and_no_rest(tmp_path: Path) -> None:
    path = write_text(tmp_path / "table.json", "old", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(RuntimeError, match="power cut"):
        _half_write(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]
