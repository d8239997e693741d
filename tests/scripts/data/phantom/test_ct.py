"""CT of the phantom: what must hold for every case."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from custom_networks import CaseError, check_cases, read_datalist
from scripts.__main__ import main
from scripts.data.phantom.canvas import PhantomCase, Protocol, pose
from scripts.data.phantom.ct import LABELS, ct_grid, make_ct_case
from scripts.data.phantom.phantom import phantom
from scripts.data.phantom.sampled_anatomy import sample_anatomy

SMALL = Protocol(matrix=96, slices=56)


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    return [make_ct_case(1, patient, patient % 2, SMALL) for patient in range(6)]


def test_same_seed_same_bits(cases: list[PhantomCase]) -> None:
    again = make_ct_case(1, 1, 1, SMALL)
    assert again.image.tobytes() == cases[1].image.tobytes()
    assert again.label.tobytes() == cases[1].label.tobytes()


def test_without_applicator_or_artefacts_the_rest_is_the_same(cases: list[PhantomCase]) -> None:
    whole = cases[1]
    clean = make_ct_case(1, 1, 1, SMALL, metal_artefacts=False)
    empty = make_ct_case(1, 1, 1, SMALL, applicator=False)
    for other in (clean, empty):
        assert other.label.tobytes() == whole.label.tobytes()
        assert np.array_equal(other.affine, whole.affine)
    metal = [case.image >= 3000 for case in (whole, clean, empty)]
    assert metal[0].any()
    assert metal[1].any()
    assert not metal[2].any()
    assert (whole.implant is None, empty.implant is None) == (False, True)
    # streaks reach far from the metal, packing does not
    near = ndimage.binary_dilation(metal[0], np.ones((3, 3, 3)), iterations=20)
    assert np.array_equal(clean.image[~near], empty.image[~near])
    assert np.abs(whole.image[~near].astype(int) - clean.image[~near]).mean() > 1


def test_every_structure_is_there_in_one_piece(cases: list[PhantomCase]) -> None:
    for case in cases:
        voxel = abs(np.linalg.det(case.affine[:3, :3])) / 1000
        for value, (low, high) in {1: (8, 150), 2: (30, 600), 3: (25, 250), 4: (15, 260), 5: (8, 300)}.items():
            mask = case.label == value
            assert low <= mask.sum() * voxel <= high, LABELS[str(value)]
            _, pieces = ndimage.label(mask, np.ones((3, 3, 3)))
            sizes = np.bincount(ndimage.label(mask, np.ones((3, 3, 3)))[0].ravel())[1:]
            # the sigmoid may leave the scan and come back; every other structure is whole
            assert value == 5 or sizes.max() >= 0.97 * sizes.sum(), (LABELS[str(value)], pieces)
        assert set(np.unique(case.label)) == {0, 1, 2, 3, 4, 5}


def test_sigmoid_continues_the_rectum_and_uterus_the_cervix(cases: list[PhantomCase]) -> None:
    for case in cases:
        for one, other in ((3, 5), (1, 4)):
            grown = ndimage.binary_dilation(case.label == one, np.ones((3, 3, 3)), iterations=2)
            assert (case.label[grown] == other).any()


def test_hounsfield_units(cases: list[PhantomCase]) -> None:
    for case in cases:
        assert case.image.dtype == np.int16
        assert -1024 <= case.image.min() <= -950
        assert case.image.max() > 1800
        middle = case.image.shape[0] // 2
        body = ndimage.binary_opening(case.image > -300)
        fat = case.image[body & (case.image < -50)]
        assert np.median(fat) == pytest.approx(-100, abs=20)
        assert body[middle].any()
        assert 20 <= np.median(case.image[case.label == 4]) <= 130


def test_tandem_runs_through_cervix_and_uterus(cases: list[PhantomCase]) -> None:
    for case in cases:
        metal = case.image > 900
        assert metal[case.label == 1].any()
        assert metal[case.label == 4].any()


def test_bladder_contrast_varies(cases: list[PhantomCase]) -> None:
    levels = [float(np.median(case.image[case.label == 2])) for case in cases]
    assert min(levels) > -20
    assert max(levels) - min(levels) > 40


def test_clinical_spacing() -> None:
    found = []
    for patient in range(30):
        anatomy, rng = sample_anatomy(2, patient), np.random.default_rng(patient)
        shape, affine = ct_grid(rng, anatomy, pose(rng, anatomy, 1.5), Protocol())
        spacing = nib.affines.voxel_sizes(affine)
        found.append(spacing[0])
        assert spacing[2] == pytest.approx(1.0)
        assert shape[0] >= 512
        assert shape[0] * spacing[0] >= 219
        assert nib.aff2axcodes(affine) == ("L", "P", "S")
    assert min(found) >= 0.31
    assert max(found) <= 1.17
    assert max(found) - min(found) > 0.4


def test_command_labelled_and_not(tmp_path: Path) -> None:
    size = ["--matrix", "64", "--slices", "24", "--cases", "3", "--output"]
    assert main(["phantom", "--modality", "ct", *size, str(tmp_path / "with")]) == 0
    assert main(["phantom", "--modality", "ct", "--labelled", "false", *size, str(tmp_path / "without")]) == 0
    labelled = read_datalist(tmp_path / "with" / "datalist.json")
    plain = read_datalist(tmp_path / "without" / "datalist.json")
    assert check_cases(labelled, labels=range(6)) == check_cases(plain) == []
    assert json.loads((tmp_path / "with" / "datalist.json").read_text())["labels"] == LABELS
    assert "labels" not in json.loads((tmp_path / "without" / "datalist.json").read_text())
    assert all("label" not in case for case in plain)
    assert not (tmp_path / "without" / "labels").exists()
    one, other = (np.asarray(nib.load(cases[0]["image"]).dataobj) for cases in (labelled, plain))
    assert np.array_equal(one, other)


def test_sagittal_ct_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="axial"):
        phantom(modality="ct", plane="sagittal", cases=1, output=str(tmp_path))
