import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from custom_networks import CaseError
from custom_networks.handlers import checkpoints
from custom_networks.handlers.checkpoints import BackgroundWriter, FolderLock, read_checkpoint, write_checkpoint


def test_reads_what_it_wrote_and_leaves_nothing_else(tmp_path):
    write_checkpoint(tmp_path / "new/state.pt", {"x": torch.arange(3)})
    assert torch.equal(read_checkpoint(tmp_path / "new/state.pt", "")["x"], torch.arange(3))
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["state.pt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_full_disk_leaves_the_earlier_file(tmp_path, monkeypatch, error):
    file = tmp_path / "state.pt"
    write_checkpoint(file, {"x": 1})

    def fail(content: Any, stream: Any) -> None:
        stream.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(
        CaseError, match=r"state\.pt: it cannot be written \(.*\); an earlier one is unharmed; make room"
    ):
        write_checkpoint(file, {"x": 2})
    monkeypatch.undo()
    assert read_checkpoint(file, "") == {"x": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order: list[str] = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, o=original: (order.append(n), o(*a))[1])
    write_checkpoint(tmp_path / "state.pt", {})
    assert order == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_damaged_file_is_one_sentence(tmp_path, content):
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(CaseError, match=r"state\.pt: it is empty or damaged; do this"):
        read_checkpoint(tmp_path / "state.pt", "do this")


def test_what_is_handed_over_is_copied_at_once(tmp_path, monkeypatch):
    gate, writer, weight = threading.Event(), BackgroundWriter(), torch.zeros(2)
    original = checkpoints.write_checkpoint
    monkeypatch.setattr(checkpoints, "write_checkpoint", lambda *a: (gate.wait(9), original(*a)))
    start = time.monotonic()
    writer.write(tmp_path / "a.pt", {"x": [weight], "y": {"z": (weight, 1)}})
    writer.write(tmp_path / "b.pt", {"x": weight})
    assert time.monotonic() - start < 5  # training goes on meanwhile
    weight += 1
    gate.set()
    writer.wait()
    assert read_checkpoint(tmp_path / "a.pt", "")["x"][0].tolist() == [0, 0]
    assert read_checkpoint(tmp_path / "a.pt", "")["y"]["z"][0].tolist() == [0, 0]


def test_nothing_is_written_after_what_could_not_be_written(tmp_path, monkeypatch):
    """Else the state would count on a best model that is not on the disk."""
    writer = BackgroundWriter()
    original = checkpoints.write_checkpoint

    def fail(file: Path, content: Any) -> None:
        if file.name == "model.pt":
            raise CaseError("file", "full", "make room")
        original(file, content)

    monkeypatch.setattr(checkpoints, "write_checkpoint", fail)
    writer.write(tmp_path / "model.pt", {})
    writer.write(tmp_path / "resume.pt", {})
    with pytest.raises(CaseError, match="full"):
        writer.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_one_training(tmp_path):
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    first.acquire()
    with pytest.raises(CaseError, match="another training is writing to it"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_training_gives_its_folder_back_though_its_workers_live_on(tmp_path):
    code = (
        "import os, sys, time\n"
        "from custom_networks.handlers.checkpoints import FolderLock\n"
        "lock = FolderLock(sys.argv[1]); lock.acquire()\n"
        "if os.fork() == 0:\n"
        "    time.sleep(30)\n"
        "    os._exit(0)\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        lock = FolderLock(tmp_path)
        with pytest.raises(CaseError):
            lock.acquire()
        process.kill()
        process.wait()
        lock.acquire()
        lock.release()
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    def write_on(path: Path) -> None:
        for i in range(10_000):
            write_checkpoint(path, {"x": torch.full((200_000,), i)})

    file = tmp_path / "state.pt"
    write_checkpoint(file, {"x": torch.zeros(1)})
    for pause in (0.01, 0.023, 0.041, 0.07):
        process = multiprocessing.get_context("fork").Process(target=write_on, args=(file,))
        process.start()
        time.sleep(0.1 + pause)
        process.kill()
        process.join()
        assert len(set(read_checkpoint(file, "")["x"].tolist())) == 1


def test_a_writer_goes_on_after_its_error_was_raised_and_raises_it_at_the_next_writing(tmp_path, monkeypatch):
    writer, original = BackgroundWriter(), checkpoints.write_checkpoint

    def fail(file: Path, content: Any) -> None:
        raise CaseError("file", "full", "make room")

    monkeypatch.setattr(checkpoints, "write_checkpoint", fail)
    writer.write(tmp_path / "a.pt", {})
    with pytest.raises(CaseError, match="full"):
        writer.write(tmp_path / "a.pt", {})
    writer.wait()
    monkeypatch.setattr(checkpoints, "write_checkpoint", original)
    writer.write(tmp_path / "a.pt", {"x": 1})
    writer.wait()
    assert read_checkpoint(tmp_path / "a.pt", "") == {"x": 1}


def test_files_are_written_in_the_order_in_which_they_were_handed_over(tmp_path, monkeypatch):
    order: list[str] = []

    def write(file: Path, content: Any) -> None:
        time.sleep(0.1 if file.name == "model.pt" else 0)
        order.append(file.name)

    monkeypatch.setattr(checkpoints, "write_checkpoint", write)
    writer = BackgroundWriter()
    for name in ("model.pt", "resume.pt"):
        writer.write(tmp_path / name, {})
    writer.wait()
    assert order == ["model.pt", "resume.pt"]


def test_a_file_that_holds_no_checkpoint_is_refused(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "resume.pt")
    with pytest.raises(CaseError, match=r"resume\.pt: it is something else than a checkpoint; delete it"):
        read_checkpoint(tmp_path / "resume.pt", "delete it")
