"""Fingerprint of a data set: spacings, shapes, intensities in the foreground, class frequencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from scripts.core.datalist import Case
from scripts.core.reading import read

# voxels per case that enter the intensity statistics; nnU-Net's number
SAMPLES = 10_000


def measure_case(case: Case, labels: Sequence[int], seed: int = 0) -> dict[str, Any]:
    """Measure one case after reorientation to LPS.

    Args:
        case: of a datalist.
        labels: foreground label values.
        seed: of the choice of voxels.

    Returns:
        `case`, `shape` (voxels), `spacing` (mm), both along L, P, S, `voxels` per label value, and `samples`: at most
        10,000 intensities from the foreground, or from the whole image of an unlabelled case.

    Raises:
        CaseError: a file that cannot be read.
    """
    import nibabel as nib

    image, affine = read(case.image, case.name)
    # the axis of the stored array that runs along L, along P, along S
    order = np.argsort(nib.orientations.io_orientation(affine)[:, 0])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    voxels: dict[str, int] = {}
    foreground = np.ones(image.shape, bool)
    if case.label is not None:
        label, _ = read(case.label, case.name, "label")
        values, counts = np.unique(label, return_counts=True)
        found = {int(v): int(n) for v, n in zip(values, counts, strict=True)}
        voxels = {str(value): found.get(value, 0) for value in labels}
        if label.shape == image.shape and (label > 0).any():
            foreground = label > 0
    inside = image[foreground].astype(np.float64)
    inside = inside[np.isfinite(inside)]
    if len(inside) > SAMPLES:
        inside = np.random.default_rng(seed).choice(inside, SAMPLES, replace=False)
    return {
        "case": case.name,
        "shape": [int(image.shape[i]) for i in order],
        "spacing": [round(float(spacing[i]), 5) for i in order],
        "voxels": voxels,
        "samples": inside,
    }


def fingerprint(cases: Sequence[Case], labels: Mapping[int, str], workers: int = 2, seed: int = 0) -> dict[str, Any]:
    """Measure the training cases of a data set; the held-out ones stay unseen.

    Args:
        cases: of a datalist.
        labels: label value to name, 0 included.
        workers: cases measured at once.
        seed: of the choice of voxels.

    Returns:
        `cases` (each with shape and spacing along L, P, S), `spacing` and `shape` (minimum, 10th percentile, median,
        maximum per axis), `intensity` (of all foreground samples) and `classes` (in how many cases, share of voxels).

    Raises:
        CaseError: a file that cannot be read.
    """
    from tqdm import tqdm

    foreground = [value for value in labels if value]
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        measured = list(
            tqdm(
                pool.map(lambda case: measure_case(case, foreground, seed), cases),
                total=len(cases),
                desc="fingerprint",
                unit="case",
                disable=None,
            )
        )
    samples = np.concatenate([one.pop("samples") for one in measured])
    total = sum(int(np.prod(one["shape"])) for one in measured if one["voxels"])
    classes = {
        name: {
            "value": value,
            "cases": sum(one["voxels"].get(str(value), 0) > 0 for one in measured),
            "share_of_voxels": sum(one["voxels"].get(str(value), 0) for one in measured) / max(1, total),
        }
        for value, name in labels.items()
        if value
    }
    low, median, high = (float(v) for v in np.percentile(samples, (0.5, 50, 99.5))) if len(samples) else (0.0,) * 3
    return {
        "orientation": "LPS",
        "number_of_cases": len(measured),
        "spacing": _spread([one["spacing"] for one in measured]),
        "shape": _spread([one["shape"] for one in measured]),
        "intensity": {
            "where": "label > 0" if foreground and total else "whole image",
            "mean": float(samples.mean()),
            "standard_deviation": float(samples.std()),
            "percentile_0.5": low,
            "median": median,
            "percentile_99.5": high,
        },
        "classes": classes,
        "cases": measured,
    }


def _spread(values: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    table = np.asarray(values, dtype=np.float64)
    named = {"minimum": 0, "percentile_10": 10, "median": 50, "maximum": 100}
    return {name: [round(float(v), 5) for v in np.percentile(table, q, axis=0)] for name, q in named.items()}
