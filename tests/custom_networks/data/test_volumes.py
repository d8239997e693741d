"""Reading of one volume: a grid that is known, numbers that are numbers, or one sentence."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError, check_case, read_label, read_volume
from custom_networks.data.volumes import corner_distance
from tests.bad_volumes import AFFINE, IMAGES, LABELS, SHAPE, image


@pytest.mark.parametrize("fault", IMAGES)
def test_an_image_that_cannot_be_meant_is_refused_in_one_sentence(tmp_path: Path, fault: str) -> None:
    make, words = IMAGES[fault]
    path = tmp_path / "i.nii.gz"
    make(path)
    with pytest.raises(CaseError) as error:
        read_volume(path, "a")
    assert words in str(error.value)
    assert str(error.value).startswith("a: ")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault", LABELS)
def test_the_check_of_training_refuses_such_labels(tmp_path: Path, fault: str) -> None:
    make, words = LABELS[fault]
    nib.save(nib.Nifti1Image(image(), AFFINE), tmp_path / "i.nii.gz")
    make(tmp_path / "l.nii.gz")
    case = {"case": "a", "image": str(tmp_path / "i.nii.gz"), "label": str(tmp_path / "l.nii.gz")}
    with pytest.raises(CaseError, match=r"l\.nii\.gz") as error:
        check_case(case, [0, 1])
    assert words in str(error.value)


@pytest.mark.parametrize("kind", ["uint8", "int16", "float32", "float64"])
def test_labels_come_as_whole_numbers_whatever_their_type(tmp_path: Path, kind: str) -> None:
    label = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 5
    nib.save(nib.Nifti1Image(label.astype(kind), AFFINE), tmp_path / "l.nii.gz")
    found, affine = read_label(tmp_path / "l.nii.gz", "a")
    assert found.dtype.kind in "iu"
    np.testing.assert_array_equal(found, label)
    np.testing.assert_allclose(affine, AFFINE)


def test_headers_within_rounding_are_taken(tmp_path: Path) -> None:
    """A quaternion of float32 is off by micrometres; an angle of 0.1 degrees comes from rounded direction cosines."""
    nifti = nib.Nifti1Image(image(), AFFINE)
    nearly = AFFINE.copy()
    nearly[:3, 3] += 0.05
    nifti.set_qform(nearly, code=1)
    nib.save(nifti, tmp_path / "i.nii.gz")
    assert read_volume(tmp_path / "i.nii.gz", "a")[0].shape == SHAPE
    tilted = AFFINE.copy()
    tilted[1, 2] = 0.005
    nib.save(nib.Nifti1Image(image(), tilted), tmp_path / "i.nii.gz")
    assert read_volume(tmp_path / "i.nii.gz", "a")[0].shape == SHAPE


def test_corner_distance_looks_at_every_corner() -> None:
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    far = corner_distance(np.eye(4), turned, (11, 11, 3))
    assert far == pytest.approx(10 * (np.sin(0.1) + 1 - np.cos(0.1)))
    assert corner_distance(np.eye(4), np.eye(4), (11, 11, 3)) == 0


def test_a_qform_near_a_half_turn_may_be_rounded(tmp_path: Path) -> None:
    """The header of an ordinary axial series whose axes are a little oblique: its qform is 0.2 mm off for want of digits."""
    shape = (160, 160, 30)
    turn = nib.quaternions.quat2mat(
        [0.0006162087113020979, -0.009395199427567447, 0.004309875017832437, 0.9999463863087216]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.6, 1.6, 4.0])
    nifti = nib.Nifti1Image(np.random.default_rng(0).normal(0, 1, shape).astype(np.float32), affine)
    nifti.set_qform(affine, code=1)
    nib.save(nifti, tmp_path / "x.nii")
    loaded = nib.load(tmp_path / "x.nii")
    assert corner_distance(loaded.get_sform(), loaded.get_qform(), shape) > 0.2
    read_volume(tmp_path / "x.nii", "x")
    # half a degree is no rounding
    turned = affine.copy()
    turned[:3, :3] = nib.eulerangles.euler2mat(np.deg2rad(0.5)) @ affine[:3, :3]
    nifti.set_qform(turned, code=1)
    nib.save(nifti, tmp_path / "y.nii")
    with pytest.raises(CaseError, match="mm apart, and programs differ"):
        read_volume(tmp_path / "y.nii", "y")
