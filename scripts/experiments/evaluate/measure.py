"""Predictions against labels on the native grid: which files belong together, which classes, and the rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from tqdm import tqdm

from custom_networks import CaseError, case_name, read_volume, safe_name
from custom_networks.datalist import image_stem
from custom_networks.metrics import surface_metrics
from scripts.core.datalist import Datalist

# name of a class -> the label values it consists of
Classes = dict[str, list[int]]

COLUMNS = (
    "case",
    "patient",
    "class",
    "dsc",
    "hd95_mm",
    "asd_mm",
    "label_ml",
    "pred_ml",
    "missed",
    "false_positive",
    "outcome",
)


def read_classes(datalist: str | Path, wanted: Any = None) -> tuple[Classes, list[int]]:
    """Decide what is compared: the datalist's `regions`, else the organ rule, else one class per label value.

    The organ rule (paper's organ contours contain the tumour): labels named organ and tumor, and no others, mean organ =
    {organ, tumor} and tumor = {tumor}.

    Args:
        datalist: the JSON file, already known to be readable.
        wanted: None; names of classes (list or comma-separated); or a mapping from name to label values, which replaces
            the datalist's classes.

    Returns:
        The classes, and the label values a file may hold (0 included; empty where the datalist names none).

    Raises:
        CaseError: no class can be told, or a wanted one is unknown or empty.
    """
    name = f"datalist {datalist}"
    content = Datalist.read(datalist, patients=None)
    labels = content.labels
    if isinstance(wanted, Mapping):
        return _regions(wanted, "--classes"), sorted(labels)
    if content.more.get("regions"):
        classes = _regions(content.more["regions"], name)
    else:
        classes = {text: [value] for value, text in sorted(labels.items()) if value != 0}
        if set(classes) == {"organ", "tumor"}:
            classes["organ"] = sorted(classes["organ"] + classes["tumor"])
    if wanted is not None:
        names = [w.strip() for w in wanted.split(",")] if isinstance(wanted, str) else [str(w) for w in wanted]
        unknown = [w for w in names if w not in classes]
        if unknown:
            known = ", ".join(classes) or "none"
            raise CaseError("--classes", f"{unknown[0]!r} is no class of {name} ({known})", "name one of those")
        classes = {w: classes[w] for w in names}
    if not classes:
        raise CaseError(name, "it names no labels", """add "labels" to it or pass --classes '{"organ": [1]}'""")
    return classes, sorted(labels)


def _regions(regions: Any, where: str) -> Classes:
    try:
        classes = {
            str(name): [int(v) for v in (values if isinstance(values, Sequence) else [values])]
            for name, values in regions.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise CaseError(
            where, f"its classes cannot be read ({error})", 'write {"organ": [1, 2], "tumor": [2]}'
        ) from error
    empty = [name for name, values in classes.items() if not values or 0 in values]
    if empty or not classes:
        raise CaseError(
            where, f"class {empty[0] if empty else '(none)'} has no label value, or 0", "name values above 0"
        )
    return classes


def find_prediction(folder: Path, case: Mapping[str, Any]) -> Path | None:
    """Find a case's prediction: by case name, or as MONAI's `SaveImaged` names it after the image."""
    for name in dict.fromkeys((safe_name(case_name(case)), image_stem(case["image"]))):
        for candidate in (name, f"{name}_pred", f"{name}/{name}_pred", f"{name}/{name}"):
            for suffix in (".nii.gz", ".nii"):
                path = folder / f"{candidate}{suffix}"
                if path.is_file():
                    return path
    return None


def same_grid(a: tuple[Sequence[int], np.ndarray], b: tuple[Sequence[int], np.ndarray]) -> str | None:
    """Compare two grids, (shape, affine) each; the corners may be a tenth of a voxel apart.

    Returns:
        What differs, or None.
    """
    if tuple(a[0]) != tuple(b[0]):
        return f"has shape {tuple(b[0])}, the label {tuple(a[0])}"
    corners = np.array([[*(s * i for s, i in zip(a[0], index, strict=True)), 1] for index in np.ndindex(2, 2, 2)]).T
    shift = float(np.linalg.norm(((a[1] - b[1]) @ corners)[:3], axis=0).max())
    if shift > 0.1 * float(nib.affines.voxel_sizes(a[1]).min()):
        return f"lies on another grid than the label (apart by up to {shift:.1f} mm)"
    return None


def check_grids(cases: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Compare the headers of all labels and predictions, so that a wrong folder is told before hours of measuring.

    Raises:
        CaseError: of the first prediction on another grid than its label.
    """
    for case in cases:
        path = find_prediction(folder, case)
        if path is None:
            continue
        try:
            headers: list[Any] = [nib.load(file) for file in (case["label"], path)]
        except Exception:
            # whatever is wrong with the file is named when it is read
            continue
        grids = [(h.shape, np.asarray(h.affine)) for h in headers]
        _refuse_grid(case, path, grids[0], grids[1])


def _refuse_grid(case: Mapping[str, Any], path: Path, label: Any, pred: Any) -> None:
    # a 4-D file is named by read_volume
    if len(label[0]) == len(pred[0]) == 3:
        problem = same_grid(label, pred)
        if problem:
            raise CaseError(
                case_name(case), f"prediction {path} {problem}", "save it on the input's own grid (Invertd)"
            )


def region(labels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Where a label map holds one of the values (bool, same shape)."""
    mask = labels == values[0]
    for value in values[1:]:
        mask |= labels == value
    return mask


def _whole(values: np.ndarray, case: str, file: Any, what: str, known: Sequence[int]) -> np.ndarray:
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and np.array_equal(values, np.round(values))):
            raise CaseError(
                case, f"{what} {file} holds values that are not whole numbers", "save the label map (argmax)"
            )
        values = values.astype(np.int32)
    low, high = int(values.min()), int(values.max())
    unknown: list[int] = []
    if known and high - low < 2**20:
        # counting is much faster than the sorting of np.unique
        counts = np.bincount(values.ravel().astype(np.int64) - low)
        unknown = sorted({low + int(i) for i in np.flatnonzero(counts)} - {0, *known})
    elif known:
        unknown = [low, high]
    if unknown:
        raise CaseError(case, f"{what} {file} holds unknown label values {unknown[:5]}", "name them in the datalist")
    return values


def read_pair(
    case: Mapping[str, Any], folder: Path, known: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Read the label map and the prediction of one case.

    Args:
        case: datalist entry with `label`.
        folder: of the predictions.
        known: label values that may occur; empty accepts any.

    Returns:
        Label (X, Y, Z), prediction on the same grid or None where there is no file, and the affine in mm.

    Raises:
        CaseError: a file is unreadable, holds unknown or fractional values, or the grids differ.
    """
    name = case_name(case)
    label, affine = read_volume(case["label"], name, "label")
    truth = _whole(label, name, case["label"], "label", known)
    path = find_prediction(folder, case)
    if path is None:
        return truth, None, affine
    voxels, pred_affine = read_volume(path, name, "prediction")
    _refuse_grid(case, path, (label.shape, affine), (voxels.shape, pred_affine))
    return truth, _whole(voxels, name, path, "prediction", known), affine


def measure_case(
    case: Mapping[str, Any], folder: Path, classes: Classes, known: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """Measure every class of one case.

    Returns:
        One row per class with the keys of `COLUMNS`. `outcome` is `found`, `missed`, `false positive`, `absent` (in truth
        and prediction) or `no prediction` (no file; counts as a miss of every class in the label). DSC is 0 for the second,
        third and fifth, distances are NaN there; all are NaN for `absent`.
    """
    label, pred, affine = read_pair(case, folder, known)
    spacing = nib.affines.voxel_sizes(affine)
    voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) / 1000
    rows = []
    for name, values in classes.items():
        truth = region(label, values)
        guess = region(pred, values) if pred is not None else np.zeros_like(truth)
        box = _bounding_box(truth | guess)
        found = surface_metrics(guess[box], truth[box], spacing)
        outcome = (
            "absent"
            if np.isnan(found["dsc"])
            else "missed"
            if found["missed"]
            else "false positive"
            if found["false_positive"]
            else "found"
        )
        if pred is None and found["missed"]:
            outcome = "no prediction"
        rows.append(
            {
                "case": case_name(case),
                "patient": case["patient"],
                "class": name,
                "dsc": found["dsc"],
                "hd95_mm": found["hd95"],
                "asd_mm": found["asd"],
                "label_ml": int(truth.sum()) * voxel_ml,
                "pred_ml": int(guess.sum()) * voxel_ml,
                "missed": int(found["missed"]),
                "false_positive": int(found["false_positive"]),
                "outcome": outcome,
            }
        )
    return rows


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Slices around the foreground; outside the array counts as background, so cropping moves no surface."""
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 1))
    return tuple(box)


def measure(
    cases: Sequence[Mapping[str, Any]], folder: Path, classes: Classes, known: Sequence[int] = (), workers: int = 2
) -> pd.DataFrame:
    """Measure all cases, with a progress bar; the table has the columns `COLUMNS` in the order of the cases."""
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        results = pool.map(lambda case: measure_case(case, folder, classes, known), cases)
        rows = [row for rows in tqdm(results, total=len(cases), desc=folder.name, unit="case") for row in rows]
    return pd.DataFrame(rows, columns=list(COLUMNS))
