"""The pool; what happens when processes die or memory ends is in tests/scripts/core/test_jobs.py."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from custom_networks import CaseError
from custom_networks.processes import in_processes


def test_a_forked_process_inherits_what_could_not_be_sent() -> None:
    held: Callable[[int], int] = lambda x: x + 1  # noqa: E731  (a lambda cannot be pickled)
    found = dict(in_processes(lambda x: (held(x), os.getpid()), [1, 2, 3], 2))
    assert [found[i][0] for i in range(3)] == [2, 3, 4]
    assert os.getpid() not in {process for _, process in found.values()}


def test_one_pool_after_another_does_its_own_work() -> None:
    assert dict(in_processes(lambda x: x * 2, [5], 1)) == {0: 10}
    assert dict(in_processes(lambda x: x * 3, [5], 1)) == {0: 15}


def test_a_death_without_a_stand_in_is_one_sentence() -> None:
    with pytest.raises(CaseError, match="item 1 of 1: the process that worked on it died"):
        list(in_processes(lambda _: os.kill(os.getpid(), 9), [0], 1))
