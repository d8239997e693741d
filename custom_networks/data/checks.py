"""Checks of a data set before the first step, so that a run never fails hours later over one file."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from custom_networks.data.datalist import case_name
from custom_networks.data.volumes import GRID_TOLERANCE, corner_distance, read_label, read_volume
from custom_networks.errors import CaseError

# voxels (X, Y, Z) and their 4x4 affine
Volume: TypeAlias = tuple[np.ndarray, np.ndarray]


def check_case(
    case: Mapping[str, Any],
    labels: Sequence[int] | None = None,
    inside: tuple[int, int] | None = None,
    image_key: str = "image",
    label_key: str = "label",
    mask_keys: Sequence[str] = (),
) -> list[str]:
    """Check the files of one case.

    Args:
        case: a datalist entry.
        labels: label values that may occur, 0 included; None accepts any whole number.
        inside: (inner, outer) label values for overlapping masks: voxels of `inner` in the label must be within the
            mask file `organ`, if the case has one; those outside are warned of, not refused.
        image_key: key of the image.
        label_key: key of the label; a case without it is checked for its image alone.
        mask_keys: keys of further masks on the image's grid, checked where present.

    Returns:
        Warnings, one sentence each.

    Raises:
        CaseError: see the messages.
    """
    name = case_name(case)
    image = read_volume(case[image_key], name)
    check_image(name, case[image_key], image[0])
    found: list[str] = []
    masks: dict[str, np.ndarray] = {}
    for key in (label_key, *mask_keys):
        if case.get(key):
            mask = read_label(case[key], name, key)
            check_grid(name, f"{key} {case[key]}", mask, image)
            if key == label_key and labels is not None:
                check_values(name, f"{key} {case[key]}", mask[0], labels)
            masks[key] = mask[0]
    if inside is not None and label_key in masks and "organ" in masks:
        outside = int(np.count_nonzero((masks[label_key] == inside[0]) & (masks["organ"] == 0)))
        if outside:
            found.append(
                f"{name}: {outside} tumour voxels of {case[label_key]} lie outside the organ mask {case['organ']}; "
                "containment will remove them, so check both contours."
            )
    return found


def check_image(case: str, file: str, image: np.ndarray) -> None:
    """Refuse an image without content.

    Args:
        case: the case's name.
        file: the image's, for the message.
        image: its voxels.

    Raises:
        CaseError: voxels that are NaN or infinite, or all the same.
    """
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = int(np.size(image) - np.count_nonzero(np.isfinite(image)))
        raise CaseError(case, f"image {file} has {bad} voxels that are NaN or infinite", "export it again")
    if image.size == 0 or image.min() == image.max():
        raise CaseError(case, f"image {file} is constant", "export it again or leave the case out")


def check_grid(case: str, what: str, mask: Volume, image: Volume) -> None:
    """Refuse a mask on another grid than its image.

    Args:
        case: the case's name.
        what: the mask's key and file, for the message.
        mask: its voxels and affine.
        image: the image's voxels and affine.

    Raises:
        CaseError: the shapes differ, or the corners lie more than a tenth of a voxel apart.
    """
    remedy = "resample the mask onto the image's grid"
    if image[0].shape != mask[0].shape:
        raise CaseError(case, f"{what} has shape {mask[0].shape}, its image {image[0].shape}", remedy)
    shift = corner_distance(image[1], mask[1], image[0].shape)
    if shift > GRID_TOLERANCE * float(np.linalg.norm(image[1][:3, :3], axis=0).min()):
        raise CaseError(case, f"{what} and its image lie on different grids (apart by {shift:.2f} mm)", remedy)


def check_values(case: str, what: str, mask: np.ndarray, labels: Sequence[int]) -> None:
    """Refuse a mask with values that the datalist does not know.

    Args:
        case: the case's name.
        what: the mask's key and file, for the message.
        mask: whole numbers.
        labels: values that may occur.

    Raises:
        CaseError: there is another value.
    """
    unknown = [int(value) for value in np.unique(mask) if int(value) not in labels]
    if unknown:
        raise CaseError(
            case,
            f"{what} holds unknown label values {unknown[:5]} (known: {list(labels)[:12]})",
            "map them to the bundle's labels or remove them",
        )


def check_cases(
    cases: Sequence[Mapping[str, Any]],
    labels: Sequence[int] | None = None,
    inside: tuple[int, int] | None = None,
    mask_keys: Sequence[str] = (),
    enabled: bool = True,
    workers: int = 4,
    cache: str | Path | None = None,
) -> list[str]:
    """Check every case of a training run before its first step; for the `initialize` section of a bundle.

    On several ranks the first one reads and the others wait.

    Args:
        cases: datalist entries; a file that several entries share is read once for each.
        labels: see `check_case`; where they are given, every case must have a label.
        inside: see `check_case`.
        mask_keys: see `check_case`.
        enabled: False skips the check, for data sets that were checked before.
        workers: threads that read files.
        cache: JSON file of cases that were good, so that none is read again, after an interruption for instance, until
            path, size or time of a file or what is checked changes.

    Returns:
        Warnings, which are also issued through `warnings.warn`.

    Raises:
        CaseError: of the first bad case in the given order, after all were read; also, whether enabled or not, when there is no case.
    """
    if not cases:
        raise CaseError("cases", "there are none", "name some in the datalist, or choose another --section")
    bare = next((case for case in cases if labels is not None and not case.get("label")), None)
    if bare is not None:
        raise CaseError(
            case_name(bare), f"image {bare['image']} has no label", "name it in the datalist or leave the case out"
        )
    if not enabled:
        return []
    from custom_networks.ranks import on_first_rank

    def check() -> list[str]:
        return _check_new(cases, labels, inside, mask_keys, workers, None if cache is None else Path(cache))

    found = on_first_rank(check)
    for sentence in found:
        warnings.warn(sentence, stacklevel=2)
    return found


def _check_new(
    cases: Sequence[Mapping[str, Any]],
    labels: Sequence[int] | None,
    inside: tuple[int, int] | None,
    mask_keys: Sequence[str],
    workers: int,
    cache: Path | None,
) -> list[str]:
    """`check_case` for those cases that are not in the cache, which is written even if some are bad."""
    from tqdm import tqdm

    def check(case: Mapping[str, Any]) -> list[str] | CaseError:
        try:
            return check_case(case, labels, inside, mask_keys=mask_keys)
        except CaseError as error:
            return error

    how = f"{labels and list(labels)} {inside}"
    keys = [_files_key(case, ("image", "label", *mask_keys), how) for case in cases]
    known = _read_checked(cache)
    fresh = {key: case for key, case in zip(keys, cases, strict=True) if key not in known}
    results: dict[str, list[str] | CaseError] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        done = pool.map(check, fresh.values())
        # a bar for what takes long
        bar = tqdm(done, total=len(fresh), desc="check", unit="case", delay=5, disable=None)
        results.update(zip(fresh, bar, strict=True))
    good = {key: result for key, result in results.items() if not isinstance(result, CaseError)}
    if cache is not None and good:
        _write_checked(cache, known | good)
    bad = [result for result in results.values() if isinstance(result, CaseError)]
    if bad:
        more = f" ({len(bad) - 1} more of {len(cases)} cases are bad too)" if len(bad) > 1 else ""
        raise CaseError(bad[0].case, bad[0].problem, bad[0].remedy + more)
    return [sentence for key in keys for sentence in (known | good)[key]]


def _files_key(case: Mapping[str, Any], file_keys: Sequence[str], how: str) -> str:
    """Changes when one of the case's files or what is checked does."""
    parts = [case_name(case), how]
    for key in file_keys:
        if case.get(key):
            try:
                stat = os.stat(case[key])
                parts.append(f"{key} {Path(case[key]).resolve()} {stat.st_size} {stat.st_mtime_ns}")
            except (OSError, ValueError):
                parts.append(f"{key} {case[key]} is missing")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read_checked(cache: Path | None) -> dict[str, list[str]]:
    try:
        return {} if cache is None else dict(json.loads(cache.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _write_checked(cache: Path, content: Mapping[str, Any]) -> None:
    unfinished = cache.with_name(f"{cache.name}.{os.getpid()}.tmp")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(content), encoding="utf-8")
        os.replace(unfinished, cache)
    except OSError as error:
        # a full or write-protected disk: the cases are good all the same
        warnings.warn(f"{cache} cannot be written ({error}): the cases will be checked again.", stacklevel=2)


def check_ranks(ranks: int, **parts: Sequence[Mapping[str, Any]]) -> None:
    """Refuse more processes than there are cases to share among them.

    Args:
        ranks: processes of the run.
        parts: cases by what they are for, such as `training` and `validation`.

    Raises:
        CaseError: a part has fewer cases than there are processes.
    """
    for name, cases in parts.items():
        if len(cases) < ranks:
            raise CaseError(
                f"{name} cases",
                f"{len(cases)} cannot be shared among {ranks} processes",
                "start fewer with --nproc_per_node",
            )
