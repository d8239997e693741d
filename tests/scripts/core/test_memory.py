"""The peak of memory is that of this process, in bytes."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from scripts.core.memory import peak_bytes

MIB = 2**20


def test_the_peak_grows_by_what_is_held_and_stays_when_it_is_freed() -> None:
    before = peak_bytes(reset=True)
    held = np.ones(64 * MIB, np.uint8)
    grown = peak_bytes()
    assert held.all()
    del held
    # the kernel counts pages of threads late
    assert grown >= before - MIB
    assert peak_bytes() >= grown - MIB
    # a Python process with numpy, in bytes and not in kilobytes or pages
    assert 16 * MIB < grown < 2**40


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process forget its peak")
def test_a_peak_can_be_forgotten() -> None:
    held = np.ones(256 * MIB, np.uint8)
    high = peak_bytes()
    assert held[-1] == 1
    del held
    low = peak_bytes(reset=True)
    assert high - low > 128 * MIB
    held = np.ones(256 * MIB, np.uint8)
    assert peak_bytes() - low > 128 * MIB
    assert held[0] == 1
