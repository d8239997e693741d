"""`check`: may these cases be trained on? A table, a CSV and a contact sheet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from scripts.core.datalist import Datalist, Patients
from scripts.core.tables import text_table, write_csv
from scripts.data.check.case import CaseReport, report_case, row
from scripts.data.check.sheet import contact_sheet


def check(
    datalist: str,
    output: str | None = None,
    strict: bool = False,
    sheet: bool = True,
    workers: int = 2,
    patients: Patients = "named",
) -> int:
    """Check every case of a datalist, the PocketNet paper's inclusion criteria among the rest.

    Errors: unreadable, not 3-D, not finite, constant, label on another grid, unknown or empty label, the same image
    twice in different places, a patient in two folds. Warnings: missing label, structure at the border (cut off),
    tumour apart from the organ, spacing or field of view unlike the other cases', the same image twice, CT not in HU.

    Args:
        datalist: the datalist.
        output: folder for `check.csv` and `contact_sheet.png`; default `check` beside the datalist.
        strict: warnings forbid training too.
        sheet: draw the contact sheet.
        workers: cases looked at at once.
        patients: `each` takes a case without a patient for a patient of its own, instead of refusing it.

    Returns:
        0: training may start. 1: it may not.

    Raises:
        CaseError: the datalist itself cannot be read.
    """
    from tqdm import tqdm

    path = Path(str(datalist))
    content = Datalist.read(path, patients=patients)
    jobs = [(case, "training") for case in content.training] + [(case, "testing") for case in content.testing]
    labels, modality = content.labels, content.modality
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        reports = list(
            tqdm(
                pool.map(lambda job: report_case(job[0], job[1], labels, modality), jobs),
                total=len(jobs),
                desc="check",
                unit="case",
                disable=None,
            )
        )
    check_cohort(reports)
    folder = Path(output) if output else path.parent / "check"
    names = list(dict.fromkeys(name for report in reports for name in report.volumes))
    for report in reports:
        report.volumes = {name: report.volumes.get(name, 0.0) for name in names}
    rows = [row(report) for report in reports]
    files = [write_csv(folder / "check.csv", rows)]
    counts = [sum(report.severity == kind for report in reports) for kind in ("error", "warning", "")]
    verdict = counts[0] == 0 and not (strict and counts[1])
    title = f"{content.name or path.stem}: {len(reports)} cases, {counts[0]} with errors, {counts[1]} with warnings"
    if sheet:
        files += contact_sheet(reports, labels, folder / "contact_sheet.png", title)
    brief = [key for key in rows[0] if key not in {"findings", *(f"{name} ml" for name in names[6:])}]
    print(text_table(rows, brief))
    for report in reports:
        for finding in report.findings:
            print(f"{finding.severity}: {report.case}: {finding.sentence}.")
    print(f"\n{title}. {'Training may start.' if verdict else 'Training may not start.'}")
    print("written: " + ", ".join(map(str, files)))
    return 0 if verdict else 1


def check_cohort(reports: Sequence[CaseReport]) -> None:
    """Compare the cases with each other and note findings: duplicates, leaks, outliers.

    Args:
        reports: all cases of the datalist; findings are added to them.
    """
    _check_names(reports)
    _check_duplicates(reports)
    _check_patients(reports)
    _check_outliers(reports)


def _grouped(reports: Sequence[CaseReport], key: str) -> list[list[CaseReport]]:
    groups: dict[str, list[CaseReport]] = defaultdict(list)
    for report in reports:
        if getattr(report, key):
            groups[getattr(report, key)].append(report)
    return [group for group in groups.values() if len(group) > 1]


def _check_names(reports: Sequence[CaseReport]) -> None:
    for group in _grouped(reports, "case"):
        for report in group:
            report.add(
                "error", "name used twice", f"{len(group)} cases are called {report.case}; give each its own name"
            )


def _check_duplicates(reports: Sequence[CaseReport]) -> None:
    for group in _grouped(reports, "digest"):
        leak = len({report.place for report in group}) > 1 or len({report.patient for report in group}) > 1
        for report in group:
            others = ", ".join(f"{r.case} (patient {r.patient})" for r in group if r is not report)
            report.add(
                "error" if leak else "warning",
                "duplicate image",
                f"its image has the same voxels as {others}; keep one of them",
            )


def _check_patients(reports: Sequence[CaseReport]) -> None:
    for group in _grouped(reports, "patient"):
        places = sorted({report.place for report in group})
        if len(places) > 1:
            names = " and ".join(place or "no fold" for place in places)
            for report in group:
                report.add(
                    "error",
                    "patient in two folds",
                    f"patient {report.patient} is in {names}; write folds with `python -m scripts split --reset`",
                )


def _check_outliers(reports: Sequence[CaseReport], factor: float = 2.0) -> None:
    """Spacing or field of view more than `factor` times, or less than 1 / `factor` of, the median of the cases."""
    measured = [report for report in reports if report.spacing is not None]
    if len(measured) < 3:
        return
    for name, attribute in (("spacing", "spacing"), ("field of view", "field_of_view")):
        values = np.array([getattr(report, attribute) for report in measured], dtype=np.float64)
        median = np.median(values, axis=0)
        for report, value in zip(measured, values, strict=True):
            odd = [i for i in range(3) if not median[i] / factor <= value[i] <= median[i] * factor]
            if odd:
                axes = ", ".join(
                    f"{value[i]:.3g} mm {('left-right', 'front-back', 'head-foot')[i]} (median {median[i]:.3g})"
                    for i in odd
                )
                report.add(
                    "warning",
                    f"unusual {name}",
                    f"its {name} is unlike the others': {axes}; check that it is the same kind of series",
                )
