"""Writing of files that appear complete or not at all, and the lock of a folder that is written to."""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from custom_networks import CaseError

PARTIAL = ".partial_"


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def atomic_file(path: str | Path, mode: int | None = None, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path` that replaces it once the block ends without an exception.

    Args:
        path: the file to write; its folder is made.
        mode: permissions of the file from its first byte on; default what the user's umask leaves.
        durable: have it on the disk before it replaces an older one, so that a power cut cannot leave neither.

    Yields:
        The temporary path, with the suffixes of `path` (libraries choose the format by suffix).
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(target.suffixes[-2:]) if target.name.endswith(".gz") else target.suffix
    partial = target.parent / f"{PARTIAL}{secrets.token_hex(6)}{suffix}"
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else mode))
    try:
        if mode is not None:
            os.chmod(partial, mode)
        yield partial
        if mode is not None:
            os.chmod(partial, mode)
        if durable:
            _flush(partial)
        os.replace(partial, target)
        if durable and os.name == "posix":
            _flush(target.parent)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, text: str, mode: int | None = None) -> Path:
    """Write a UTF-8 text file atomically and durably.

    Args:
        path: the file.
        text: its content.
        mode: its permissions; default what the user's umask leaves.

    Returns:
        The path.
    """
    with atomic_file(path, mode, durable=True) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(path)


_held: set[Path] = set()


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Keep other processes from writing to a folder, or to a file, until the block ends.

    The system frees the lock when its owner ends, however it ends. A process that holds it may ask for it again.

    Args:
        path: a folder, which is made, or a file, which need not exist.

    Raises:
        CaseError: another process holds it.
    """
    target = Path(path)
    file = target.with_name(f".{target.name}.lock") if target.suffix == ".json" else target / ".run.lock"
    key = file.parent.resolve() / file.name
    if key in _held:
        yield
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = file.open("a+", encoding="utf-8")
    except OSError as error:
        raise CaseError(f"output {target}", f"it cannot be written ({error})", "choose another folder") from error
    with stream:
        if not _take(stream.fileno()):
            stream.seek(0)
            owner = stream.read(300).strip() or "another process"
            raise CaseError(
                f"output {target}", f"{owner} is writing to it", "wait until it has ended or choose another folder"
            )
        stream.truncate(0)
        stream.write(f"process {os.getpid()} ({shlex.join(Path(word).name for word in sys.argv[:2])})")
        stream.flush()
        _held.add(key)
        try:
            yield
        finally:
            _held.discard(key)


def _take(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_nifti(path: str | Path, array: np.ndarray, affine: np.ndarray) -> Path:
    """Write a volume as NIfTI-1 in millimetres, atomically; the header holds geometry and nothing else.

    Args:
        path: the file, `.nii` or `.nii.gz`.
        array: voxels (X, Y, Z); booleans are stored as uint8, 64-bit numbers as 32-bit ones.
        affine: 4x4 voxel-to-world matrix in RAS+ mm.

    Returns:
        The path.
    """
    import nibabel as nib

    narrow = {"b": "uint8", "i8": "int32", "u8": "uint32", "f8": "float32", "f2": "float32"}
    kind = array.dtype.kind if array.dtype.kind == "b" else array.dtype.str[1:]
    image = nib.Nifti1Image(array.astype(narrow.get(kind, array.dtype), copy=False), np.asarray(affine, np.float64))
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    with atomic_file(path) as partial:
        nib.save(image, partial)
    return Path(path)
