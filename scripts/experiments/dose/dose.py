"""`python -m scripts dose`: what an automatic contour changes in the dose of targets and organs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from custom_networks import CaseError
from scripts.core.classes import read_classes
from scripts.core.datalist import Case, Datalist, Patients, distinct_names, safe_name
from scripts.core.files import write_text
from scripts.core.reading import each_case
from scripts.core.tables import shown, text_table, write_csv
from scripts.experiments.dose.case import CONTOURS, NO_PREDICTION, Measured, Wanted, measure_case, rows_of
from scripts.experiments.dose.constraints import SIGNS, Constraint, Course, alpha_beta_of, read_constraints
from scripts.experiments.dose.measures import DEFAULT, Result, parse_measures
from scripts.experiments.dose.plots import plot_dvh

NOTE = (
    "Change: automatic minus manual contour in the same dose, mean, standard deviation and largest over patients (the mean of "
    "a patient's cases). Cases without a number for both contours are not in it. Research only, for no treatment."
)


def dose(
    datalist: str,
    output: str,
    predictions: str | None = None,
    section: Literal["training", "testing"] = "testing",
    classes: Mapping[str, Any] | Sequence[str] | None = None,
    measures: Sequence[str] | None = None,
    prescription: float | None = None,
    constraints: str | None = None,
    fractions: int | None = None,
    external_dose: float | None = None,
    external_fractions: int | None = None,
    course_fractions: int | None = None,
    workers: int = 2,
    patients: Patients = "named",
) -> int:
    """Dose-volume measures of labels and predictions, the change between them, and constraints; docs/dose.md.

    Writes to `output`: dose.csv (a row per case, structure and measure), summary.csv, dose.md, constraints.csv and dvh/*.png.

    Args:
        datalist: JSON with the labels' names and cases that have `label` and `dose` (in Gy), perhaps `fractions`.
        output: folder to write to.
        predictions: folder of automatic contours, as `evaluate` takes it; without it, labels alone are measured.
        section: `testing` or `training` (out-of-fold predictions).
        classes: as `evaluate` takes them.
        measures: such as D95,D2cm3,mean,V100; default D98,D90,D2cm3,D1cm3,D0.1cm3,mean,V100.
        prescription: prescribed dose in Gy, for V100.
        constraints: JSON of constraints in place of the shipped EMBRACE II.
        fractions: that each dose is given in, where a case does not say.
        external_dose: Gy of the external beam, 0 without one; for EQD2 of the whole treatment.
        external_fractions: its number of fractions.
        course_fractions: fractions of brachytherapy in all; those of a patient's cases must add up to it.
        workers: cases measured at a time.
        patients: `each` takes a case without a patient for a patient of its own, instead of refusing it.

    Returns:
        0; 1 if a case could not be measured or a prediction is missing (after everything else was written).

    Raises:
        CaseError: the datalist, a file or an option cannot be used, or not one case can be measured.
    """
    content = Datalist.read(datalist, patients=patients)
    lines, course = read_constraints(constraints), course_of(external_dose, external_fractions, course_fractions)
    wanted = wanted_of(content, lines, predictions, classes, measures, prescription, fractions)
    cases = with_dose(content.section(section), datalist, section)
    measured, failed = each_case(partial(measure_case, wanted=wanted), cases, "dose", workers)
    problems = [f"not measured: {error}" for error in failed]
    if not measured:
        raise CaseError(f"datalist {datalist}", f"no case can be measured ({failed[0]})", "correct its files")
    if predictions is not None:
        problems += [f"{one.case.name}: {NO_PREDICTION}" for one in measured if not one.predicted]
    target = Path(output)
    rows = write_tables(target, measured, wanted, lines, course)
    for one in measured:
        plot_dvh(one, target / "dvh" / f"{safe_name(one.case.name)}.png", prescription)
    print(f"\n{text_table(summarise(rows), left=2)}\n\n{NOTE}")
    for problem in problems:
        print(problem)
    print(f"{target}: dose.csv, summary.csv, dose.md, constraints.csv, dvh/")
    return int(bool(problems))


def course_of(dose: float | None, fractions: int | None, course: int | None = None) -> Course:
    """What a patient is treated with besides the doses that are there.

    Args:
        dose: Gy of the external beam, 0 without one.
        fractions: its number of fractions.
        course: fractions of brachytherapy in all.

    Raises:
        CaseError: a number is negative or 0, or the external beam's fractions are missing.
    """
    if (dose is not None and dose < 0) or any(count is not None and count < 1 for count in (fractions, course)):
        raise CaseError("external beam and course", "a number is negative or 0", "give Gy and numbers of fractions")
    if dose and fractions is None:
        raise CaseError("--external_dose", "its number of fractions is missing", "give --external_fractions as well")
    return Course(dose, fractions, course)


def wanted_of(
    content: Datalist,
    constraints: Sequence[Constraint],
    predictions: str | None,
    classes: Mapping[str, Any] | Sequence[str] | None = None,
    measures: Sequence[str] | None = None,
    prescription: float | None = None,
    fractions: int | None = None,
) -> Wanted:
    """What is measured of every case; the constraints' alpha/beta are their structures'.

    Raises:
        CaseError: an option cannot be used.
    """
    for name, value in (("prescription", prescription), ("fractions", fractions)):
        if value is not None and not 0 < value < float("inf"):
            raise CaseError(f"--{name}", f"{value!r} is not above 0", "correct it or leave it out")
    folder = None if predictions is None else Path(predictions)
    if folder is not None and not folder.is_dir():
        raise CaseError("--predictions", f"folder {folder} does not exist", "name the folder of the label maps")
    structures = read_classes(content, classes)
    ratios = {name: alpha_beta_of(name, constraints) for name in structures}
    return Wanted(
        structures,
        sorted(content.labels),
        parse_measures(measures or DEFAULT),
        {name: value for name, value in ratios.items() if value is not None},
        prescription,
        fractions,
        folder,
    )


def with_dose(cases: Sequence[Case], datalist: str, section: str) -> list[Case]:
    """Cases that have a label and a dose; the number of the others is printed.

    Raises:
        CaseError: there is none, or two have one name.
    """
    found = [case for case in cases if case.label and case.file("dose")]
    if not found:
        raise CaseError(
            f"datalist {datalist}",
            f"its section '{section}' has no case with a label and a dose",
            'give cases a "dose" file in Gy, or choose another --section',
        )
    distinct_names(found, f"datalist {datalist}")
    if len(found) < len(cases):
        print(f"{len(cases) - len(found)} of {len(cases)} cases have no label or no dose and are left out.")
    return found


def write_tables(
    folder: Path, measured: Sequence[Measured], wanted: Wanted, lines: Sequence[Constraint], course: Course
) -> list[dict[str, Any]]:
    """Write dose.csv, summary.csv, dose.md and constraints.csv; returns the rows of dose.csv."""
    rows = [row for one in measured for row in rows_of(one, wanted)]
    held = check_constraints(measured, lines, course, wanted)
    write_csv(folder / "dose.csv", rows)
    write_csv(folder / "summary.csv", summarise(rows))
    write_csv(folder / "constraints.csv", held)
    parts = [_markdown(summarise(rows)), NOTE]
    if held:
        parts.append(_markdown([{k: v for k, v in row.items() if k != "source"} for row in held]))
        parts.append("Sources: " + "; ".join(dict.fromkeys(str(row["source"]) for row in held)))
    write_text(folder / "dose.md", "\n\n".join(parts) + "\n")
    return rows


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The change over patients, one line for each structure and measure."""
    found = []
    for structure, measure in dict.fromkeys((row["structure"], row["measure"]) for row in rows):
        mine = [row for row in rows if (row["structure"], row["measure"]) == (structure, measure)]
        by_patient: dict[str, list[Mapping[str, Any]]] = {}
        for row in mine:
            if row["manual"] is not None and row["automatic"] is not None:
                by_patient.setdefault(row["patient"], []).append(row)
        changes = [statistics.fmean(row["change"] for row in part) for part in by_patient.values()]
        manual = [row["manual"] for row in mine if row["manual"] is not None]
        found.append(
            {
                "structure": structure,
                "measure": measure,
                "unit": mine[0]["unit"],
                "cases": len(mine),
                "without number": len(mine) - len(manual),
                "manual, median": statistics.median(manual) if manual else None,
                "patients compared": len(changes),
                "change, mean": statistics.fmean(changes) if changes else None,
                "change, SD": statistics.stdev(changes) if len(changes) > 1 else None,
                "change, largest": max(changes, key=abs) if changes else None,
            }
        )
    return found


def check_constraints(
    measured: Sequence[Measured], lines: Sequence[Constraint], course: Course, wanted: Wanted
) -> list[dict[str, Any]]:
    """Whether the contours of every patient, or of every case for physical dose, meet their constraints.

    Returns:
        A row for each patient (case), structure and line of the constraints that is about it.
    """
    rows = []
    for line in lines:
        groups: dict[str, list[Measured]] = {}
        for one in measured:
            groups.setdefault(one.case.patient if line.quantity == "EQD2" else one.case.name, []).append(one)
        for who, group in groups.items():
            for structure in filter(line.about, wanted.classes):
                values = {
                    contour: _value(group, structure, contour, line, course, wanted)
                    for contour in CONTOURS
                    if contour == "manual" or wanted.predictions is not None
                }
                rows.append(_verdicts(who, structure, line, values))
    return sorted(rows, key=lambda row: str(row["patient or case"]))


def _value(
    group: Sequence[Measured], structure: str, contour: str, line: Constraint, course: Course, wanted: Wanted
) -> Result:
    name = line.measure.name
    found: list[Result] = []
    for one in group:
        mine = next(part for part in one.structures if part.name == structure)
        # a constraint may be on what the table does not show
        value = mine.values[contour].get(name)
        if value is None:
            value = line.measure.of(mine.histograms[contour], wanted.prescription)
        found.append(value)
    if line.alpha_beta is None or line.quantity == "dose":
        return found[0]
    return course.total(found, [one.fractions for one in group], line.alpha_beta)


def _verdicts(who: str, structure: str, line: Constraint, values: Mapping[str, Result]) -> dict[str, Any]:
    said = {contour: value for contour, value in values.items() if isinstance(value, str)}
    row: dict[str, Any] = {
        "patient or case": who,
        "structure": structure,
        "constraint": f"{line.measure.name} {SIGNS[line.at]}",
        "quantity": line.quantity,
        "aim": line.aim,
        "limit": line.limit,
    }
    for contour in CONTOURS:
        value = values.get(contour)
        row[contour] = value if isinstance(value, float) else None
        for what, bound in (("aim", line.aim), ("limit", line.limit)):
            row[f"{contour}, {what}"] = line.verdict(value, bound) if value is not None else ""
    remark = "; ".join(dict.fromkeys(said.values()))
    return {**row, "remark": remark, "source": line.source}


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    return shown(value).replace("|", r"\|").replace("\n", " ")
