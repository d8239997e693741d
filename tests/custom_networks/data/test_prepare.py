"""Prepared cases: bound to what they were made from, and never damaged without being noticed."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import EnsureChannelFirstd, EnsureTyped, Lambdad, LoadImaged, ScaleIntensityd

from custom_networks import CaseError
from custom_networks.data.prepare import Recipe, case_folder, prepare_case, prepared_keys

KEYS = ["image", "label"]
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def write_case(folder: Path, name: str = "c0") -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    label = np.zeros((12, 10, 8), np.uint8)
    label[3:9, 3:8, 2:6] = 1
    image = np.random.default_rng(0).normal(0, 300, label.shape).astype(np.int16)
    case = {"case": name}
    for key, array in (("image", image), ("label", label)):
        case[key] = str(folder / f"{name}_{key}.nii.gz")
        nib.save(nib.Nifti1Image(array, AFFINE), case[key])
    return case


def recipe(high: float = 1.0) -> Recipe:
    return Recipe([LoadImaged(KEYS), EnsureChannelFirstd(KEYS), ScaleIntensityd("image", 0.0, high)])


def test_a_case_is_prepared_once(tmp_path: Path) -> None:
    case = write_case(tmp_path / "data")
    assert prepared_keys(case, recipe(), tmp_path) == ()
    assert prepare_case(case, recipe(), tmp_path) == (("image", "label"), True)
    assert prepare_case(case, recipe(), tmp_path) == (("image", "label"), False)
    assert prepared_keys(case, recipe(2.0), tmp_path) == ()


def test_a_data_set_that_was_moved_is_not_prepared_again(tmp_path: Path) -> None:
    case = write_case(tmp_path / "data")
    prepare_case(case, recipe(), tmp_path)
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    moved = {key: value.replace("/data/", "/elsewhere/") for key, value in case.items()}
    assert prepared_keys(moved, recipe(), tmp_path) == ("image", "label")


def test_a_file_that_changed_though_size_and_time_did_not_is_prepared_again(tmp_path: Path) -> None:
    case = write_case(tmp_path / "data")
    label = Path(case["label"])
    nib.save(nib.Nifti1Image(np.asanyarray(nib.load(label).dataobj), AFFINE), label.with_suffix(""))
    case["label"], stat = str(label.with_suffix("")), label.with_suffix("").stat()
    prepare_case(case, recipe(), tmp_path)
    content = bytearray(Path(case["label"]).read_bytes())
    content[-9] ^= 1
    Path(case["label"]).write_bytes(content)
    os.utime(case["label"], ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert prepared_keys(case, recipe(), tmp_path) == ()


@pytest.mark.parametrize("name", ["image.npy", "label.npy", "positions.npy"])
@pytest.mark.parametrize("how", ["cut", "noise", "gone"])
def test_a_damaged_array_is_made_again(tmp_path: Path, name: str, how: str) -> None:
    case = write_case(tmp_path / "data")
    prepare_case(case, recipe(), tmp_path)
    file = case_folder(tmp_path, case) / name
    whole = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[:-5] if how == "cut" else whole[:-5] + bytes(b ^ 7 for b in whole[-5:]))
    assert prepared_keys(case, recipe(), tmp_path) == ()
    assert prepare_case(case, recipe(), tmp_path)[1]
    assert file.read_bytes() == whole
    assert not list(tmp_path.glob(".partial*"))


def test_a_copy_is_read_once_and_taken(tmp_path: Path) -> None:
    case = write_case(tmp_path / "data")
    prepare_case(case, recipe(), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    file = case_folder(tmp_path / "b", case) / "image.npy"
    os.utime(file, ns=(1, 1))
    assert prepared_keys(case, recipe(), tmp_path / "b") == ("image", "label")
    meta = json.loads((file.parent / "meta.json").read_text())
    assert file.stat().st_mtime_ns == meta["files"]["image.npy"][1]


def test_permissions_are_the_users(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        case = write_case(tmp_path / "data")
        prepare_case(case, recipe(), tmp_path)
    finally:
        os.umask(before)
    found = [path.stat().st_mode & 0o077 for path in case_folder(tmp_path, case).rglob("*")]
    assert found == [0] * 4
    assert case_folder(tmp_path, case).stat().st_mode & 0o077 == 0


def test_what_is_wrong_with_a_case_is_one_sentence(tmp_path: Path) -> None:
    case = write_case(tmp_path / "data")
    with pytest.raises(CaseError, match=r"^c0: label /nowhere/l\.nii does not exist; "):
        prepare_case({**case, "label": "/nowhere/l.nii"}, recipe(), tmp_path)
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), AFFINE), case["label"])
    with pytest.raises(CaseError, match=r"^c0: label .* has shape \(4, 4, 4\)"):
        prepare_case(case, recipe(), tmp_path)
    with pytest.raises(ValueError, match="dtype must be one of int16, "):
        Recipe([], "int8")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (EnsureTyped(keys="image", dtype=torch.float32), EnsureTyped(keys="image", dtype=torch.float64)),
        (EnsureTyped(keys="image", device=torch.device("cpu")), EnsureTyped(keys="image", device=torch.device("meta"))),
        (Lambdad("image", partial(torch.clamp, min=0)), Lambdad("image", partial(torch.clamp, min=1))),
        (Lambdad("image", lambda x: x + 1), Lambdad("image", lambda x: x + 2)),
        (ScaleIntensityd("image", 0, 1), ScaleIntensityd("image", 0, 2)),
    ],
    ids=["type", "device", "partial", "lambda", "number"],
)
def test_transforms_that_compute_something_else_are_another_recipe(one: Any, other: Any) -> None:
    """Else a training would take the arrays of another one, in another type for instance."""
    assert Recipe([one]).digest != Recipe([other]).digest
    assert Recipe([one]).digest == Recipe([one]).digest


def test_equal_transforms_are_one_recipe() -> None:
    first, second = (Recipe([EnsureTyped(keys="image", dtype=torch.float32)]) for _ in range(2))
    assert first.digest == second.digest
