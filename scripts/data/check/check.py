"""`check`: may these cases be trained on? A table, a CSV and a contact sheet."""

from __future__ import annotations

from pathlib import Path

from scripts.core.datalist import Datalist, Patients
from scripts.core.reading import each_case
from scripts.core.statistics import KnownStatistics
from scripts.core.tables import text_table, write_csv
from scripts.data.check.case import examine, row
from scripts.data.check.cohort import check_cohort
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
    tumour apart from the organ, spacing or field of view unlike the other cases', the same image twice, CT not in HU,
    padding values.

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
    path = Path(str(datalist))
    content = Datalist.read(path, patients=patients)
    labels, modality = content.labels, content.modality
    held_out = {id(case) for case in content.testing}
    known = KnownStatistics(path.parent)
    cases, _ = each_case(
        lambda case: examine(case, "testing" if id(case) in held_out else "training", labels, modality, known),
        content.cases,
        "check",
        workers,
    )
    known.save()
    check_cohort(cases)
    folder = Path(output) if output else path.parent / "check"
    names = list(dict.fromkeys(name for case in cases for name in case.volumes))
    for case in cases:
        case.volumes = {name: case.volumes.get(name, 0.0) for name in names}
    rows = [row(case) for case in cases]
    files = [write_csv(folder / "check.csv", rows)]
    counts = [sum(case.severity == kind for case in cases) for kind in ("error", "warning", "")]
    verdict = counts[0] == 0 and not (strict and counts[1])
    title = f"{content.name or path.stem}: {len(cases)} cases, {counts[0]} with errors, {counts[1]} with warnings"
    if sheet:
        files += contact_sheet(cases, labels, folder / "contact_sheet.png", title)
    brief = [key for key in rows[0] if key not in {"findings", *(f"{name} ml" for name in names[6:])}]
    print(text_table(rows, brief))
    for case in cases:
        for finding in case.findings:
            print(f"{finding.severity}: {case.case}: {finding.sentence}.")
    print(f"\n{title}. {'Training may start.' if verdict else 'Training may not start.'}")
    print("written: " + ", ".join(map(str, files)))
    return 0 if verdict else 1
