"""Placing of patients so that every place has its share of everything that is counted."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np


def _cost(totals: np.ndarray, shares: np.ndarray) -> float:
    """Squared departure of every place from its share, relative to the share.

    Args:
        totals: (places, features), each feature adding up to at most 1.
        shares: (places,), adding up to 1.
    """
    return float((((totals - shares[:, None]) ** 2) / shares[:, None]).sum())


def _slots(count: int, held: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """How many of `count` new patients each place takes, so that the numbers follow the shares."""
    slots = np.zeros(len(shares), dtype=int)
    for _ in range(count):
        # the place that is furthest below its share; empty places first, so that none stays empty
        slots[int(np.argmin((held + slots + 0.5) / shares - 1e9 * (held + slots == 0)))] += 1
    return slots


def assign(amounts: np.ndarray, shares: Mapping[int, float], fixed: Mapping[int, int], seed: int) -> list[int]:
    """Place rows so that the sums of all columns follow the shares.

    The largest are placed first, each where it helps most; then pairs of newly placed rows are exchanged as long as
    that helps. Rows in `fixed` never move.

    Args:
        amounts: (rows, columns), not negative; columns are weighed equally.
        shares: place to its share; the shares add up to 1.
        fixed: row to place, for rows that have one.
        seed: decides between equally good places.

    Returns:
        The place of each row.
    """
    places = list(shares)
    share = np.array([shares[place] for place in places], dtype=np.float64)
    # a place that is no longer asked for keeps its rows; it must not divide by zero
    share = np.maximum(share, 1e-3) / np.maximum(share, 1e-3).sum()
    column_sums = amounts.sum(axis=0)
    scaled = amounts[:, column_sums > 0] / column_sums[column_sums > 0]
    at = np.full(len(amounts), -1)
    for row, place in fixed.items():
        at[row] = places.index(place)
    totals = np.zeros((len(places), scaled.shape[1]))
    for row in np.flatnonzero(at >= 0).tolist():
        totals[at[row]] += scaled[row]
    new = np.flatnonzero(at < 0)
    slots = _slots(len(new), np.bincount(at[at >= 0], minlength=len(places)).astype(float), share)
    generator = np.random.default_rng(seed)
    order = generator.permutation(new)
    order = order[np.argsort(-scaled[order].sum(axis=1), kind="stable")]
    for row in order.tolist():
        best, least = -1, np.inf
        for place in generator.permutation(len(places)):
            if slots[place] == 0:
                continue
            trial = totals.copy()
            trial[place] += scaled[row]
            cost = _cost(trial, share)
            if cost < least:
                best, least = int(place), cost
        at[row], slots[best] = best, slots[best] - 1
        totals[best] += scaled[row]
    _exchange(at, totals, scaled, share, order)
    return [places[i] for i in at]


def _exchange(at: np.ndarray, totals: np.ndarray, scaled: np.ndarray, share: np.ndarray, order: np.ndarray) -> None:
    # sweeps are bounded: 1,000 patients are half a million pairs
    for _ in range(20 if len(order) <= 150 else 3):
        improved = False
        for a, b in combinations(order, 2):
            i, j = at[a], at[b]
            if i == j:
                continue
            change = scaled[b] - scaled[a]
            before = ((totals[i] - share[i]) ** 2).sum() / share[i] + ((totals[j] - share[j]) ** 2).sum() / share[j]
            gain_i, gain_j = totals[i] + change, totals[j] - change
            after = ((gain_i - share[i]) ** 2).sum() / share[i] + ((gain_j - share[j]) ** 2).sum() / share[j]
            if after < before - 1e-12:
                totals[i], totals[j] = gain_i, gain_j
                at[a], at[b] = j, i
                improved = True
        if not improved:
            return
