"""Files of a training: written whole or not at all, in the background, by one training at a time."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from custom_networks.errors import CaseError

try:
    import fcntl
except ImportError:  # Windows: two trainings in one folder are not noticed there
    fcntl = None  # type: ignore[assignment]


def process_rank() -> int:
    """Number of this process among those of the training; the first, 0, writes the files."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def write_checkpoint(path: str | Path, content: Any) -> None:
    """`torch.save` that leaves the earlier file or the whole new one, whatever is killed and whenever power is cut.

    Args:
        path: the file; its folder is made.
        content: what `torch.save` takes.

    Raises:
        CaseError: it cannot be written.
    """
    file = Path(path)
    unfinished = file.with_name(f"{file.name}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, file)
        if os.name == "posix":  # the new name itself is on the disk only when its folder is
            folder = os.open(file.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except (OSError, RuntimeError) as error:
        unfinished.unlink(missing_ok=True)
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CaseError(
            f"file {file}",
            f"it cannot be written ({reason}); an earlier one is unharmed",
            "make room, or choose another --output_dir and --ckpt_dir, and start the same command again",
        ) from error


def read_checkpoint(path: str | Path, remedy: str) -> dict[str, Any]:
    """Read what `write_checkpoint` wrote.

    Args:
        path: the file.
        remedy: end of the sentence if it is damaged.

    Raises:
        CaseError: it is empty, damaged or something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise CaseError(f"file {path}", "it is empty or damaged", remedy) from error
    if not isinstance(content, dict):
        raise CaseError(f"file {path}", "it is something else than a checkpoint", remedy)
    return content


def copy_to_cpu(content: Any) -> Any:
    """The same with every tensor copied to main memory, so that training may go on changing the original."""
    if isinstance(content, torch.Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, Mapping):
        return {name: copy_to_cpu(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(copy_to_cpu(value) for value in content)
    return content


class BackgroundWriter:
    """Writes checkpoints in a thread, in the order in which they were handed over.

    What is handed over is copied at once. A file is written again only when its last writing has ended, which bounds the
    memory; what went wrong is raised then, or by `wait`, and nothing is written after it.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pending: dict[Path, Future[None]] = {}
        self._failed = False

    def write(self, path: str | Path, content: Any) -> None:
        """Hand a checkpoint over.

        Args:
            path: the file.
            content: see `write_checkpoint`.

        Raises:
            CaseError: an earlier one of this file could not be written.
        """
        file = Path(path)
        if file in self._pending:
            self._pending.pop(file).result()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending[file] = self._pool.submit(self._write, file, copy_to_cpu(content))

    def _write(self, file: Path, content: Any) -> None:
        if self._failed:
            return
        try:
            write_checkpoint(file, content)
        except BaseException:
            self._failed = True
            raise

    def wait(self) -> None:
        """Return when everything is written.

        Raises:
            CaseError: something could not be written.
        """
        pending, self._pending = list(self._pending.values()), {}
        for write in pending:
            write.result()
        self._failed = False


class FolderLock:
    """A folder that one training at a time writes to. The system gives it back when the process ends, however it ends.

    Args:
        folder: it is made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._handle: int | None = None
        if hasattr(os, "register_at_fork"):
            # a worker that outlives a killed training must not hold its lock
            os.register_at_fork(after_in_child=self._close)

    def acquire(self) -> None:
        """Take the folder.

        Raises:
            CaseError: another training has it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if fcntl is None or self._handle is not None:
            return
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise CaseError(
                f"folder {self.folder}",
                "another training is writing to it",
                "wait for its end or stop it, or pass another --output_dir and --ckpt_dir",
            ) from error
        except OSError:  # a file system without locks
            os.close(handle)
        else:
            self._handle = handle

    def release(self) -> None:
        """Give the folder back."""
        self._close()

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
