"""Training data: prepared cases, and samples that do not depend on who loads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset
from monai.engines import Trainer
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Lambdad,
    LoadImaged,
    RandFlipd,
    RandGaussianNoised,
    ResizeWithPadOrCropd,
    Spacingd,
)

import custom_networks.data.datasets as module
from custom_networks import (
    CaseError,
    ClassPositionsd,
    PreparedDataset,
    RandPatchCropd,
    SeededDataset,
    SeededSampler,
    prepare_datasets,
)
from custom_networks.data.datasets import deterministic_part
from custom_networks.transforms.mapped import MappedVolume

KEYS = ["image", "label"]


@pytest.fixture
def cases(tmp_path: Path) -> list[dict[str, Any]]:
    found = []
    for i in range(4):
        label = np.zeros((20, 16, 12), np.uint8)
        label[4:9, 5:9, 3:8] = 1 + i % 2
        image = np.random.default_rng(i).normal(0, 300, label.shape).astype(np.int16)
        case: dict[str, Any] = {"case": f"c{i}"}
        for key, array in (("image", image), ("label", label)):
            case[key] = str(tmp_path / f"{key}{i}.nii.gz")
            nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), case[key])
        found.append(case)
    return found


def steps(*random: Callable[..., Any]) -> Compose:
    spacing = Spacingd(KEYS, (2.0, 2.0, 2.0), mode=("bilinear", "nearest"))
    return Compose([LoadImaged(KEYS), EnsureChannelFirstd(KEYS), spacing, *random])


def random_steps() -> list[Any]:
    return [RandPatchCropd(KEYS, (6, 6, 6), "label"), RandFlipd(KEYS, 0.5, 0), RandGaussianNoised("image", 0.5, std=9)]


def test_crops_are_those_of_plain_data(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    plain = SeededDataset(Dataset(cases, steps(*random_steps())))
    ready = SeededDataset(PreparedDataset(cases, steps(*random_steps()), tmp_path / "ready", "float32"))
    cached = SeededDataset(CacheDataset(cases, steps(ClassPositionsd("label"), *random_steps()), progress=False))
    for index in range(4):
        for seed in (1, 2):
            first = plain[index, seed]
            for other in (ready[index, seed], cached[index, seed]):
                assert set(other) == set(first)
                assert all(torch.equal(first[key].as_tensor(), other[key].as_tensor()) for key in KEYS)
                torch.testing.assert_close(first["image"].affine, other["image"].affine)


def test_only_the_crop_is_read(cases: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, ...]] = []
    real = MappedVolume.crop
    monkeypatch.setattr(
        MappedVolume, "crop", lambda self, start, size: (sizes.append(size), real(self, start, size))[1]
    )
    PreparedDataset(cases, steps(*random_steps()), tmp_path)[0]
    assert sizes == [(6, 6, 6)] * 2
    whole = PreparedDataset(cases, steps(RandFlipd(KEYS, 0.5)), tmp_path)[0]
    assert whole["image"].shape == (1, 10, 8, 12)


def test_training_and_validation_share_what_is_prepared(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    train = PreparedDataset(cases, steps(*random_steps()), tmp_path)
    validate = PreparedDataset(cases, steps(ResizeWithPadOrCropd(KEYS, 6)), tmp_path, stored=3)
    prepare_datasets(train, validate, Dataset([]), workers=0)
    assert train.folder == validate.folder
    assert validate[1]["image"].shape == (1, 6, 6, 6)
    assert [path.name for path in sorted(train.folder.iterdir())] == ["c0", "c1", "c2", "c3"]


def test_all_cases_are_prepared_once_and_in_parallel(
    cases: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = PreparedDataset(cases, steps(*random_steps()), tmp_path / "ready")
    prepare_datasets(dataset, workers=2)
    # 10 x 8 x 12 voxels of 2 bytes and of 1
    assert dataset.recipe.bytes_of(cases[0]) == pytest.approx(10 * 8 * 12 * 3, rel=0.05)
    assert f"4 cases to prepare take 0.0 GB in {tmp_path / 'ready'}, where " in caplog.text
    assert dataset.missing() == []
    caplog.clear()
    prepare_datasets(dataset, workers=2)
    assert not caplog.text
    # another spacing has another place and disturbs nothing
    other = PreparedDataset(cases, Compose([*steps().transforms[:2], *random_steps()]), tmp_path / "ready")
    assert other.missing() == cases
    assert other.folder != dataset.folder


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    cases: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=9_000))
    with pytest.raises(CaseError, match=r"4 cases to prepare take 0\.0 GB in .* 0\.0 GB are free; make room, or pass"):
        prepare_datasets(PreparedDataset(cases, steps(*random_steps()), tmp_path / "ready"), workers=0)
    assert not list((tmp_path / "ready").iterdir())


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_cases_are_refused_after_the_others_are_done(
    cases: list[dict[str, Any]], tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    for i in (1, 2):
        Path(cases[i]["image"]).write_bytes(b"x" * 100)
    dataset = PreparedDataset(cases, steps(*random_steps()), tmp_path / "ready")
    with pytest.raises(CaseError, match=r"^c[12]: image .* \(and 1 more cases, which the log names\)\.$"):
        prepare_datasets(dataset, workers=workers)
    assert "c1: " in caplog.text
    assert "c2: " in caplog.text
    assert [case["case"] for case in dataset.missing()] == ["c1", "c2"]


def test_two_files_of_one_name_are_refused(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    dataset = PreparedDataset([cases[0], {**cases[1], "case": "c0"}], steps(), tmp_path)
    with pytest.raises(CaseError, match=r"c0: .*image0.* and .*image1.* are cases of one name"):
        prepare_datasets(dataset, workers=0)


def test_a_case_whose_process_dies_is_named(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    kill = Lambdad("label", lambda x: __import__("os").kill(__import__("os").getpid(), 9) if x.max() == 2 else x)
    dataset = PreparedDataset([cases[0], cases[1]], Compose([*steps().transforms, kill]), tmp_path)
    with pytest.raises(CaseError, match="c1: the process that prepared it died"):
        prepare_datasets(dataset, workers=2)
    assert [case["case"] for case in dataset.missing()] == ["c1"]


def test_what_is_deterministic_ends_before_the_search_for_positions() -> None:
    load, positions, crop = LoadImaged(KEYS), ClassPositionsd("label"), RandPatchCropd(KEYS, 4)
    assert deterministic_part(Compose([load, positions, crop])) == [load]
    assert deterministic_part([load, positions, load, crop, load]) == [load, positions, load]


def draw(sampler: SeededSampler, epoch: int) -> list[tuple[int, int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_samples_depend_on_seed_epoch_and_rank() -> None:
    data: Any = list(range(50))
    base, rank = (draw(SeededSampler(data, 10, seed=0, num_replicas=2, rank=rank), 1) for rank in range(2))
    assert draw(SeededSampler(data, 10, seed=0, num_replicas=2, rank=0), 1) == base
    others = [draw(SeededSampler(data, 10, seed=0), 2), draw(SeededSampler(data, 10, seed=1), 1), rank]
    for other in others:
        assert not {seed for _, seed in base} & {seed for _, seed in other}
        assert [index for index, _ in base] != [index for index, _ in other]
    # neither is epoch 1 of seed 1 some later epoch of seed 0
    assert all(draw(SeededSampler(data, 10, seed=0), epoch) != others[1] for epoch in range(30))


@pytest.mark.parametrize("replacement", [True, False])
def test_ranks_share_what_one_process_draws(replacement: bool) -> None:
    data: Any = list(range(7))
    ranks = [draw(SeededSampler(data, 6, replacement, 3, num_replicas=2, rank=rank), 4) for rank in range(2)]
    alone = draw(SeededSampler(data, 12, replacement, 3), 4)
    assert [pair for pairs in zip(*ranks, strict=True) for pair in pairs] == alone
    assert len({seed for _, seed in alone}) == 12


def test_without_replacement_all_are_drawn_before_any_is_drawn_again() -> None:
    data: Any = list(range(7))
    assert sorted(index for index, _ in SeededSampler(data)) == data
    twice = [index for index, _ in SeededSampler(data, 14)]
    assert sorted(twice[:7]) == sorted(twice[7:]) == data
    assert [len(list(SeededSampler(data, num_replicas=2, rank=rank))) for rank in range(2)] == [4, 4]
    many = [index for index, _ in SeededSampler(data, 700, replacement=True)]
    assert len(many) == 700
    assert np.bincount(many).min() > 60


def epochs(dataset: Any, workers: int, first: int = 1, last: int = 3) -> list[list[torch.Tensor]]:
    """What MONAI's trainer meets, with the state of torch's generator after each epoch."""
    seeded = SeededDataset(dataset)
    sampler = SeededSampler(dataset, 5, replacement=True, seed=1)
    loader = DataLoader(
        seeded,
        batch_size=2,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),
    )
    seen: list[list[torch.Tensor]] = [[] for _ in range(last)]

    def step(engine: Any, batch: Any) -> None:
        seen[engine.state.epoch - 1].append(batch["image"].as_tensor().clone())

    trainer = Trainer(torch.device("cpu"), last, loader, iteration_update=step)
    trainer.state.epoch = first - 1
    torch.manual_seed(5)
    trainer.run()
    seen.append([torch.get_rng_state()])
    return seen


@pytest.mark.parametrize("kind", ["prepared", "cached"])
def test_batches_are_the_same_for_any_number_of_workers(kind: str, cases: list[dict[str, Any]], tmp_path: Path) -> None:
    def dataset() -> Any:
        if kind == "prepared":
            return PreparedDataset(cases, steps(*random_steps()), tmp_path)
        return CacheDataset(cases, steps(*random_steps()), progress=False)

    alone = epochs(dataset(), 0)
    assert len({float(batch.sum()) for epoch in alone[:3] for batch in epoch}) == 9
    for workers in (1, 2, 4):
        found = epochs(dataset(), workers)
        assert all(
            torch.equal(a, b)
            for first, second in zip(alone, found, strict=True)
            for a, b in zip(first, second, strict=True)
        )
    # taken up again in the third epoch, with another number of them
    again = epochs(dataset(), 2, first=3)
    assert all(torch.equal(a, b) for a, b in zip(alone[2], again[2], strict=True))


def test_a_plain_index_is_let_through() -> None:
    data = Dataset([{"a": 1}], Compose([]))
    assert SeededDataset(data)[0] == {"a": 1}
    assert SeededDataset(data).data == [{"a": 1}]
    assert len(SeededDataset(data)) == 1


def test_meta_says_what_was_prepared(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    dataset = PreparedDataset(cases[:1], steps(*random_steps()), tmp_path)
    prepare_datasets(dataset, workers=0)
    meta = json.loads((dataset.folder / "c0" / "meta.json").read_text())
    assert meta["case"] == "c0"
    assert set(meta["keys"]) == {"image", "label"}
    assert set(meta["files"]) == {"image.npy", "label.npy", "positions.npy"}
