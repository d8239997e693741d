"""The rules of `plan`: every number worked out by hand or taken from nnU-Net's and MIST's published behaviour."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.data.plan.rules import anisotropic, batch_size, nnunet_patch, paper_patch, resampled_sizes, target_spacing


def test_target_spacing_is_the_median_where_no_axis_is_coarse() -> None:
    fine = np.array([[1.0, 1.0, 2.0], [1.2, 1.2, 3.0], [1.4, 1.4, 2.5]])
    assert target_spacing(fine) == ([1.2, 1.2, 2.5], "median of 3 cases")


def test_a_coarse_axis_takes_its_tenth_percentile() -> None:
    coarse = np.array([[0.5, 0.5, 3.0], [0.5, 0.5, 5.0], [0.5, 0.5, 5.0]])
    spacing, reason = target_spacing(coarse)
    assert spacing == pytest.approx([0.5, 0.5, 3.4])
    assert "axis S is 10.0 times as coarse as the finest (more than 3)" in reason
    assert "10th percentile, 3.4 mm, instead of its median, 5 mm" in reason
    sagittal = np.array([[6.0, 0.5, 0.5], [4.0, 0.5, 0.5]])
    assert target_spacing(sagittal)[0] == pytest.approx([4.2, 0.5, 0.5])
    # exactly three times is not more than three times
    assert target_spacing(np.array([[1.0, 1.0, 3.0], [1.0, 1.0, 3.0], [1.0, 1.0, 2.0]]))[0] == [1.0, 1.0, 3.0]


def test_planes_of_two_kinds_do_not_mix_their_spacings() -> None:
    mixed = np.array([[0.5, 0.5, 5.0], [0.5, 0.5, 5.0], [5.0, 0.5, 0.5]])
    spacing, reason = target_spacing(mixed)
    assert spacing == pytest.approx([0.5, 0.5, 5.0])
    assert "1 of them acquired in another plane" in reason


def test_resampled_sizes_round_and_never_vanish() -> None:
    sizes = resampled_sizes(np.array([[100, 100, 10], [3, 1, 1]]), np.array([[1.0, 1.0, 5.0]] * 2), [2.0, 1.0, 20.0])
    assert sizes.tolist() == [[50, 100, 2], [2, 1, 1]]


def test_the_papers_patch() -> None:
    assert paper_patch([512, 512, 36], [8, 8, 8])[0] == [256, 256, 32]
    assert paper_patch([300, 255.5, 33], [8, 8, 8])[0] == [256, 128, 32]
    patch, reason = paper_patch([64, 63, 7], [8, 8, 8])
    assert patch == [64, 32, 8]
    assert "raised from 64 x 32 x 4, because the network's strides need multiples of 8 x 8 x 8" in reason


def test_nnunets_patch_says_that_it_rounds_up() -> None:
    patch, reason = nnunet_patch([200, 200, 36], [1, 1, 1], [8, 8, 8], lambda p: True)
    assert patch == [200, 200, 40]
    assert "at most the median resampled size 200 x 200 x 36, rounded up to multiples of 8 x 8 x 8" in reason
    assert "not above" not in reason
    assert nnunet_patch([200, 200, 36], [1, 1, 1], [8, 8, 4], lambda p: True)[0] == [200, 200, 36]


def test_nnunets_patch_is_as_wide_in_mm_along_every_axis_and_shrinks_to_the_memory() -> None:
    everything = nnunet_patch([1000, 1000, 1000], [1, 1, 4], [8, 8, 8], lambda p: True)[0]
    assert everything[0] / everything[2] == pytest.approx(4, rel=0.05)
    limit = 100_000
    small, reason = nnunet_patch([200, 150, 60], [1, 1, 3], [8, 8, 4], lambda p: int(np.prod(p)) <= limit)
    assert np.prod(small) <= limit < np.prod(small) * 1.4
    assert all(n % m == 0 for n, m in zip(small, (8, 8, 4), strict=True))
    assert "200 x 152 x 60 does not fit the memory" in reason
    assert nnunet_patch([20, 20, 20], [1, 1, 1], [8, 8, 8], lambda p: False)[0] == [8, 8, 8]


def test_shrinking_begins_where_most_of_the_volume_is_covered() -> None:
    """nnU-Net reduces the axis whose patch covers the largest share of the median size."""
    tried: list[list[int]] = []

    def fits(patch: list[int]) -> bool:
        tried.append(list(patch))
        return len(tried) > 2

    nnunet_patch([400, 400, 40], [1, 1, 1], [8, 8, 8], fits)
    assert tried[0][2] == 40
    assert [tried[0][2] - t[2] for t in tried[1:]] == [8, 16]


def test_anisotropic_follows_nnunets_ratio_of_two() -> None:
    kernels, strides, reason = anisotropic([0.469, 0.469, 5.0], 4)
    # 10.7, 5.3 and 2.7 times as coarse, then 1.3
    assert kernels == [[3, 3, 1], [3, 3, 1], [3, 3, 1], [3, 3, 3]]
    assert strides == [[2, 2, 1]] * 3
    assert "at least 2 times as coarse" in reason
    assert anisotropic([1.0, 1.0, 2.0], 3)[:2] == ([[3, 3, 1], [3, 3, 3], [3, 3, 3]], [[2, 2, 1], [2, 2, 2]])
    assert anisotropic([1.0, 1.0, 1.9], 2)[:2] == ([[3, 3, 3]] * 2, [[2, 2, 2]])
    assert anisotropic([1.5, 1.5, 1.5], 3)[:2] == ([[3, 3, 3]] * 3, [[2, 2, 2]] * 2)


def test_batch_size_is_bound_by_memory_by_five_percent_and_by_the_cases() -> None:
    assert batch_size([10, 10, 10], 10**6, lambda n: n <= 7, most=100) == (
        7,
        "the largest that the memory allows, at least 2",
    )
    assert batch_size([10, 10, 10], 100_000, lambda n: True, most=100) == (
        5,
        "the largest that 5 % of the data set's voxels allows, at least 2",
    )
    assert batch_size([10, 10, 10], 10**6, lambda n: True, most=3)[0] == 3
    assert batch_size([10, 10, 10], 1000, lambda n: False, most=3)[0] == 2
