"""Reading of crops from memory-mapped arrays."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import (
    Compose,
    LoadImaged,
    RandCropByLabelClassesd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandSpatialCropd,
    RandSpatialCropSamplesd,
    SpatialPad,
    SpatialPadd,
)

from custom_networks import CaseError, LoadMappedCropd, LoadMappedd, mapped_transforms
from custom_networks.transforms.mapped import deterministic_part

KEYS = ["image", "label"]
SHAPE = (20, 24, 12)


@pytest.fixture
def case(tmp_path: Path) -> dict[str, Any]:
    """Every image voxel holds its own flat index; class 1 is a block of 100 voxels, class 2 one of 4."""
    folder = tmp_path / "c1"
    folder.mkdir()
    image = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(1, *SHAPE)
    label = np.zeros((1, *SHAPE), np.uint8)
    label[0, 5:10, 5:10, 3:7] = 1
    label[0, 15:17, 15:17, 10] = 2
    rows = [np.flatnonzero(label == value) for value in (1, 2)]
    np.save(folder / "image.npy", image)
    np.save(folder / "label.npy", label)
    np.save(folder / "foreground.npy", np.concatenate(rows))
    affine = np.diag([-0.5, -0.5, 3.0, 1.0])
    affine[:3, 3] = (10, 20, 30)
    meta = {
        "keys": {key: {"dtype": "float32", "affine": affine.tolist()} for key in KEYS},
        "foreground": {"1": {"voxels": 100, "rows": [0, 100]}, "2": {"voxels": 4, "rows": [100, 104]}},
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return {"case": "c1", **{key: str(folder / f"{key}.npy") for key in KEYS}}


def test_whole_volumes_come_back_with_type_and_affine(case: dict[str, Any]) -> None:
    found = LoadMappedd(KEYS)(case)
    assert isinstance(found["image"], MetaTensor)
    np.testing.assert_array_equal(found["image"].numpy(), np.load(case["image"]))
    assert found["label"].dtype == torch.float32
    assert found["image"].pixdim.tolist() == [0.5, 0.5, 3.0]
    assert found["image"].meta["filename_or_obj"] == case["image"]
    found["image"][:] = 0  # a copy: the file stays as it is
    assert np.load(case["image"]).max() > 0


@pytest.mark.parametrize("size", [(8, 8, 4), (20, 24, 12), (8, 30, 15), (33, 33, 33), (7, 5, -1)])
def test_a_crop_is_the_part_of_the_padded_volume_that_its_affine_says(
    case: dict[str, Any], size: tuple[int, ...]
) -> None:
    whole = LoadMappedd(KEYS)(case)
    full = tuple(s if s > 0 else n for s, n in zip(size, SHAPE, strict=True))
    padded = {key: SpatialPad(full)(whole[key]) for key in KEYS}
    reader = LoadMappedCropd(KEYS, size, num_samples=6).set_random_state(0)
    for crop in reader(case):
        for key in KEYS:
            assert crop[key].shape == (1, *full)
            origin = torch.linalg.inv(padded[key].affine) @ crop[key].affine[:, 3]
            start = [round(float(v)) for v in origin[:3]]
            inside = tuple(slice(a, a + s) for a, s in zip(start, full, strict=True))
            assert torch.equal(crop[key].as_tensor(), padded[key].as_tensor()[(slice(None), *inside)])
            np.testing.assert_allclose(crop[key].affine[:3, :3], padded[key].affine[:3, :3])


def centres(case: dict[str, Any], n: int, **options: Any) -> np.ndarray:
    """Label at the centre of one-voxel crops."""
    reader = LoadMappedCropd(KEYS, 1, num_samples=n, **options).set_random_state(1)
    return np.array([int(crop["label"].item()) for crop in reader(case)])


def test_foreground_share_and_evenness_over_foreground_voxels(case: dict[str, Any]) -> None:
    found = centres(case, 2000, pos=1, neg=3)
    assert (found > 0).mean() == pytest.approx(0.25, abs=0.04)
    assert (found[found > 0] == 2).mean() == pytest.approx(4 / 104, abs=0.03)
    assert (centres(case, 200, pos=1, neg=0) > 0).all()
    assert (centres(case, 200, pos=0, neg=1) == 0).all()


def test_class_ratios(case: dict[str, Any]) -> None:
    found = centres(case, 3000, ratios=[2, 1, 1])
    assert np.bincount(found) / len(found) == pytest.approx([0.5, 0.25, 0.25], abs=0.04)


def test_without_label_anywhere(case: dict[str, Any]) -> None:
    reader = LoadMappedCropd(["image"], 1, label_key=None, num_samples=3000).set_random_state(2)
    found = {int(crop["image"].item()) for crop in reader(case)}
    assert len(found) > 2000


def test_seeded_and_fit_for_worker_processes(case: dict[str, Any]) -> None:
    reader = LoadMappedCropd(KEYS, 4)
    first = reader.set_random_state(5)(case)[0]["image"]
    again = pickle.loads(pickle.dumps(LoadMappedCropd(KEYS, 4))).set_random_state(5)(case)[0]["image"]
    assert torch.equal(first, again)
    transforms = Compose([reader, RandFlipd(KEYS, prob=0.5)]).set_random_state(0)
    loader = DataLoader(Dataset([case] * 8, transforms), batch_size=2, num_workers=2)
    batches = list(loader)
    assert [tuple(batch["image"].shape) for batch in batches] == [(2, 1, 4, 4, 4)] * 4
    assert len({float(batch["image"].sum()) for batch in batches}) > 1


def test_damaged_arrays_are_one_sentence(case: dict[str, Any]) -> None:
    path = Path(case["image"])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CaseError, match=r"c1: array .* cannot be read .* run preprocess again"):
        LoadMappedd(KEYS)(case)
    (path.parent / "meta.json").unlink()
    with pytest.raises(CaseError, match=r"meta.json cannot be read"):
        LoadMappedCropd("label", 2)(case)


def test_a_case_that_was_done_again_is_read_anew(case: dict[str, Any]) -> None:
    import os

    before = LoadMappedd("image")(case)["image"]
    fresh = Path(case["image"]).with_name("fresh.npy")
    np.save(fresh, np.load(case["image"]) + 1)
    os.utime(fresh, ns=(1, 1))
    os.replace(fresh, case["image"])
    assert torch.equal(LoadMappedd("image")(case)["image"], before + 1)


def test_wrong_weights() -> None:
    with pytest.raises(ValueError, match="add up to more than 0"):
        LoadMappedCropd(KEYS, 4, pos=0, neg=0)


def test_the_reader_takes_the_place_of_loading_padding_and_crop() -> None:
    flip = RandFlipd(KEYS, prob=0.5)
    load, pad = LoadImaged(KEYS), SpatialPadd(KEYS, 9)
    crop = RandCropByPosNegLabeld(KEYS, "label", (9, 8, 7), pos=1, neg=3, num_samples=2)
    reader, *rest = mapped_transforms([load, pad, crop, flip], 1, KEYS)
    assert rest == [flip]
    assert isinstance(reader, LoadMappedCropd)
    assert (reader.spatial_size, reader.pos_ratio, reader.num_samples) == ((9, 8, 7), 0.25, 2)
    classes = RandCropByLabelClassesd(KEYS, "label", (4, 4, 4), ratios=[1, 2], num_classes=2)
    assert mapped_transforms([load, classes], 1, KEYS)[0].ratios == [1, 2]  # type: ignore[attr-defined]
    anywhere = mapped_transforms([load, RandSpatialCropd(KEYS, (5, 5, 5)), flip], 1, KEYS)
    assert isinstance(anywhere[0], LoadMappedCropd)
    assert anywhere[0].label_key is None
    several = mapped_transforms([load, RandSpatialCropSamplesd(KEYS, (5, 5, 5), 3), flip], 1, KEYS)[0]
    assert isinstance(several, LoadMappedCropd)
    assert several.num_samples == 3


def test_what_cannot_be_cropped_while_reading_is_read_whole() -> None:
    load, pad, flip = LoadImaged(KEYS), SpatialPadd(KEYS, 9), RandFlipd(KEYS, prob=0.5)
    for rest in (
        [flip],
        [pad, flip],
        [RandSpatialCropd(KEYS, 5, random_size=True)],
        [RandSpatialCropd("image", 5)],
        [],
    ):
        found = mapped_transforms([load, *rest], 1, KEYS)
        assert isinstance(found[0], LoadMappedd)
        assert found[1:] == rest
    crop = RandCropByPosNegLabeld(KEYS, "label", (4, 4, 4))
    assert mapped_transforms([load, pad, crop], 1, KEYS, crop=False)[1:] == [pad, crop]


def test_deterministic_part_ends_before_padding_that_belongs_to_the_crop() -> None:
    load, pad, flip = LoadImaged(KEYS), SpatialPadd(KEYS, 9), RandFlipd(KEYS)
    crop = RandCropByPosNegLabeld(KEYS, "label", (4, 4, 4))
    assert deterministic_part(Compose([load, pad, crop, flip])) == [load]
    assert deterministic_part([load, pad, load, flip, load]) == [load, pad, load]
