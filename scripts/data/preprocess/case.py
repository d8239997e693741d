"""What a worker of `preprocess` does: a bundle's own deterministic transforms, applied to one case."""

from __future__ import annotations

import ctypes
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from custom_networks import CaseError
from custom_networks.data import PATH_KEYS
from custom_networks.transforms.mapped import deterministic_part
from scripts.core.datalist import Case
from scripts.core.reading import check_files
from scripts.data.preprocess.store import folder_name, state_key, store, stored_meta

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Job:
    """What every case of a run has in common; small, hashable and fit for sending.

    Args:
        bundle: its folder, for messages.
        config: JSON text of its train configuration with all overrides; workers need no file of the bundle.
        output: folder that is written.
        dtype: of what is stored.
    """

    bundle: str
    config: str
    output: str
    dtype: str


@dataclass
class Outcome:
    """What became of a case.

    Args:
        case: its name.
        status: `done`, `kept` (was there) or `quarantined`.
        reason: one sentence, for a quarantined case.
        keys: keys that are stored.
        seconds: spent on it.
    """

    case: str
    status: str
    reason: str = ""
    keys: tuple[str, ...] = ()
    seconds: float = 0.0


def load_config(files: Sequence[str | Path]) -> dict[str, Any]:
    """A bundle's configuration files as one, the later overriding the earlier.

    Raises:
        CaseError: a file cannot be read.
    """
    from monai.bundle import ConfigParser

    try:
        config = ConfigParser.load_config_files([str(file) for file in files])
    except (OSError, ValueError, KeyError) as error:
        raise CaseError(
            f"bundle configuration {', '.join(map(str, files))}",
            f"it cannot be read ({_first_line(error)})",
            "correct the file or pass another --bundle or --overrides",
        ) from error
    return dict(config)


@lru_cache(maxsize=4)
def recipe(job: Job, part: str = "train") -> tuple[tuple[Callable[..., Any], ...], tuple[str, ...]]:
    """The deterministic transforms of a bundle and their descriptions, made once per process.

    Args:
        job: holds the bundle's configuration.
        part: `train` or `validate`.

    Returns:
        The transforms, and for each a text that changes when it does.

    Raises:
        CaseError: the bundle has no such transforms.
    """
    from monai.bundle import ConfigParser

    try:
        parser = ConfigParser(json.loads(job.config))
        transforms = parser.get_parsed_content(f"{part}#preprocessing")
        found = tuple(deterministic_part(transforms))
    except Exception as error:
        raise CaseError(
            f"bundle {job.bundle}",
            f"its {part}#preprocessing cannot be built ({_first_line(error)})",
            "check the overrides",
        ) from error
    if not found:
        raise CaseError(f"bundle {job.bundle}", "it has no deterministic transform", "nothing is to be preprocessed")
    # described before they are used: some keep what they met last
    return found, tuple(json.dumps(describe(transform), sort_keys=True) for transform in found)


def describe(value: Any, depth: int = 0) -> Any:
    """A transform as plain data: class and attributes, without random states and addresses."""
    result: Any = getattr(value, "__qualname__", None) or type(value).__qualname__
    if isinstance(value, str | int | float | bool | None):
        # not-a-number is not equal to itself, and equal transforms must have equal descriptions
        result = "nan" if isinstance(value, float) and math.isnan(value) else value
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


def kept(job: Job, case: Case) -> Outcome | None:
    """The outcome of a case that an earlier run has done with the same transforms and files, else None."""
    meta = stored_meta(_folder(job, case))
    try:
        current = meta is not None and meta.get("key") == state_key(case, _files(case), _text(job))
    except CaseError:
        return None
    return Outcome(case["case"], "kept", keys=tuple(meta["keys"])) if meta is not None and current else None


def _text(job: Job) -> str:
    return "\n".join([*recipe(job)[1], job.dtype])


def _folder(job: Job, case: Case) -> Path:
    return Path(job.output) / "cases" / folder_name(case["case"])


def _files(case: Case) -> dict[str, str]:
    return {key: case[key] for key in PATH_KEYS if case.get(key)}


def process(job: Job, case: Case) -> Outcome:
    """Preprocess one case. Whatever is wrong with it ends in its outcome, not in an exception.

    Args:
        job: what all cases have in common.
        case: datalist entry with absolute paths.

    Returns:
        The outcome.
    """
    begin = time.perf_counter()
    # cases run side by side; threads within a case would only fight
    torch.set_num_threads(1)
    _return_memory()
    transforms, _ = recipe(job)
    files = _files(case)
    try:
        # a task that was given out twice ends here the second time
        earlier = kept(job, case)
        if earlier is not None:
            return earlier
        key = state_key(case, files, _text(job))
        arrays = _transformed(case, files, transforms)
        fresh = store(_folder(job, case), arrays, key, case["case"], job.dtype)
    except CaseError as error:
        return Outcome(case["case"], "quarantined", f"{error.problem}; {error.remedy}")
    except Exception as error:
        return Outcome(case["case"], "quarantined", _why(case, error))
    seconds = time.perf_counter() - begin
    if fresh:
        _note(Path(job.output) / JOURNAL, {"case": case["case"], "pid": os.getpid(), "seconds": round(seconds, 3)})
    return Outcome(case["case"], "done" if fresh else "kept", keys=tuple(arrays), seconds=seconds)


@cache
def _return_memory(m_mmap_threshold: int = -3, above: int = 4 * 2**20) -> None:
    """Have glibc give large arrays back when they are freed; it would keep holes of several volumes for later."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(m_mmap_threshold, above)


def _transformed(
    case: Case, files: Mapping[str, str], transforms: Sequence[Callable[..., Any]]
) -> dict[str, torch.Tensor]:
    _check_headers(case, files)
    data: Any = dict(case)
    for transform in transforms:
        data = transform(data)
    arrays = {key: value for key, value in data.items() if isinstance(value, torch.Tensor) and value.ndim == 4}
    if not arrays:
        raise CaseError(case["case"], "the transforms yield no volume", "check the bundle's train#preprocessing")
    shapes = {key: tuple(value.shape[1:]) for key, value in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"after the transforms the shapes differ: {shapes}")
    for key, value in arrays.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{key} has voxels that are NaN or infinite")
    return arrays


def _check_headers(case: Case, files: Mapping[str, str]) -> None:
    """The faults that transforms would not notice, from the headers alone: dimensions and grids."""
    import nibabel as nib

    headers: dict[str, Any] = {key: nib.load(file) for key, file in files.items()}
    image = headers["image"]
    for header in headers.values():
        if (
            len(header.shape) != 3
            or header.shape != image.shape
            or not np.allclose(header.affine, image.affine, atol=0.05)
            or not np.isfinite(header.affine).all()
        ):
            # reads everything and says what is wrong; what it lets pass may be used
            check_files(case, mask_keys=[key for key in files if key not in {"image", "label"}])
            return


def _why(case: Case, error: Exception) -> str:
    """The sentence of the check that finds the fault, or the first line of the transform's own message."""
    try:
        check_files(case, mask_keys=[key for key in PATH_KEYS if key not in {"image", "label"} and case.get(key)])
    except CaseError as found:
        return f"{found.problem}; {found.remedy}"
    except Exception:
        return _first_line(error)
    return f"{_first_line(error)}; check the case with `python -m scripts check`"


def _first_line(error: BaseException) -> str:
    # MONAI wraps the cause in "applying transform …"
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    return f"{type(root).__name__}: {str(root).strip().splitlines()[0] if str(root).strip() else ''}".rstrip(": ")


def _note(path: Path, entry: Mapping[str, Any]) -> None:
    # one write of one short line to a file opened for appending is not torn apart by others
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
