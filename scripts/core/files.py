"""Writing of files that appear complete or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np


@contextmanager
def atomic_file(path: str | Path, mode: int = 0o644) -> Iterator[Path]:
    """Give a temporary path beside `path` that replaces it once the block ends without an exception.

    Args:
        path: the file to write; its folder is made.
        mode: permissions of the finished file, set before anything is written.

    Yields:
        The temporary path, with the suffixes of `path` (libraries choose the format by suffix).
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(target.suffixes[-2:]) if target.name.endswith(".gz") else target.suffix
    handle, name = tempfile.mkstemp(prefix=".partial_", suffix=suffix, dir=target.parent)
    os.close(handle)
    os.chmod(name, mode)
    try:
        yield Path(name)
        os.chmod(name, mode)
        os.replace(name, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def write_text(path: str | Path, text: str, mode: int = 0o644) -> Path:
    """Write a UTF-8 text file atomically.

    Args:
        path: the file.
        text: its content.
        mode: its permissions.

    Returns:
        The path.
    """
    with atomic_file(path, mode) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(path)


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
