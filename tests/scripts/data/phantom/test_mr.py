"""MR of the phantom: what must hold for every case."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import ConvexHull, distance

from scripts.data.phantom.canvas import PhantomCase, Protocol, pose
from scripts.data.phantom.mr import acquisition, make_mr_case
from scripts.data.phantom.sampled_anatomy import sample_anatomy

SMALL = Protocol(matrix=96, slices=20)


def longest(mask: np.ndarray, affine: np.ndarray) -> float:
    """Longest diameter in mm between voxel centres."""
    points = np.argwhere(mask) @ affine[:3, :3].T
    if len(points) > 20 and len(np.unique(np.argwhere(mask)[:, 2])) > 1:
        points = points[ConvexHull(points).vertices]
    return float(distance.pdist(points).max())


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    return [make_mr_case(1, patient, patient % 3, SMALL) for patient in range(12)]


def test_same_seed_same_bits_whatever_was_drawn_before() -> None:
    first = make_mr_case(4, 2, 1, SMALL)
    make_mr_case(4, 3, 0, SMALL)
    again = make_mr_case(4, 2, 1, SMALL)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.label.tobytes() == again.label.tobytes()
    assert np.array_equal(first.affine, again.affine)
    assert make_mr_case(5, 2, 1, SMALL).image.tobytes() != first.image.tobytes()


def test_types_and_values(cases: list[PhantomCase]) -> None:
    for case in cases:
        assert case.image.dtype == np.int16
        assert case.label.dtype == np.uint8
        assert set(np.unique(case.label)) == {0, 1, 2}
        assert case.image.shape == case.label.shape
        assert case.image.min() >= 0


def test_tumour_is_5_to_60_mm_and_touches_the_organ(cases: list[PhantomCase]) -> None:
    for case in cases:
        voxel = float(np.linalg.norm(np.linalg.norm(case.affine[:3, :3], axis=0)))
        size = longest(case.label == 2, case.affine)
        assert 5 - voxel <= size <= 60
        grown = ndimage.binary_dilation(case.label == 2, iterations=2)
        assert (case.label[grown] == 1).any()


@pytest.mark.parametrize("size", [(5, 7.1), (59, 60)])
def test_extreme_tumours_are_drawn_and_measured(size: tuple[float, float]) -> None:
    for patient in range(3):
        case = make_mr_case(7, patient, 0, Protocol(matrix=160, slices=None, thickness=3, spacing=None), size)
        found = longest(case.label == 2, case.affine)
        assert (4 if size[1] < 10 else 42) <= found <= 60


def test_tumour_shrinks_over_time_points() -> None:
    sizes = [make_mr_case(2, 4, visit, SMALL, (40, 60)).info["tumor_mm"] for visit in range(3)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_organ_is_one_piece_and_not_cut_off() -> None:
    for patient in range(16):
        case = make_mr_case(9, patient, patient % 3, SMALL)
        organ = case.label > 0
        _, pieces = ndimage.label(organ, np.ones((3, 3, 3)))
        assert pieces == 1
        inner = np.zeros_like(organ)
        inner[1:-1, 1:-1, 1:-1] = True
        assert not (organ & ~inner).any(), f"patient {patient} {case.info}"


def test_clinical_spacing_and_planes() -> None:
    codes: dict[str, set[str]] = {"axial": set(), "sagittal": set()}
    for patient in range(40):
        plane = ("axial", "sagittal")[patient % 2]
        anatomy, rng = sample_anatomy(6, patient), np.random.default_rng(patient)
        shape, affine, drawn = acquisition(rng, anatomy, pose(rng, anatomy), Protocol(plane=plane))
        spacing = nib.affines.voxel_sizes(affine)
        assert spacing[0] == pytest.approx(spacing[1])
        assert 0.4 <= spacing[0] <= 0.7
        assert 3.0 <= spacing[2] <= 6.0
        assert 288 <= shape[0] == shape[1] <= 640
        assert 24 <= shape[2] <= 42
        assert drawn == plane
        codes[plane].add(nib.aff2axcodes(affine)[2])
    assert codes["axial"] <= {"S", "I"}
    assert codes["sagittal"] <= {"L", "R"}
    assert {sample for patient in range(40) for sample in [_plane(patient)]} == {"axial", "sagittal"}


def _plane(patient: int) -> str:
    anatomy, rng = sample_anatomy(6, patient), np.random.default_rng(patient)
    return acquisition(rng, anatomy, pose(rng, anatomy), Protocol())[2]


def test_a_full_size_case_says_its_spacing() -> None:
    case = make_mr_case(6, 0)
    np.testing.assert_allclose(case.info["spacing"], nib.affines.voxel_sizes(case.affine), atol=1e-3)
    assert case.image.shape[0] >= 288


def test_tissues_have_the_contrast_of_t2(cases: list[PhantomCase]) -> None:
    for case in cases:
        background = case.image[:3, :3][case.label[:3, :3] == 0]
        assert background.size
        tumor = np.median(case.image[case.label == 2])
        organ = np.median(case.image[case.label == 1])
        assert organ < tumor < np.percentile(case.image, 99.5)


def test_air_is_rician() -> None:
    """Magnitude noise has a positive mean, 1.91 times its SD (Rayleigh); Gaussian noise would have 0."""
    case = make_mr_case(3, 0, 0, Protocol(plane="axial", spacing=4.0, matrix=128, slices=24))
    air = np.concatenate([case.image[:8, :8].ravel(), case.image[-8:, -8:].ravel()])
    assert air.mean() > 2
    assert air.mean() / air.std() == pytest.approx(1.913, abs=0.06)
