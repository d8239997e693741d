"""Predictions against labels on the native grid: the rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from custom_networks import CaseError
from custom_networks.metrics import surface_metrics
from scripts.core.classes import Classes
from scripts.core.datalist import Case
from scripts.core.predictions import read_pair, region
from scripts.core.reading import each_case, one_sentence

COLUMNS = (
    "case",
    "patient",
    "class",
    "dsc",
    "nsd",
    "hd95_mm",
    "asd_mm",
    "label_ml",
    "pred_ml",
    "volume_error_ml",
    "volume_error_percent",
    "missed",
    "false_positive",
    "outcome",
)


def measure_case(
    case: Case, folder: Path, classes: Classes, known: Sequence[int] = (), tolerance: float = 2.0
) -> list[dict[str, Any]]:
    """Measure every class of one case.

    Args:
        case: with a label.
        folder: of the predictions.
        classes: name -> label values.
        known: label values that may occur; empty accepts any.
        tolerance: of NSD, in mm.

    Returns:
        One row per class with the keys of `COLUMNS`. `outcome` is `found`, `missed`, `false positive`, `absent` (in truth
        and prediction) or `no prediction` (no file; counts as a miss of every class in the label). DSC and NSD are 0 for
        the second, third and fifth, distances are NaN there; all are NaN for `absent`. Volume errors are predicted minus
        true volume, in ml and in percent of the true one (NaN where that is 0).

    Raises:
        CaseError: see `read_pair`.
    """
    label, pred, affine = read_pair(case, folder, known)
    spacing = nib.affines.voxel_sizes(affine)
    voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) / 1000
    rows = []
    for name, values in classes.items():
        truth = region(label, values)
        guess = region(pred, values) if pred is not None else np.zeros_like(truth)
        box = _bounding_box(truth | guess)
        found = surface_metrics(guess[box], truth[box], spacing, tolerance)
        label_ml, pred_ml = (int(mask.sum()) * voxel_ml for mask in (truth, guess))
        absent = not label_ml and not pred_ml
        rows.append(
            {
                "case": case.name,
                "patient": case.patient,
                "class": name,
                "dsc": found["dsc"],
                "nsd": found["nsd"],
                "hd95_mm": found["hd95"],
                "asd_mm": found["asd"],
                "label_ml": label_ml,
                "pred_ml": pred_ml,
                "volume_error_ml": math.nan if absent else pred_ml - label_ml,
                "volume_error_percent": 100 * (pred_ml / label_ml - 1) if label_ml else math.nan,
                "missed": int(found["missed"]),
                "false_positive": int(found["false_positive"]),
                "outcome": _outcome(found, pred is not None),
            }
        )
    return rows


def _outcome(found: Mapping[str, float], predicted: bool) -> str:
    if found["missed"]:
        return "missed" if predicted else "no prediction"
    if found["false_positive"]:
        return "false positive"
    return "absent" if math.isnan(found["dsc"]) else "found"


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Slices around the foreground; outside the array counts as background, so cropping moves no surface."""
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 1))
    return tuple(box)


def measure(
    cases: Sequence[Case],
    folder: Path,
    classes: Classes,
    known: Sequence[int] = (),
    tolerance: float = 2.0,
    workers: int = 2,
) -> tuple[pd.DataFrame, list[CaseError]]:
    """Measure all cases that can be, with a progress bar.

    Args:
        cases: with labels.
        folder: of the predictions.
        classes: name -> label values.
        known: label values that may occur; empty accepts any.
        tolerance: of NSD, in mm.
        workers: cases at a time.

    Returns:
        A table with the columns `COLUMNS` in the order of the cases, and why cases could not be measured.

    Raises:
        CaseError: not one case could be measured; the first one's reason.
    """

    def work(case: Case) -> list[dict[str, Any]]:
        with one_sentence(case.name, "label or prediction"):
            return measure_case(case, folder, classes, known, tolerance)

    measured, failed = each_case(work, cases, folder.name, workers)
    if not measured:
        raise failed[0]
    return pd.DataFrame([row for rows in measured for row in rows], columns=list(COLUMNS)), failed
