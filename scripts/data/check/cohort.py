"""What `check` finds out by comparing cases: names and images twice, patients in two places, cases unlike the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from scripts.data.check.case import CheckedCase


def check_cohort(cases: Sequence[CheckedCase]) -> None:
    """Compare the cases with each other and note findings: duplicates, leaks, outliers.

    Args:
        cases: all cases of the datalist; findings are added to them.
    """
    _check_names(cases)
    _check_duplicates(cases)
    _check_patients(cases)
    _check_outliers(cases)


def _grouped(cases: Sequence[CheckedCase], key: str) -> list[list[CheckedCase]]:
    groups: dict[str, list[CheckedCase]] = defaultdict(list)
    for case in cases:
        if getattr(case, key):
            groups[getattr(case, key)].append(case)
    return [group for group in groups.values() if len(group) > 1]


def _check_names(cases: Sequence[CheckedCase]) -> None:
    for group in _grouped(cases, "case"):
        for case in group:
            case.add("error", "name used twice", f"{len(group)} cases are called {case.case}; give each its own name")


def _check_duplicates(cases: Sequence[CheckedCase]) -> None:
    for group in _grouped(cases, "digest"):
        leak = len({case.place for case in group}) > 1 or len({case.patient for case in group}) > 1
        for case in group:
            others = ", ".join(f"{other.case} (patient {other.patient})" for other in group if other is not case)
            case.add(
                "error" if leak else "warning",
                "duplicate image",
                f"its image has the same voxels as {others}; keep one of them",
            )


def _check_patients(cases: Sequence[CheckedCase]) -> None:
    for group in _grouped(cases, "patient"):
        places = sorted({case.place for case in group})
        if len(places) > 1:
            names = " and ".join(place or "no fold" for place in places)
            for case in group:
                case.add(
                    "error",
                    "patient in two folds",
                    f"patient {case.patient} is in {names}; write folds with `python -m scripts split --reset`",
                )


def _check_outliers(cases: Sequence[CheckedCase], factor: float = 2.0) -> None:
    """Spacing or field of view more than `factor` times, or less than 1 / `factor` of, the median of the cases."""
    measured = [case for case in cases if case.spacing is not None]
    if len(measured) < 3:
        return
    for name, attribute in (("spacing", "spacing"), ("field of view", "field_of_view")):
        values = np.array([getattr(case, attribute) for case in measured], dtype=np.float64)
        median = np.median(values, axis=0)
        for case, value in zip(measured, values, strict=True):
            odd = [i for i in range(3) if not median[i] / factor <= value[i] <= median[i] * factor]
            if odd:
                axes = ", ".join(
                    f"{value[i]:.3g} mm {('left-right', 'front-back', 'head-foot')[i]} (median {median[i]:.3g})"
                    for i in odd
                )
                case.add(
                    "warning",
                    f"unusual {name}",
                    f"its {name} is unlike the others': {axes}; check that it is the same kind of series",
                )
