from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.core.files import atomic_file, locked, write_nifti, write_text


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


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_files_have_the_users_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.json", "x")
        write_nifti(tmp_path / "v.nii.gz", np.zeros((2, 2, 2)), np.eye(4))
        write_text(tmp_path / "secret.json", "x", mode=0o600)
    finally:
        os.umask(before)
    found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert found == {"a.json": mode, "v.nii.gz": mode, "secret.json": 0o600}


HOLD = """
import sys, time
from scripts.core.files import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["out", "table.json"])
def test_a_lock_keeps_others_out_until_its_owner_ends(tmp_path: Path, name: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with (
            pytest.raises(CaseError, match=rf"{name}: process {owner.pid} \(.*\) is writing to it; wait"),
            locked(tmp_path / name),
        ):
            pass
    finally:
        owner.kill()
        owner.wait()
    # a dead owner's lock is free, and whoever holds it may ask again
    with locked(tmp_path / name), locked(tmp_path / name):
        assert not (tmp_path / "table.json").exists()
    with locked(tmp_path / name):
        pass


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CaseError, match="it cannot be written"), locked(tmp_path / "file" / "out"):
        pass
