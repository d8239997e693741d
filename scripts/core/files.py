"""Writing of what an import produces: NIfTI volumes and `datalist.json`, each appearing complete or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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


def write_datalist(
    path: str | Path,
    name: str,
    labels: Mapping[int, str] | Mapping[str, str],
    modality: str,
    training: Sequence[Mapping[str, Any]],
    testing: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write a datalist in MONAI's layout, atomically.

    Args:
        path: the JSON file.
        name: name of the data set.
        labels: label value to name, background included; empty for unlabelled data.
        modality: `MR` or `CT`.
        training: cases, each with `case`, `patient`, `image`, where labelled `label`, where split `fold`; file paths
            relative to the datalist's folder, with forward slashes.
        testing: cases of the held-out set.

    Returns:
        The path.
    """
    content = {
        "name": name,
        "labels": dict(sorted(((str(value), text) for value, text in labels.items()), key=lambda item: int(item[0]))),
        "modality": modality,
        "training": [dict(case) for case in training],
        "testing": [dict(case) for case in testing],
    }
    return write_text(path, json.dumps(content, indent=4, ensure_ascii=False) + "\n")


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
