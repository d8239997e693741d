"""Prepared volumes, read from the disk as far as they are needed."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom_networks import CaseError
from custom_networks.data.prepare import _store
from custom_networks.transforms.mapped import MappedVolume, close_mapped

AFFINE = torch.diag(torch.tensor([-0.5, -0.5, 3.0, 1.0], dtype=torch.float64))


def store(folder: Path, values: np.ndarray, dtype: str = "float32") -> MappedVolume:
    _store(folder / "c1", {"image": MetaTensor(torch.from_numpy(values), affine=AFFINE)}, "key", "c1", dtype)
    return MappedVolume(str(folder / "c1"), "image")


def hounsfield(low: int = -1024, high: int = 3071) -> np.ndarray:
    values = np.random.default_rng(0).uniform(low, high, (1, 20, 24, 12)).astype(np.float32)
    values.ravel()[:2] = low, high
    return values


def test_a_whole_volume_comes_back_with_type_and_affine(tmp_path: Path) -> None:
    values = hounsfield()
    volume = store(tmp_path, values)
    found = volume.whole()
    assert isinstance(found, MetaTensor)
    np.testing.assert_array_equal(found.numpy(), values)
    assert found.pixdim.tolist() == [0.5, 0.5, 3.0]
    assert found.meta["filename_or_obj"] == str(tmp_path / "c1" / "image.npy")
    found[:] = 0  # a copy: the file stays as it is
    assert volume.array.max() > 0


@pytest.mark.parametrize(("dtype", "error"), [("float32", 0.0), ("int16", 0.032), ("float16", 1.0)])
def test_no_voxel_of_a_ct_is_off_by_more_than_is_documented(tmp_path: Path, dtype: str, error: float) -> None:
    values = hounsfield()
    volume = store(tmp_path, values, dtype)
    assert volume.array.dtype == dtype
    assert float((volume.whole() - torch.from_numpy(values)).abs().max()) <= error
    assert volume.whole().dtype == torch.float32
    # a crop that reaches beyond the volume has zeros there, not what zero is stored as
    around = volume.crop((-2, 0, 0), (24, 24, 12))
    assert float(around[0, :2].abs().max()) == 0
    assert torch.equal(around[0, 2:22].as_tensor(), volume.whole()[0].as_tensor())


@pytest.mark.parametrize(
    "values",
    [
        np.full((1, 2, 2, 2), 0.25, np.float32),
        np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2),
        np.arange(-4, 4, dtype=np.int32).reshape(1, 2, 2, 2),
    ],
)
def test_constants_and_whole_numbers_are_exact(tmp_path: Path, values: np.ndarray) -> None:
    found = store(tmp_path, values, "int16").whole()
    assert str(found.dtype).endswith(str(values.dtype))
    np.testing.assert_array_equal(found.numpy(), values)


def test_copies_hold_no_voxels(tmp_path: Path) -> None:
    volume = store(tmp_path, hounsfield())
    assert copy.deepcopy(volume) == volume
    assert len(pickle.dumps(volume)) < 500


def test_damaged_arrays_are_one_sentence(tmp_path: Path) -> None:
    volume = store(tmp_path, hounsfield())
    close_mapped()
    path = tmp_path / "c1" / "image.npy"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CaseError, match=r"c1: prepared array .*image.npy cannot be read .*; start again, and the case"):
        volume.whole()
    (tmp_path / "c1" / "meta.json").unlink()
    with pytest.raises(CaseError, match=r"meta.json cannot be read"):
        volume.positions()


def test_a_case_that_was_prepared_again_is_read_anew(tmp_path: Path) -> None:
    volume = store(tmp_path, hounsfield())
    before = volume.whole()
    fresh = tmp_path / "fresh.npy"
    np.save(fresh, hounsfield() + 1)
    os.utime(fresh, ns=(1, 1))
    os.replace(fresh, tmp_path / "c1" / "image.npy")
    torch.testing.assert_close(volume.whole().as_tensor(), before.as_tensor() + 1)
