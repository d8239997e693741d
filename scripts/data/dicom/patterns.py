"""Regular expressions that a user gave: checked before work starts, and stopped where they would never end."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType

from custom_networks.errors import CaseError

SECONDS = 2.0


class _Late(Exception):
    pass


def checked_pattern(option: str, pattern: object) -> str:
    """Return a regular expression as text.

    Args:
        option: the option's name, for the message.
        pattern: what was passed.

    Returns:
        The pattern.

    Raises:
        CaseError: it is not a regular expression.
    """
    try:
        re.compile(str(pattern))
    except re.error as error:
        raise CaseError(
            option,
            f"'{pattern}' is not a regular expression ({error})",
            "correct it; put a backslash before ( ) [ ] * + ? that are meant literally",
        ) from None
    return str(pattern)


@lru_cache(maxsize=65536)
def matches(pattern: str, text: str, seconds: float = SECONDS) -> bool:
    """Whether a text contains what a pattern describes, upper and lower case alike.

    Args:
        pattern: a regular expression.
        text: any text, such as an ROI's name.
        seconds: how long one search may take; some patterns take longer than anyone lives.

    Returns:
        Whether it does.

    Raises:
        CaseError: the search took too long.
    """
    try:
        with _stopped_after(seconds):
            return re.search(pattern, text, re.IGNORECASE) is not None
    except _Late:
        raise CaseError(
            f"pattern '{pattern}'",
            f"it does not come to an end within {seconds:g} s on a name of {len(text)} characters",
            "write it without a repetition inside a repetition, such as (a+)+",
        ) from None


@contextmanager
def _stopped_after(seconds: float) -> Iterator[None]:
    """Only a signal can stop Python's re; where there is none (another thread, Windows) it is not stopped."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, before)
