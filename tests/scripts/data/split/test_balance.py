"""Placing of rows: every column is weighed, what is fixed stays, no place is left empty."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.data.split.balance import assign


def sums(amounts: np.ndarray, places: list[int], count: int) -> np.ndarray:
    return np.array([amounts[np.array(places) == place].sum(axis=0) for place in range(count)])


def test_every_column_is_balanced() -> None:
    """Two columns that pull apart: who is heavy in one is light in the other, and half are present in the third."""
    generator = np.random.default_rng(0)
    heavy = generator.permutation([1.0] * 8 + [9.0] * 8)
    amounts = np.column_stack([np.ones(16), heavy, 10 - heavy, generator.permutation([0.0] * 8 + [1.0] * 8)])
    found = sums(amounts, assign(amounts, dict.fromkeys(range(4), 0.25), {}, seed=0), 4)
    assert found[:, 0].tolist() == [4, 4, 4, 4]
    assert found[:, 1].tolist() == [20, 20, 20, 20]
    assert found[:, 2].tolist() == [20, 20, 20, 20]
    assert found[:, 3].tolist() == [2, 2, 2, 2]


def test_a_column_of_its_own_scale_counts_as_much_as_the_others() -> None:
    amounts = np.column_stack([np.ones(8), [1e6, 1e6, 1, 1, 1, 1, 1, 1], [1e-6] * 2 + [0] * 6])
    found = sums(amounts, assign(amounts, {0: 0.5, 1: 0.5}, {}, seed=3), 2)
    assert found[:, 0].tolist() == [4, 4]
    assert found[:, 1] == pytest.approx([1e6 + 3] * 2)


def test_fixed_rows_stay_and_new_ones_even_out() -> None:
    amounts = np.column_stack([np.ones(6), [10, 10, 1, 1, 1, 1]])
    places = assign(amounts, {0: 0.5, 1: 0.5}, {0: 0, 1: 0}, seed=0)
    assert places[:2] == [0, 0]
    assert sums(amounts, places, 2)[:, 0].tolist() == [3, 3]


def test_shares_are_followed_and_no_place_is_empty() -> None:
    amounts = np.ones((20, 1))
    counts = np.bincount(assign(amounts, {0: 0.6, 1: 0.3, 2: 0.1}, {}, seed=0))
    assert counts.tolist() == [12, 6, 2]
    assert sorted(assign(np.ones((3, 1)), {0: 0.9, 1: 0.05, 2: 0.05}, {}, seed=0)) == [0, 1, 2]


def test_a_place_that_is_no_longer_asked_for_keeps_its_rows_and_takes_no_more() -> None:
    places = assign(np.ones((10, 1)), {0: 0.5, 1: 0.5, -1: 0.0}, {9: -1}, seed=0)
    assert places[9] == -1
    assert places.count(-1) == 1


def test_the_seed_alone_decides_between_equals() -> None:
    amounts = np.ones((12, 1))
    shares = dict.fromkeys(range(3), 1 / 3)
    assert assign(amounts, shares, {}, seed=1) == assign(amounts, shares, {}, seed=1)
    assert assign(amounts, shares, {}, seed=1) != assign(amounts, shares, {}, seed=2)
