from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.experiments.training import with_parent

FILE = with_parent.__file__
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do it")


def test_the_program_takes_the_place_of_the_process(tmp_path: Path) -> None:
    code = f"import os, sys; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); sys.exit(7)"
    process = subprocess.Popen([sys.executable, FILE, str(os.getpid()), sys.executable, "-c", code])
    assert process.wait() == 7
    assert int((tmp_path / "pid").read_text()) == process.pid


@linux
def test_nothing_begins_when_the_parent_is_gone() -> None:
    done = subprocess.run([sys.executable, FILE, "1", "true"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the parent ended before" in done.stderr


@linux
def test_the_program_ends_with_its_parent(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    sleeper = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid()) + ' '); time.sleep(60)"
    words = f"[sys.executable, {FILE!r}, str(os.getpid()), sys.executable, '-c', {sleeper!r}]"
    parent = subprocess.Popen([sys.executable, "-c", f"import os, subprocess, sys; subprocess.run({words})"])
    deadline = time.monotonic() + 30
    while not (pid.is_file() and pid.read_text().endswith(" ")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    child = Path(f"/proc/{pid.read_text().strip()}/stat")
    while child.is_file() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)
