from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError, check_case, check_cases
from custom_networks.data import checks

AFFINE = np.diag([-1.0, -1.0, 4.0, 1.0])


def write(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nib.save(nib.Nifti1Image(array, affine), path)
    return str(path)


@pytest.fixture
def case(tmp_path: Path) -> dict[str, str]:
    rng = np.random.default_rng(0)
    label = np.zeros((12, 10, 6), np.uint8)
    label[3:8, 3:8, 1:5] = 1
    label[4:6, 4:6, 2:4] = 2
    return {
        "case": "p001_t1",
        "image": write(tmp_path / "image.nii.gz", rng.normal(size=label.shape).astype(np.float32)),
        "label": write(tmp_path / "label.nii.gz", label),
    }


def corrupt(path: str, how: str) -> None:
    file = Path(path)
    array = np.asanyarray(nib.load(path).dataobj).copy()
    if how == "missing":
        file.unlink()
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "truncated":
        file.write_bytes(file.read_bytes()[:-40])
    elif how == "not NIfTI":
        file.write_bytes(gzip.compress(b"x" * 1000))
    elif how == "2-D":
        write(file, array[..., 0])
    elif how == "4-D":
        write(file, np.stack([array, array], -1))
    elif how == "NaN":
        array[2, 2, 2] = np.nan
        write(file, array)
    elif how == "constant":
        write(file, np.full_like(array, 7))
    elif how == "zero spacing":
        content = bytearray(gzip.decompress(file.read_bytes()))
        content[84:88] = np.float32(0).tobytes()  # pixdim[2]
        file.write_bytes(gzip.compress(bytes(content)))
    elif how == "negative spacing":
        content = bytearray(gzip.decompress(file.read_bytes()))
        content[88:92] = np.float32(-4).tobytes()  # pixdim[3]
        file.write_bytes(gzip.compress(bytes(content)))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "does not exist"),
        ("empty", "is empty"),
        ("truncated", "cannot be read"),
        ("not NIfTI", "cannot be read"),
        ("2-D", "is 2-D"),
        ("4-D", "is 4-D"),
        ("NaN", "1 voxels that are NaN"),
        ("constant", "is constant"),
        ("zero spacing", "has spacing 1 x 0 x 4 mm"),
        ("negative spacing", "has spacing 1 x 1 x -4 mm"),
    ],
)
def test_bad_image(case, how, message):
    corrupt(case["image"], how)
    with pytest.raises(CaseError) as info:
        check_case(case, labels=[0, 1, 2])
    text = str(info.value)
    assert message in text
    assert text.startswith("p001_t1: ")
    assert case["image"] in text
    assert "\n" not in text


def test_a_good_case_has_no_findings(case):
    assert check_case(case, labels=[0, 1, 2], inside=(2, 1)) == []


def test_label_on_another_grid(case, tmp_path):
    label = np.asanyarray(nib.load(case["label"]).dataobj)
    shifted = AFFINE.copy()
    shifted[0, 3] = 3.0
    case["label"] = write(tmp_path / "shifted.nii.gz", label, shifted)
    with pytest.raises(CaseError, match=r"different grids \(apart by 3\.00 mm\)"):
        check_case(case)
    case["label"] = write(tmp_path / "cropped.nii.gz", label[:-1])
    with pytest.raises(CaseError, match=r"has shape \(11, 10, 6\)"):
        check_case(case)


def test_label_values(case, tmp_path):
    with pytest.raises(CaseError, match=r"unknown label values \[2\]"):
        check_case(case, labels=[0, 1])
    half = np.asanyarray(nib.load(case["label"]).dataobj) * np.float32(0.5)
    case["label"] = write(tmp_path / "half.nii.gz", half)
    with pytest.raises(CaseError, match="not whole numbers"):
        check_case(case)


def test_tumour_outside_organ_is_listed_not_refused(case, tmp_path):
    organ = (np.asanyarray(nib.load(case["label"]).dataobj) > 0).astype(np.uint8)
    organ[4, 4, 2] = 0
    case["organ"] = write(tmp_path / "organ.nii.gz", organ)
    with pytest.warns(UserWarning, match="p001_t1: 1 tumour voxels"):
        found = check_cases([case, case], labels=[0, 1, 2], inside=(2, 1), mask_keys=["organ"])
    assert len(found) == 2


def test_switch_and_first_error_in_order(case):
    bad = {"case": "p002", "image": "nowhere.nii.gz"}
    assert check_cases([bad], enabled=False) == []
    with pytest.raises(CaseError, match="p002"):
        check_cases([case, bad, {"case": "p003", "image": "nowhere.nii.gz"}])


@pytest.mark.parametrize("enabled", [True, False])
def test_no_cases_and_cases_without_a_label_are_refused(case, enabled):
    with pytest.raises(CaseError, match="cases: there are none"):
        check_cases([], enabled=enabled)
    plain = {key: value for key, value in case.items() if key != "label"} | {"case": "p002"}
    assert check_cases([plain], enabled=enabled) == []
    with pytest.raises(CaseError, match=r"p002: image .* has no label"):
        check_cases([case, plain], labels=[0, 1, 2], enabled=enabled)


def test_good_cases_are_read_once(case, tmp_path, monkeypatch):
    """Until path, size or time of a file changes, or what is checked; a bad one stays bad."""
    cache, read = tmp_path / "prepared" / "checked.json", []
    real = checks.check_case

    def counted(case, *arguments, **options):
        read.append(case["case"])
        return real(case, *arguments, **options)

    monkeypatch.setattr(checks, "check_case", counted)
    bad = {"case": "p002", "image": case["image"], "label": str(tmp_path / "nowhere.nii.gz")}
    for _ in range(2):
        with pytest.raises(CaseError, match=r"p002: label .*nowhere.nii.gz does not exist"):
            check_cases([bad, case, case], [0, 1, 2], cache=cache)
    assert sorted(read) == ["p001_t1", "p002", "p002"]
    check_cases([case], [0, 1, 2, 3], cache=cache)
    os.utime(case["label"], ns=(5, 5))
    check_cases([case], [0, 1, 2], cache=cache)
    check_cases([case], [0, 1, 2], cache=cache)
    assert read.count("p001_t1") == 3
    corrupt(case["image"], "truncated")
    with pytest.raises(CaseError, match="cannot be read"):
        check_cases([case], [0, 1, 2], cache=cache)


def test_warnings_of_checked_cases_are_said_again(case, tmp_path):
    case["organ"] = write(tmp_path / "organ.nii.gz", np.zeros((12, 10, 6), np.uint8))
    for _ in range(2):
        with pytest.warns(UserWarning, match="tumour voxels"):
            assert len(check_cases([case], inside=(2, 1), mask_keys=["organ"], cache=tmp_path / "c.json")) == 1


def test_a_cache_that_is_damaged_or_cannot_be_written_is_no_error(case, tmp_path):
    (tmp_path / "c.json").write_text("[1")
    assert check_cases([case], cache=tmp_path / "c.json") == []
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot be written"):
        assert check_cases([case], cache=tmp_path / "file" / "c.json") == []
