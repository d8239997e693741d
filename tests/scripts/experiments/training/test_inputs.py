import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.experiments.training.inputs import (
    ENDS,
    case_inputs,
    code_inputs,
    differences,
    file_digest,
    setting_inputs,
)


def test_one_voxel_of_a_large_image_changes_its_digest(tmp_path):
    rng = np.random.default_rng(0)
    voxels, digests = rng.integers(0, 1000, (70, 70, 70)).astype(np.int16), []
    for value in (1, 2, 1):
        voxels[35, 35, 35] = value
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "x.nii.gz")
        digests.append(file_digest(tmp_path / "x.nii.gz"))
    assert (tmp_path / "x.nii.gz").stat().st_size > 3 * ENDS
    assert digests[0] != digests[1]
    with pytest.raises(CaseError, match="cannot be read"):
        file_digest(tmp_path / "absent.nii.gz")


def test_places_do_not_count_and_settings_do(organ, tmp_path):
    from pathlib import Path

    def of(**more):
        return setting_inputs(Path(organ), ["configs/train.json"], more)

    assert of(num_workers=0, output_dir="x", fold=3) == of()
    assert of(spacing=(1, 1, 3)) == of(spacing=[1, 1, 3]) != of()
    for name, text in (("a.pt", b"1"), ("b.pt", b"2"), ("c.pt", b"1")):
        (tmp_path / name).write_bytes(text)
    a, b, c = (of(organ_weights=str(tmp_path / name)) for name in ("a.pt", "b.pt", "c.pt"))
    assert a == c
    assert a != b


def test_differences_are_told_in_words(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    case = {"case": "x", "patient": "p", "image": str(tmp_path / "a")}
    before = {"cases": case_inputs([case], []), "settings": {"lr": 1, "gone": 0, "long": [0] * 40}, "code": {"v": 1}}
    now = {
        "cases": case_inputs([{**case, "patient": "q", "image": str(tmp_path / "b")}], []),
        "settings": {"lr": 2, "new": 0, "long": [1] * 40},
        "code": {"v": 1},
    }
    assert differences(before, before) == {}
    assert differences(before, now) == {
        "cases": ["x (training) has another patient and another image"],
        "settings": ["new is new", "gone is gone", "lr is 2, was 1", "long is another"],
    }


def test_the_code_is_named_by_versions_and_sources():
    assert set(code_inputs()) == {"torch", "monai", "custom_networks"}
    assert code_inputs() == code_inputs()
