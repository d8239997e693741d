"""Processes that die, that outlive nobody, and that lose no item."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from custom_networks import CaseError
from scripts.core.jobs import DIED, in_processes, parallel

# what workers import: functions of test modules are nowhere to be found for them
FUNCTIONS = """
import os, time

def square(x):
    return x * x

def deadly(x):
    if x == 3:
        os.kill(os.getpid(), 9)
    time.sleep(0.05)
    return x

def hungry(x):
    if x == 1:
        raise MemoryError
    return x

def wrong(x):
    raise ValueError("a fault of ours")

def noted(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("job_functions", None)


def test_results_keep_the_order_of_the_items(capsys: pytest.CaptureFixture[str]) -> None:
    from job_functions import square

    assert parallel(square, range(7), 2, "squares") == [x * x for x in range(7)]
    assert parallel(square, range(7), 1, "squares") == [x * x for x in range(7)]
    assert parallel(square, [], 2, "squares") == []


def test_only_the_item_that_kills_its_process_fails() -> None:
    from job_functions import deadly, square

    found = dict(in_processes(deadly, range(8), 2, lambda item, why: f"{item}: {why}"))
    assert found == {**{i: i for i in range(8)}, 3: f"3: {DIED}"}
    with pytest.raises(CaseError, match=r"item 4 of 8: the process that worked on it died.*pass fewer --workers"):
        list(in_processes(deadly, range(8), 2))
    # and the next call has processes again
    assert parallel(square, [1, 2, 3], 2, "squares") == [1, 4, 9]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_without_memory_fails_alone(workers: int) -> None:
    from job_functions import hungry

    assert dict(in_processes(hungry, range(4), workers, lambda item, why: -1)) == {0: 0, 1: -1, 2: 2, 3: 3}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fault_of_ours_is_not_hidden(workers: int) -> None:
    from job_functions import wrong

    with pytest.raises(ValueError, match="a fault of ours"):
        list(in_processes(wrong, [1], workers, lambda item, why: -1))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def until(condition: object, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    notes = [tmp_path / "0.pid", tmp_path / "1.pid"]
    program = (
        "from scripts.core.jobs import parallel; from job_functions import noted; "
        f"parallel(noted, {[str(n) for n in notes]!r}, 2, 'notes')"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", os.getcwd())]),
    }
    parent = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    assert until(lambda: all(note.exists() and note.read_text() for note in notes))
    parent.kill()
    parent.wait()
    assert until(lambda: not any(alive(int(note.read_text())) for note in notes))


def test_a_memory_limit_ends_in_a_sentence_not_in_a_hang(tmp_path: Path) -> None:
    program = (
        "import resource; from scripts.core.jobs import parallel; from job_functions import square\n"
        "from custom_networks import CaseError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))\n"
        "try:\n    print(parallel(square, range(200), 8, 'squares')[-1])\n"
        "except CaseError as error:\n    print(error)\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", os.getcwd())]),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    last = done.stdout.strip()
    assert last == str(199**2) or "pass fewer --workers" in last, (done.stdout, done.stderr[-2000:])
