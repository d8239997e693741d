"""One preprocessed case on the disk: written completely or not at all, and only once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from custom_networks import CaseError
from custom_networks.transforms.mapped import FOREGROUND_FILE, META_FILE
from scripts.core.datalist import Case

# per class; nnU-Net's number
FOREGROUND_SAMPLES = 10_000
PARTIAL = ".partial_"


def folder_name(case: str) -> str:
    """A safe folder name: the case's own where it is plain, else shortened and told apart by a digest."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", case)[:80].lstrip(".") or "case"
    return plain if plain == case else f"{plain}_{hashlib.sha256(case.encode()).hexdigest()[:8]}"


def state_key(case: Case, files: Mapping[str, str], recipe: str) -> str:
    """Digest of everything that a result depends on: the transforms, and name, size and time of the files.

    Args:
        case: the datalist entry.
        files: key to file.
        recipe: description of the transforms.

    Raises:
        CaseError: a file is missing.
    """
    parts = [recipe, case["case"]]
    for key, file in sorted(files.items()):
        try:
            stat = os.stat(file)
        except (OSError, ValueError) as error:
            raise CaseError(
                case["case"], f"{key} {file} does not exist", "correct its path in the datalist or restore the file"
            ) from error
        parts.append(f"{key} {file} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def stored_meta(folder: Path) -> dict[str, Any] | None:
    """The `meta.json` of a finished case, or None."""
    try:
        return dict(json.loads((folder / META_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def store(folder: Path, arrays: Mapping[str, Any], key: str, case: str, dtype: str, label_key: str = "label") -> bool:
    """Write the arrays of a case.

    Args:
        folder: of the case; it appears complete or not at all.
        arrays: key to MetaTensor (C, D, H, W); integers from 0 to 255 are stored as uint8.
        key: from `state_key`.
        case: its name.
        dtype: `float32` or `float16`, of arrays that are not whole numbers.
        label_key: the array whose foreground is sampled, where present.

    Returns:
        False if another process had written the same case meanwhile; its result stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
    try:
        keys = {}
        for name, tensor in arrays.items():
            array = tensor.detach().cpu()
            keys[name] = {
                "dtype": str(array.dtype).removeprefix("torch."),
                "affine": np.asarray(tensor.affine, dtype=np.float64).tolist(),
            }
            np.save(partial / f"{name}.npy", _compact(torch.as_tensor(array).as_subclass(torch.Tensor), dtype))
        meta = {"case": case, "key": key, "shape": list(next(iter(arrays.values())).shape[1:]), "keys": keys}
        if label_key in arrays:
            meta["foreground"] = _save_foreground(partial, np.load(partial / f"{label_key}.npy", mmap_mode="r"))
        (partial / META_FILE).write_text(json.dumps(meta), encoding="utf-8")
        os.chmod(partial, 0o755)
        return _commit(partial, folder, key)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _commit(partial: Path, folder: Path, key: str) -> bool:
    meta = stored_meta(folder)
    if meta is not None and meta.get("key") == key:
        return False
    if folder.exists():
        # a result of other transforms or other files
        old = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
        os.rename(folder, old / "old")
        shutil.rmtree(old, ignore_errors=True)
    try:
        os.rename(partial, folder)
    except OSError:
        # a folder cannot replace one that is not empty: somebody else was first
        if stored_meta(folder) is None:
            raise
        return False
    return True


def _compact(tensor: torch.Tensor, dtype: str) -> np.ndarray:
    array = tensor.numpy()
    whole = array.dtype.kind in "bui" or bool((array == np.trunc(array)).all())
    if whole and array.min() >= 0 and array.max() <= 255:
        return np.ascontiguousarray(array.astype(np.uint8))
    if whole and array.dtype.kind in "iu":
        return np.ascontiguousarray(array)
    return np.ascontiguousarray(array.astype(dtype))


def _save_foreground(folder: Path, label: np.ndarray) -> dict[str, dict[str, Any]]:
    """Sample voxels of every class; a label of several channels counts channel + 1 as the class."""
    found: dict[str, dict[str, Any]] = {}
    chosen: list[np.ndarray] = []
    generator, row = np.random.default_rng(0), 0
    flat = label.reshape(label.shape[0], -1)
    classes = (
        [(int(v), 0, int(v)) for v in np.unique(flat[0]) if v]
        if len(flat) == 1
        else [(channel + 1, channel, None) for channel in range(len(flat))]
    )
    for name, channel, value in classes:
        voxels = np.flatnonzero(flat[channel] == value if value is not None else flat[channel])
        if not len(voxels):
            continue
        count = len(voxels)
        if count > FOREGROUND_SAMPLES:
            voxels = np.sort(generator.choice(voxels, FOREGROUND_SAMPLES, replace=False))
        chosen.append(voxels.astype(np.int64))
        found[str(name)] = {"voxels": count, "rows": [row, row + len(voxels)]}
        row += len(voxels)
    np.save(folder / FOREGROUND_FILE, np.concatenate(chosen) if chosen else np.zeros(0, np.int64))
    return found
