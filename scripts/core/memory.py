"""Peak of a process's own memory."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path


def peak_bytes(reset: bool = False) -> int:
    """Peak of resident memory in bytes.

    Args:
        reset: forget earlier peaks first, such as that of the imports, where the system lets a process do so.
    """
    import resource

    status = Path("/proc/self/status")
    if reset:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
