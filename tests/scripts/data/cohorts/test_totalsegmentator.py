from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.data.cohorts.totalsegmentator import (
    CLASSES_V1,
    ONLY_V2,
    find_subjects,
    import_totalsegmentator,
    published_split,
)

SHAPE = (6, 5, 4)


def subject(folder: Path, masks: dict[str, np.ndarray], affine: np.ndarray | None = None) -> Path:
    (folder / "segmentations").mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4)), folder / "ct.nii.gz")
    for name, mask in masks.items():
        image = nib.Nifti1Image(mask, np.eye(4) if affine is None else affine)
        nib.save(image, folder / "segmentations" / f"{name}.nii.gz")
    return folder


def at(*voxels: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    for voxel in voxels:
        mask[voxel] = 1
    return mask


def test_the_table() -> None:
    assert len(CLASSES_V1) == len(set(CLASSES_V1)) == 104
    assert (CLASSES_V1[0], CLASSES_V1[103]) == ("spleen", "urinary_bladder")
    assert not ONLY_V2 & set(CLASSES_V1)


def test_merges_by_the_tables_values_and_tells_overlaps(tmp_path: Path) -> None:
    masks = {"spleen": at((0, 0, 0), (1, 1, 1)), "liver": at((1, 1, 1)), "nonsense": at((2, 2, 2))}
    subject(tmp_path / "in/archive/s0001", masks)
    assert [path.name for path in find_subjects(tmp_path / "in")] == ["s0001"]
    (outcome,) = import_totalsegmentator(tmp_path / "in", tmp_path / "out", True, False, 0)
    label = np.asarray(nib.load(tmp_path / "out/labels/s0001.nii.gz").dataobj)
    assert (label[0, 0, 0], label[1, 1, 1], label.sum()) == (1, 5, 6)
    told = " ".join(outcome.notes)
    assert "102 of 104 masks are missing" in told
    assert "1 mask files are not of the 104 classes" in told
    assert "1 voxels belong to several classes and got the later one (for example liver over spleen)" in told
    assert outcome.entry["image"] == "images/s0001.nii.gz"


@pytest.mark.parametrize(
    ("masks", "affine", "allow", "message"),
    [
        ({"spleen": at()}, None, False, "103 of 104 masks are missing"),
        (dict.fromkeys(ONLY_V2, at()), None, True, "those of version 2"),
        ({"spleen": at()}, np.diag([1.0, 1.0, 2.0, 1.0]), True, "mask spleen lies on another grid"),
    ],
)
def test_what_cannot_be_merged_is_refused(tmp_path: Path, masks, affine, allow: bool, message: str) -> None:
    subject(tmp_path / "in/s0001", masks, affine)
    (outcome,) = import_totalsegmentator(tmp_path / "in", tmp_path / "out", allow, False, 0)
    assert (outcome.outcome, outcome.case) == ("refused", "s0001")
    assert message in outcome.finding
    assert not (tmp_path / "out/labels").exists()


def test_published_split(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"meta\.csv is not in the folder"):
        published_split(tmp_path)
    (tmp_path / "meta.csv").write_text("﻿image_id;age;split\ns0000;50;train\ns0001;60;TEST\n", "utf-8")
    assert published_split(tmp_path) == {"s0000": "train", "s0001": "test"}
    (tmp_path / "meta.csv").write_text("image_id,split\ns0000,elsewhere\n")
    with pytest.raises(CaseError, match="lacks the columns"):
        published_split(tmp_path)
