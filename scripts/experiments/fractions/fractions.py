"""`python -m scripts fractions`: contours and dose of one patient over her fractions, a page per patient."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from custom_networks import CaseError
from scripts.core.datalist import Datalist, distinct_names, safe_name
from scripts.core.tables import write_csv
from scripts.experiments.dose.constraints import read_constraints
from scripts.experiments.dose.dose import course_of, wanted_of
from scripts.experiments.fractions.contours import Jump
from scripts.experiments.fractions.follow import follow
from scripts.experiments.fractions.page import write_patient
from scripts.experiments.fractions.series import series_of

DEFAULT = ("D90", "D2cm3")


def fractions(
    datalist: str,
    output: str,
    predictions: str | None = None,
    section: Literal["training", "testing"] = "testing",
    classes: Mapping[str, Any] | Sequence[str] | None = None,
    least_dsc: float = 0.5,
    most_volume_change: float = 50.0,
    measures: Sequence[str] | None = None,
    prescription: float | None = None,
    constraints: str | None = None,
    fractions: int | None = None,
    external_dose: float | None = None,
    external_fractions: int | None = None,
) -> int:
    """Volumes, agreement with the contour before, dose and accumulated EQD2 of every fraction; docs/fractions.md.

    Writes to `output`: PATIENT.html for each patient, contours.csv, dose.csv and pictures/*.png.

    Args:
        datalist: JSON with the labels' names and cases that have `fraction` and `label`, perhaps `dose` and `fractions`.
        output: folder to write to.
        predictions: folder of automatic contours, as `evaluate` takes it, in place of the labels.
        section: `testing` or `training`.
        classes: as `evaluate` takes them.
        least_dsc: a DSC to the contour before below this is flagged.
        most_volume_change: in %; a greater change of volume against the contour before is flagged.
        measures: such as D90,D2cm3 (the default), mean.
        prescription: prescribed dose in Gy, for V100.
        constraints: JSON of constraints, for each structure's alpha/beta, in place of the shipped EMBRACE II.
        fractions: that each case's dose is given in, where the case does not say.
        external_dose: Gy of the external beam, 0 without one; without it nothing is accumulated.
        external_fractions: its number of fractions.

    Returns:
        0; 1 if a case could not be used (after everything else was written).

    Raises:
        CaseError: the datalist or an option cannot be used, or not one case can be.
    """
    content = Datalist.read(datalist)
    jump, course = Jump(least_dsc, most_volume_change), course_of(external_dose, external_fractions)
    lines = read_constraints(constraints)
    wanted = wanted_of(content, lines, predictions, classes, measures or DEFAULT, prescription, fractions)
    cases = content.section(section)
    distinct_names(cases, f"datalist {datalist}")
    series, problems = series_of(cases)
    unnumbered = sum(case.more.get("fraction") is None for case in cases)
    if unnumbered == len(cases):
        raise CaseError(
            f"datalist {datalist}",
            f"no case of its section '{section}' has a fraction",
            'give cases of one patient "fraction": 1, 2, ..., or choose another --section',
        )
    target = Path(output)
    with tqdm(total=sum(map(len, series.values())), desc="fractions", unit="case", disable=None) as bar:
        found = [
            follow(patient, part, wanted, jump, course, content.modality, target / "pictures", bar.update)
            for patient, part in series.items()
        ]
    problems += [error for one in found for error in one.failed]
    found = [one for one in found if one.fractions]
    if not found:
        raise CaseError(f"datalist {datalist}", f"no case can be used ({problems[0]})", "correct its files")
    remove_earlier(target, [picture for one in found for _, picture in one.pictures])
    for one in found:
        write_patient(target / f"{safe_name(one.patient)}.html", one, jump)
    write_csv(target / "contours.csv", [row for one in found for row in one.contours])
    write_csv(target / "dose.csv", [row for one in found for row in one.doses])
    if unnumbered:
        print(f"{unnumbered} of {len(cases)} cases have no fraction and are left out.")
    for sentence in (f"{one.patient}: {said}" for one in found for said in one.jumps):
        print(sentence)
    for error in problems:
        print(f"not used: {error}")
    print(f"{target}: {len(found)} patients, a page each; contours.csv, dose.csv, pictures/")
    return int(bool(problems))


def remove_earlier(folder: Path, new: Collection[Path]) -> None:
    """Remove the pages and pictures of an earlier run into `folder`: those that its contours.csv names, no other file.

    Args:
        folder: of both runs.
        new: pictures of this run, which stay.
    """
    table = folder / "contours.csv"
    if not table.is_file():
        return
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        page = folder / f"{safe_name(row.get('patient') or '_')}.html"
        picture = folder / "pictures" / f"{safe_name(row.get('case') or '_')}.png"
        for file in {page, picture}.difference(new):
            file.unlink(missing_ok=True)
