"""Random crops: where they lie, and how often on what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Compose, SpatialPad

from custom_networks import ClassPositionsd, RandPatchCropd
from custom_networks.data.prepare import _store
from custom_networks.transforms.crops import class_positions
from custom_networks.transforms.mapped import MappedVolume

KEYS = ["image", "label"]
SHAPE = (20, 24, 12)
AFFINE = torch.tensor([[-0.5, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 3.0, 30], [0, 0, 0, 1]], dtype=torch.float64)


def volumes(label: np.ndarray) -> dict[str, Any]:
    """Every image voxel holds its own flat index."""
    image = np.arange(label.size, dtype=np.float32).reshape(1, *label.shape)
    return {
        "image": MetaTensor(torch.from_numpy(image), affine=AFFINE),
        "label": MetaTensor(torch.from_numpy(label[None]), affine=AFFINE),
    }


def prepared(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    _store(folder / "c1", case, "key", "c1", "float32")
    return {key: MappedVolume(str(folder / "c1"), key) for key in case}


@pytest.fixture
def case() -> dict[str, Any]:
    label = np.zeros(SHAPE, np.uint8)
    label[5:10, 5:10, 3:7] = 1
    label[15:17, 15:17, 10] = 2
    return volumes(label)


def many_classes(classes: int) -> dict[str, Any]:
    """Of 104 classes some are present, all in a corner; each is larger than the one before."""
    label = np.zeros(4096 * 4, np.uint8)
    values = np.random.default_rng(1).permutation(104)[:classes] + 1
    sizes = np.arange(classes) % 7 + 1
    label[: sizes.sum()] = np.repeat(values, sizes)
    return volumes(label.reshape(32, 32, 16))


@pytest.mark.parametrize("how", ["cached", "prepared"])
@pytest.mark.parametrize("classes", [5, pytest.param(30, marks=pytest.mark.slow), 104])
def test_half_of_the_crops_are_on_foreground_and_each_present_class_has_its_share(
    classes: int, how: str, tmp_path: Path
) -> None:
    """What the READMEs say, within 2 points: however many of the 104 classes a case has."""
    case = many_classes(classes)
    case = ClassPositionsd("label")(case) if how == "cached" else prepared(case, tmp_path)
    crop = RandPatchCropd(KEYS, 1, "label", foreground_ratio=0.5).set_random_state(0)
    count = 6_000
    drawn = np.array([int(crop(case)["label"]) for _ in range(count)])
    assert (drawn > 0).mean() == pytest.approx(0.5, abs=0.02)
    shares = np.bincount(drawn, minlength=105)[1:] / count
    present = np.unique(np.asarray(many_classes(classes)["label"]))[1:] - 1
    assert shares[present] == pytest.approx(np.full(classes, 0.5 / classes), abs=0.02)
    assert shares[present].min() > 0
    assert np.delete(shares, present).sum() == 0
    # not one voxel of a class, but any
    assert len(set(drawn)) == classes + 1


@pytest.mark.parametrize("size", [(8, 8, 4), (20, 24, 12), (8, 30, 15), (33, 33, 33), (7, 5, -1)])
@pytest.mark.parametrize("label_key", ["label", None])
def test_a_crop_is_the_part_of_the_padded_volume_that_its_affine_says(
    case: dict[str, Any], tmp_path: Path, size: tuple[int, ...], label_key: str | None
) -> None:
    full = tuple(s if s > 0 else n for s, n in zip(size, SHAPE, strict=True))
    padded = {key: SpatialPad(full)(case[key]) for key in KEYS}
    starts = set()
    for source in (case, prepared(case, tmp_path)):
        transform = RandPatchCropd(KEYS, size, label_key).set_random_state(0)
        for _ in range(6):
            crop = transform(source)
            for key in KEYS:
                assert crop[key].shape == (1, *full)
                assert crop[key].dtype == case[key].dtype
                origin = torch.linalg.inv(padded[key].affine) @ crop[key].affine[:, 3]
                start = tuple(round(float(v)) for v in origin[:3])
                inside = tuple(slice(a, a + s) for a, s in zip(start, full, strict=True))
                assert torch.equal(crop[key].as_tensor(), padded[key].as_tensor()[(slice(None), *inside)])
            starts.add(start)
    # prepared and plain ones lie in the same places
    assert len(starts) <= 6


def test_crops_of_prepared_and_of_plain_data_are_the_same(case: dict[str, Any], tmp_path: Path) -> None:
    plain, mapped = (RandPatchCropd(KEYS, (9, 30, 4), "label", 0.4).set_random_state(7) for _ in range(2))
    stored = prepared(case, tmp_path)
    for _ in range(20):
        first, second = plain(case), mapped(stored)
        assert all(torch.equal(first[key].as_tensor(), second[key].as_tensor()) for key in KEYS)
        assert all(torch.equal(first[key].affine, second[key].affine) for key in KEYS)


def test_without_a_label_every_start_is_as_likely(case: dict[str, Any]) -> None:
    crop = RandPatchCropd("image", (18, 24, 30)).set_random_state(2)
    first = [int(crop(case)["image"][0, 0, 0, 9]) // (24 * 12) for _ in range(3000)]
    assert np.bincount(first) / 3000 == pytest.approx(np.full(3, 1 / 3), abs=0.03)


def test_cases_that_lack_foreground_or_background() -> None:
    crop = RandPatchCropd(KEYS, 3, "label", 0.5).set_random_state(0)
    assert not crop(volumes(np.zeros(SHAPE, np.uint8)))["label"].any()
    assert crop(volumes(np.ones(SHAPE, np.uint8)))["label"].all()
    for ratio, expected in ((0.0, 0), (1.0, 1)):
        label = np.zeros(SHAPE, np.uint8)
        label[:10] = 1
        only = RandPatchCropd(KEYS, 1, "label", ratio).set_random_state(0)
        assert {int(only(volumes(label))["label"]) for _ in range(30)} == {expected}


def test_positions_of_a_prepared_case_are_read_without_its_label(case: dict[str, Any], tmp_path: Path) -> None:
    """So that no volume is scanned for a crop."""
    stored = prepared(case, tmp_path)
    np.save(tmp_path / "c1" / "label.npy", np.full((1, *SHAPE), 9, np.uint8))
    found = stored["label"].positions()
    assert {name: len(voxels) for name, voxels in found.items()} == {0: 20 * 24 * 12 - 104, 1: 100, 2: 4}
    assert all((np.asarray(case["label"]).ravel()[voxels] == name).all() for name, voxels in found.items())


def test_positions_are_drawn_from_the_whole_volume() -> None:
    label = np.zeros((1, 64, 64, 32), np.uint8)
    label[:, 40:] = 3
    found = class_positions(label, most=500)
    assert {name: len(voxels) for name, voxels in found.items()} == {0: 500, 3: 500}
    for name, (low, high) in {0: (0, 40), 3: (40, 64)}.items():
        assert (label.ravel()[found[name]] == name).all()
        planes = found[name] // (64 * 32)
        assert planes.mean() == pytest.approx((low + high - 1) / 2, abs=2)
    # hardly any background: it is found all the same
    label[:] = 1
    label[0, 0, 0, 5] = 0
    assert class_positions(label, most=500)[0].tolist() == [5]
    both = np.zeros((2, 2, 2, 2), np.uint8)
    both[1, 0, 0, 1] = 1
    assert class_positions(both)[2].tolist() == [1]


def test_cached_positions_are_looked_for_once_and_do_not_reach_the_batch(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import custom_networks.transforms.crops as module

    calls = []
    real = module.class_positions
    monkeypatch.setattr(module, "class_positions", lambda label: (calls.append(1), real(label))[1])
    steps = Compose([ClassPositionsd("label"), RandPatchCropd(KEYS, 4, "label")])
    dataset = CacheDataset([case], steps, progress=False)
    for _ in range(3):
        assert set(dataset[0]) == {"image", "label"}
    assert len(calls) == 1


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"foreground_ratio must be from 0 to 1, not 1\.5"):
        RandPatchCropd(KEYS, 4, "label", 1.5)
