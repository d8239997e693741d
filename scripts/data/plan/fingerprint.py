"""Fingerprint of a data set: spacings, shapes, intensities in the foreground, class frequencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from custom_networks import CaseError
from scripts.core.datalist import Case
from scripts.core.reading import each_case
from scripts.core.statistics import ImageStatistics, KnownStatistics, LabelStatistics, pooled_intensity


def fingerprint(
    cases: Sequence[Case], labels: Mapping[int, str], modality: str, known: KnownStatistics, workers: int = 2
) -> tuple[dict[str, Any], list[CaseError]]:
    """Measure the training cases of a data set; the held-out ones stay unseen.

    Args:
        cases: of a datalist, at least one.
        labels: label value to name, 0 included.
        modality: of `CT` padding counts as air in the intensities.
        known: what was measured before; cases that it lacks are read.
        workers: cases read at once.

    Returns:
        `cases` (each with shape, spacing in mm along L, P, S, and voxels per label value), `spacing` and `shape`
        (minimum, 10th percentile, median, maximum per axis), `intensity` (at most 10,000 voxels of each case's
        foreground, or of the whole of an unlabelled image) and `classes` (in how many cases, share of voxels); and
        what is wrong with the cases that are left out.

    Raises:
        CaseError: no case can be used.
    """
    foreground = {value: name for value, name in labels.items() if value}

    def read(case: Case) -> tuple[str, ImageStatistics, LabelStatistics | None]:
        image = known.image(case.image, case.label, case.name, modality)
        return case.name, image, None if case.label is None else known.label(case.label, case.name)

    found, errors = each_case(read, cases, "fingerprint", workers)
    known.save()
    if not found:
        raise errors[0]
    total = sum(int(np.prod(image.shape)) for _, image, label in found if label is not None)
    counts = {value: [label.voxels.get(value, 0) for _, _, label in found if label is not None] for value in foreground}
    return {
        "orientation": "LPS",
        "number_of_cases": len(found),
        "spacing": _spread([image.spacing for _, image, _ in found]),
        "shape": _spread([image.shape for _, image, _ in found]),
        "intensity": pooled_intensity([image for _, image, _ in found]),
        "classes": {
            name: {
                "value": value,
                "cases": sum(count > 0 for count in counts[value]),
                "share_of_voxels": sum(counts[value]) / max(1, total),
            }
            for value, name in foreground.items()
        },
        "cases": [
            {
                "case": name,
                "shape": list(image.shape),
                "spacing": list(image.spacing),
                "voxels": {} if label is None else {str(value): label.voxels.get(value, 0) for value in foreground},
            }
            for name, image, label in found
        ],
    }, errors


def _spread(values: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    table = np.asarray(values, dtype=np.float64)
    named = {"minimum": 0, "percentile_10": 10, "median": 50, "maximum": 100}
    return {name: [round(float(v), 5) for v in np.percentile(table, q, axis=0)] for name, q in named.items()}
