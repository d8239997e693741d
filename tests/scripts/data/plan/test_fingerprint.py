"""The fingerprint: geometry after reorientation, classes, intensities, and cases that cannot be read."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import Case, CaseError
from scripts.core.statistics import KnownStatistics
from scripts.data.plan.fingerprint import fingerprint

LABELS = {0: "background", 1: "organ", 2: "tumor"}


def write(folder: Path, name: str, image: np.ndarray, label: np.ndarray | None, affine: np.ndarray) -> Case:
    files = {"image": f"{name}_i.nii"}
    nib.save(nib.Nifti1Image(image, affine), folder / files["image"])
    if label is not None:
        files["label"] = f"{name}_l.nii"
        nib.save(nib.Nifti1Image(label, affine), folder / files["label"])
    return Case(name, files, folder=folder)


def test_sagittal_series_are_measured_after_reorientation(tmp_path: Path) -> None:
    affine = np.array([[0.0, 0, 4, 0], [-0.5, 0, 0, 0], [0, -0.7, 0, 0], [0, 0, 0, 1]])
    image = np.random.default_rng(0).normal(size=(64, 48, 30)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    label[16:32, 12:24, 7:15] = 1
    found, errors = fingerprint([write(tmp_path, "a", image, label, affine)], LABELS, "MR", KnownStatistics(tmp_path))
    assert errors == []
    assert found["cases"] == [
        {"case": "a", "shape": [30, 64, 48], "spacing": [4.0, 0.5, 0.7], "voxels": {"1": 16 * 12 * 8, "2": 0}}
    ]


def test_classes_and_foreground_intensities(tmp_path: Path) -> None:
    image = np.zeros((10, 10, 10), np.float32)
    image[:5] = 7
    label = np.zeros((10, 10, 10), np.uint8)
    label[:5, :2] = 1
    cases = [write(tmp_path, "a", image, label, np.eye(4)), write(tmp_path, "b", image, None, np.eye(4))]
    found, _ = fingerprint(cases[:1], LABELS, "MR", KnownStatistics(tmp_path))
    assert found["intensity"]["mean"] == 7
    assert found["classes"]["organ"] == {"value": 1, "cases": 1, "share_of_voxels": 0.1}
    assert found["classes"]["tumor"] == {"value": 2, "cases": 0, "share_of_voxels": 0}
    unlabelled, _ = fingerprint(cases[1:], {}, "", KnownStatistics(tmp_path))
    assert unlabelled["intensity"]["where"] == "whole image"
    assert unlabelled["intensity"]["mean"] == 3.5


def test_spread_is_over_the_cases(tmp_path: Path) -> None:
    image = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    cases = [write(tmp_path, str(z), image, None, np.diag([-1.0, -1, z, 1])) for z in (2.0, 3.0, 7.0)]
    found, _ = fingerprint(cases, {}, "", KnownStatistics(tmp_path))
    assert found["number_of_cases"] == 3
    assert found["spacing"] == {
        "minimum": [1, 1, 2],
        "percentile_10": [1, 1, 2.2],
        "median": [1, 1, 3],
        "maximum": [1, 1, 7],
    }


def test_padding_of_a_ct_does_not_count(tmp_path: Path) -> None:
    image = np.full((10, 10, 10), 40, np.int16)
    image[:5] = -32768
    image[9, 9, 9] = 50
    case = write(tmp_path, "a", image, None, np.eye(4))
    found, _ = fingerprint([case], {}, "CT", KnownStatistics(tmp_path))
    assert found["intensity"]["mean"] == pytest.approx((40 - 1024) / 2, abs=0.1)
    assert found["intensity"]["percentile_0.5"] == -1024


def test_a_case_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    image = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    cases = [write(tmp_path, name, image, None, np.eye(4)) for name in "abc"]
    Path(cases[1].image).write_bytes(b"x" * 500)
    found, errors = fingerprint(cases, {}, "", KnownStatistics(tmp_path))
    assert [one["case"] for one in found["cases"]] == ["a", "c"]
    assert [error.case for error in errors] == ["b"]
    with pytest.raises(CaseError, match=r"^b: "):
        fingerprint(cases[1:2], {}, "", KnownStatistics(tmp_path))
