"""A folder that one process at a time writes to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom_networks import CaseError

try:
    import fcntl
except ImportError:  # Windows: a second process is not noticed there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold a folder; it is made. A process that inherits the descriptor goes on holding it when the caller is killed.

    Args:
        folder: what to hold.

    Yields:
        The descriptor of the lock.

    Raises:
        CaseError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise CaseError(f"folder {folder}", "another process works in it", "wait for its end") from error
        yield held
    finally:
        os.close(held)
