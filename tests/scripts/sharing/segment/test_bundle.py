from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.sharing.segment.bundle import OpenBundle, unpacked


def test_a_folder_or_the_zip_of_one(small_bundle: Path, tmp_path: Path) -> None:
    assert unpacked(str(small_bundle), tmp_path) == small_bundle.resolve()
    root = shutil.make_archive(str(tmp_path / "release"), "zip", small_bundle.parent, small_bundle.name)
    found = unpacked(root, tmp_path)
    assert found.name == small_bundle.name
    assert found.is_relative_to(tmp_path.resolve())
    assert (found / "models/model.pt").is_file()
    (tmp_path / "text.zip").write_text("no")
    for wrong in (tmp_path / "text.zip", tmp_path / "nowhere", tmp_path):
        with pytest.raises(CaseError, match=r"it has no configs/inference\.json"):
            unpacked(str(wrong), tmp_path)


def test_one_bundle_for_scan_after_scan(small_bundle: Path, blob: np.ndarray, tmp_path: Path) -> None:
    opened = OpenBundle(small_bundle, None, tmp_path / "out", "cpu")
    assert opened.labels == {0: "background", 1: "organ", 2: "tumor"}
    assert opened.modality == "MR"
    digest = hashlib.sha256((small_bundle / "models/model.pt").read_bytes()).hexdigest()
    assert opened.digests() == [digest]
    maps = []
    for name, image in (("a", blob), ("b", blob[::-1])):
        nib.save(nib.Nifti1Image(image, np.diag([2.0, 2.0, 4.0, 1.0])), tmp_path / f"{name}.nii.gz")
        file = opened.predict(tmp_path / f"{name}.nii.gz")
        assert file.name.startswith(name)
        maps.append(np.asarray(nib.load(file).dataobj))
    assert all(set(np.unique(found)) > {0} and found.shape == blob.shape for found in maps)
    assert not np.array_equal(*maps)
    # a scan that fails ends in a sentence and harms no later one
    (tmp_path / "bad.nii.gz").write_text("no")
    with pytest.raises(CaseError, match=r"bad\.nii\.gz"):
        opened.predict(tmp_path / "bad.nii.gz")
    shutil.copy(tmp_path / "a.nii.gz", tmp_path / "again.nii.gz")
    assert np.array_equal(np.asarray(nib.load(opened.predict(tmp_path / "again.nii.gz")).dataobj), maps[0])


def test_refusals(small_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"bundle tumor_pocketnet: its weights .*none\.pt do not exist"):
        OpenBundle(small_bundle, str(tmp_path / "none.pt"), tmp_path)
    other = tmp_path / "other"
    shutil.copytree(small_bundle, other)
    file = other / "configs/inference.json"
    content = json.loads(file.read_text())
    del content["handlers"]
    file.write_text(json.dumps(content))
    with pytest.raises(CaseError, match=r"its inference\.json has no handlers"):
        OpenBundle(other, None, tmp_path)
