from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from custom_networks.errors import CaseError
from scripts.data.dicom.patterns import checked_pattern, matches


def test_upper_and_lower_case_are_alike() -> None:
    assert matches("uterus|cervix", "The CERVIX")
    assert not matches("^cervix", "The CERVIX")


def test_a_pattern_that_never_ends_is_refused_in_time_and_other_timers_go_on() -> None:
    old = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    left = signal.setitimer(signal.ITIMER_REAL, 300)
    try:
        start = time.monotonic()
        with pytest.raises(CaseError, match=r"does not come to an end within 0\.2 s"):
            matches(r"^(a+)+$", "a" * 40 + "!", 0.2)
        assert time.monotonic() - start < 5
        assert 200 < signal.getitimer(signal.ITIMER_REAL)[0] <= 300
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN
    finally:
        signal.setitimer(signal.ITIMER_REAL, *left)
        signal.signal(signal.SIGALRM, old)


def test_another_thread_has_no_signals_and_searches_all_the_same() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(matches, "thread", "a THREAD of its own").result()


def test_a_faulty_expression_is_refused() -> None:
    assert checked_pattern("--description", 2) == "2"
    with pytest.raises(CaseError, match=r"--description: 'a\(' is not a regular expression"):
        checked_pattern("--description", "a(")
