"""Prepared cases: what a bundle's deterministic transforms give, once, as arrays that crops are read from.

MONAI's own caches keep whole volumes: PersistentDataset and LMDBDataset read and unpickle all of a case for each crop of
it (130 MB of float32 for a crop of 7 MB at 1.5 mm), CacheDataset wants them in memory, and GDSDataset wants a GPU. An
uncompressed array in a file of its own can be memory-mapped, so that a crop costs what it is large.

A case is written completely or not at all, and is bound to what it was made from: the transforms with all their
settings, the type, and size, time and content of its files. Nothing here reads a bundle.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import hashlib
import itertools
import json
import math
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from custom_networks.data.checks import check_case
from custom_networks.data.datalist import PATH_KEYS, case_name, safe_name
from custom_networks.data.volumes import read_grid
from custom_networks.errors import CaseError
from custom_networks.transforms.crops import class_positions
from custom_networks.transforms.mapped import META_FILE, POSITIONS_FILE

PARTIAL = ".partial_"
DTYPES = ("int16", "float16", "float32")
# of the layout of a folder: raised when older ones must not be read
LAYOUT = 2


class Recipe:
    """Deterministic transforms, and a description of them that changes when their results would.

    Args:
        transforms: in order, from loading on.
        dtype: of arrays that are not whole numbers, one of `DTYPES`. `int16` divides the range of a volume into 65,534
            steps: on three CT of OpenKBP no voxel was off by more than 0.04 HU, and 0.17 HU where metal reached 18,774 HU;
            `float16`, of the same size, was off by up to 0.9, 1.7 and 5.9 HU.

    Raises:
        ValueError: there is no such type.
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]], dtype: str = "int16") -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype}.")
        self.transforms = tuple(transforms)
        self.dtype = dtype
        # described before they are used: some keep what they met last
        self.steps = tuple(json.dumps(describe(transform), sort_keys=True) for transform in transforms)

    @property
    def digest(self) -> str:
        """Of the transforms and the type."""
        return hashlib.sha256("\n".join([str(LAYOUT), *self.steps, self.dtype]).encode()).hexdigest()

    def folder(self, cache_dir: str | Path) -> Path:
        """Where cases prepared with this recipe are; another recipe has another place, so that none disturbs a run."""
        return Path(cache_dir) / self.digest[:16]

    def bytes_of(self, case: Mapping[str, Any]) -> int:
        """What a case will take on the disk, from its image's header: exact to the rounding of the grid.

        0 where the header cannot be read, which preparing the case will say.
        """
        import nibabel as nib

        try:
            header: Any = nib.load(case["image"])
            voxels = math.prod(header.shape[:3])
            for transform in self.transforms:
                pixdim = getattr(getattr(transform, "spacing_transform", None), "pixdim", None)
                if pixdim is not None and np.min(pixdim) > 0:
                    voxels *= abs(np.linalg.det(header.affine[:3, :3])) / float(np.prod(pixdim))
        except Exception:
            return 0
        masks = set(self.files(case)) - {"image"}
        return int(voxels * (np.dtype(self.dtype).itemsize + len(masks)))

    def files(self, case: Mapping[str, Any]) -> dict[str, str]:
        """The files of a case that the transforms use: pretraining for instance reads no label."""
        used = {key for transform in self.transforms for key in getattr(transform, "keys", ())}
        return {key: file for key, file in _files(case).items() if key in used}


def describe(value: Any, depth: int = 0) -> Any:
    """A transform as plain data: class and attributes, without random states and addresses."""
    result: Any = getattr(value, "__qualname__", None) or type(value).__qualname__
    if isinstance(value, str | int | float | bool | None):
        # not-a-number is not equal to itself, and equal transforms must have equal descriptions
        result = "nan" if isinstance(value, float) and math.isnan(value) else value
    elif isinstance(value, torch.dtype | torch.device | np.dtype | enum.Enum | slice | range | PurePath):
        # told apart by their values alone, which their attributes do not hold
        result = repr(value)
    elif isinstance(value, functools.partial):
        result = [describe(part, depth + 1) for part in (value.func, value.args, value.keywords)]
    elif isinstance(value, Mapping):
        result = {str(key): describe(item, depth + 1) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        result = [describe(item, depth + 1) for item in value]
    elif isinstance(value, np.ndarray | torch.Tensor):
        result = describe(np.asarray(value).tolist(), depth + 1)
    elif hasattr(value, "__code__"):
        result = [value.__qualname__, value.__code__.co_code.hex(), describe(value.__code__.co_consts, depth + 1)]
    elif hasattr(value, "__dict__") and not isinstance(value, type) and depth < 6:
        attributes = {
            key: describe(item, depth + 1)
            for key, item in vars(value).items()
            if not isinstance(item, np.random.RandomState)
        }
        result = {"class": type(value).__qualname__, **attributes}
    return result


def case_folder(folder: Path, case: Mapping[str, Any]) -> Path:
    """Where a case is: under its name, made safe."""
    return folder / safe_name(case_name(case))


def prepared_keys(case: Mapping[str, Any], recipe: Recipe, folder: Path) -> tuple[str, ...]:
    """The keys of a case that is prepared from these files with these transforms and undamaged; else none.

    Args:
        case: datalist entry with absolute paths.
        recipe: what it must have been prepared with.
        folder: holds the cases' folders.
    """
    place = case_folder(folder, case)
    meta = _stored_meta(place)
    try:
        current = meta is not None and meta.get("key") == _state_key(case, recipe)
    except CaseError:
        return ()
    if meta is None or not current or not all(_intact(place / name, known) for name, known in meta["files"].items()):
        return ()
    return tuple(meta["keys"])


def prepare_case(case: Mapping[str, Any], recipe: Recipe, folder: Path) -> tuple[tuple[str, ...], bool]:
    """Prepare one case, unless that has been done.

    Args:
        case: datalist entry with absolute paths.
        recipe: the transforms.
        folder: holds the cases' folders.

    Returns:
        The keys that are stored, and whether they were stored now.

    Raises:
        CaseError: a file or what the transforms make of it cannot be used.
    """
    # cases are worked on side by side; threads within a case would only fight
    torch.set_num_threads(1)
    _return_memory()
    keys = prepared_keys(case, recipe, folder)
    if keys:
        return keys, False
    key = _state_key(case, recipe)
    try:
        arrays = _transformed(case, recipe.transforms)
        fresh = _store(case_folder(folder, case), arrays, key, case_name(case), recipe.dtype)
    except CaseError:
        raise
    except Exception as error:
        raise _fault(case, error) from error
    return tuple(arrays), fresh


def _files(case: Mapping[str, Any]) -> dict[str, str]:
    return {key: case[key] for key in PATH_KEYS if case.get(key)}


def _state_key(case: Mapping[str, Any], recipe: Recipe) -> str:
    """Digest of everything that a result depends on; a data set that was moved keeps it."""
    parts = [recipe.digest, case_name(case)]
    for key, file in sorted(recipe.files(case).items()):
        try:
            stat = os.stat(file)
            with open(file, "rb") as stream:
                # the end of a .gz holds the checksum of its content
                ends = stream.read(4096)
                stream.seek(max(0, stat.st_size - 4096))
                ends += stream.read(4096)
        except (OSError, ValueError) as error:
            raise CaseError(
                case_name(case), f"{key} {file} does not exist", "correct its path in the datalist or restore the file"
            ) from error
        parts.append(f"{key} {stat.st_size} {stat.st_mtime_ns} {hashlib.sha256(ends).hexdigest()}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@cache
def _return_memory(m_mmap_threshold: int = -3, above: int = 4 * 2**20) -> None:
    """Have glibc give large arrays back when they are freed; it would keep holes of several volumes for later."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(m_mmap_threshold, above)


def _transformed(case: Mapping[str, Any], transforms: Sequence[Callable[..., Any]]) -> dict[str, torch.Tensor]:
    _check_headers(case)
    data: Any = dict(case)
    for transform in transforms:
        data = transform(data)
    arrays = {key: value for key, value in data.items() if isinstance(value, torch.Tensor) and value.ndim == 4}
    if not arrays:
        raise CaseError(case_name(case), "the transforms yield no volume", "check the bundle's train#preprocessing")
    shapes = {key: tuple(value.shape[1:]) for key, value in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"after the transforms the shapes differ: {shapes}")
    for key, value in arrays.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{key} has voxels that are NaN or infinite")
    return arrays


def _check_headers(case: Mapping[str, Any]) -> None:
    """The faults that transforms would not notice, from the headers alone: what they hold, and their grids."""
    grids = {key: read_grid(file, case_name(case), key) for key, file in _files(case).items()}
    image = grids["image"]
    if any(shape != image[0] or not np.allclose(affine, image[1], atol=0.05) for shape, affine in grids.values()):
        # reads everything and says what is wrong; what it lets pass may be used
        _check(case)


def _check(case: Mapping[str, Any]) -> None:
    with np.errstate(all="ignore"):
        check_case(case, mask_keys=[key for key in _files(case) if key not in {"image", "label"}])


def _fault(case: Mapping[str, Any], error: Exception) -> CaseError:
    """The error of the check that finds the fault, or one with the first line of the transform's own message."""
    remedy = "check the case with `python -m scripts check`"
    try:
        _check(case)
    except CaseError as found:
        return found
    except Exception:
        remedy = "export or copy its files again"
    return CaseError(case_name(case), first_line(error), remedy)


def first_line(error: BaseException) -> str:
    """Type and first line of what was behind an error; MONAI wraps it in "applying transform …"."""
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    return f"{type(root).__name__}: {str(root).strip().splitlines()[0] if str(root).strip() else ''}".rstrip(": ")


def _stored_meta(folder: Path) -> dict[str, Any] | None:
    """The `meta.json` of a finished case, or None."""
    try:
        return dict(json.loads((folder / META_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _store(folder: Path, arrays: Mapping[str, Any], key: str, case: str, dtype: str, label_key: str = "label") -> bool:
    """Write the arrays of a case; False if another process had written the same meanwhile, whose result stays.

    Args:
        folder: of the case; it appears complete or not at all.
        arrays: key to MetaTensor (C, D, H, W); integers from 0 to 255 are stored as uint8.
        key: what they depend on.
        case: its name.
        dtype: one of `DTYPES`, of arrays that are not whole numbers.
        label_key: the array whose classes' positions are kept, where present.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f"{PARTIAL}{uuid.uuid4().hex}"
    partial.mkdir()
    try:
        keys, files = {}, {}
        for name, tensor in arrays.items():
            array = tensor.detach().cpu()
            keys[name] = {
                "dtype": str(array.dtype).removeprefix("torch."),
                "affine": np.asarray(tensor.affine, dtype=np.float64).tolist(),
            }
            compact, scaling = _compact(torch.as_tensor(array).as_subclass(torch.Tensor).numpy(), dtype)
            keys[name] |= scaling
            files[f"{name}.npy"] = _write(partial / f"{name}.npy", compact)
        meta = {"case": case, "key": key, "shape": list(next(iter(arrays.values())).shape[1:]), "keys": keys}
        if label_key in arrays:
            positions = class_positions(np.load(partial / f"{label_key}.npy", mmap_mode="r"))
            ends = np.cumsum([0, *map(len, positions.values())]).tolist()
            meta["positions"] = dict(zip(map(str, positions), itertools.pairwise(ends), strict=True))
            files[POSITIONS_FILE] = _write(partial / POSITIONS_FILE, np.concatenate(list(positions.values())))
        (partial / META_FILE).write_text(json.dumps({**meta, "files": files}), encoding="utf-8")
        return _commit(partial, folder, key)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(path: Path, array: np.ndarray) -> list[int]:
    """Size, time and checksum of the file, which is on the disk when its folder gets its name."""
    with path.open("wb") as stream:
        np.save(stream, array)
        stream.flush()
        os.fsync(stream.fileno())
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, _checksum(path)]


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            value = zlib.crc32(block, value)
    return value


def _intact(path: Path, known: Sequence[int]) -> bool:
    """Whether a file is as it was written; read only if its time says that it was copied or changed."""
    size, time, checksum = known
    try:
        stat = path.stat()
        if stat.st_size != size or (stat.st_mtime_ns != time and _checksum(path) != checksum):
            return False
        if stat.st_mtime_ns != time:
            # so that a copy is not read again at every start
            with suppress(OSError):
                os.utime(path, ns=(time, time))
    except OSError:
        return False
    return True


def _commit(partial: Path, folder: Path, key: str) -> bool:
    meta = _stored_meta(folder)
    if (
        meta is not None
        and meta.get("key") == key
        and all(_intact(folder / name, known) for name, known in meta["files"].items())
    ):
        return False
    if folder.exists():
        # a result of other transforms or other files, or a damaged one
        old = folder.parent / f"{PARTIAL}{uuid.uuid4().hex}"
        os.rename(folder, old)
        shutil.rmtree(old, ignore_errors=True)
    try:
        os.rename(partial, folder)
    except OSError:
        # a folder cannot replace one that is not empty: somebody else was first
        if _stored_meta(folder) is None:
            raise
        return False
    return True


def _compact(array: np.ndarray, dtype: str) -> tuple[np.ndarray, dict[str, float]]:
    """The array in a small type, and, if that is a scaled one, what gives the values back."""
    whole = array.dtype.kind in "bui" or bool((array == np.trunc(array)).all())
    low, high = float(array.min()), float(array.max())
    if whole and low >= 0 and high <= 255:
        return np.ascontiguousarray(array.astype(np.uint8)), {}
    if whole and array.dtype.kind in "iu":
        return np.ascontiguousarray(array), {}
    if dtype != "int16" or low == high:
        return np.ascontiguousarray(array.astype("float32" if dtype == "int16" else dtype)), {}
    scale = (high - low) / 65_534
    steps = array.astype(np.float32)
    steps -= np.float32(low)
    steps /= np.float32(scale)
    steps = np.rint(steps, out=steps) - np.float32(32_767)
    return np.ascontiguousarray(steps.astype(np.int16)), {"scale": scale, "offset": low + 32_767 * scale}
