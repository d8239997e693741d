"""Dose in the report of an evaluation: what the predictions change, constraints, and the cases with the largest change."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from custom_networks import CaseError
from scripts.core.datalist import Case, Datalist, safe_name
from scripts.core.page.page import Section, embedded
from scripts.core.reading import each_case
from scripts.core.tables import shown
from scripts.experiments.dose.case import Measured, measure_case
from scripts.experiments.dose.constraints import Course, read_constraints
from scripts.experiments.dose.dose import NOTE, check_constraints, summarise, wanted_of, with_dose, write_tables
from scripts.experiments.dose.plots import plot_dvh

TEMPLATE = Path(__file__).with_name("dose.html")
# histograms in the page; the others are files
PICTURES = 3


def dose_section(
    content: Datalist, cases: Sequence[Case], classes: Any, predictions: str, folder: Path, workers: int
) -> tuple[list[Section], list[CaseError]]:
    """Measure the dose of labels and predictions as `python -m scripts dose` does, with its shipped constraints.

    Args:
        content: the datalist.
        cases: with labels; those without a dose are left out.
        classes: as `evaluate` takes them.
        predictions: folder of predicted label maps.
        folder: of the evaluation; the tables and pictures go to its `dose/`.
        workers: cases measured at a time.

    Returns:
        The section, and cases that could not be measured; no section where all could not.

    Raises:
        CaseError: no case has a dose.
    """
    lines = read_constraints()
    wanted = wanted_of(content, lines, predictions, classes)
    measured, failed = each_case(
        partial(measure_case, wanted=wanted), with_dose(cases, content.name, "evaluated"), "dose", workers
    )
    if not measured:
        return [], failed
    rows = write_tables(folder / "dose", measured, wanted, lines, Course())
    held = check_constraints(measured, lines, Course(), wanted)
    pictures: list[tuple[str, str]] = []
    for one in sorted(measured, key=partial(_largest, rows), reverse=True):
        file = folder / "dose/dvh" / f"{safe_name(one.case.name)}.png"
        if plot_dvh(one, file) and len(pictures) < PICTURES:
            pictures.append((f"{one.case.name}: largest change of a dose {_largest(rows, one):.1f} %", embedded(file)))
    values = {
        "rows": [{key: shown(value) for key, value in row.items()} for row in summarise(rows)],
        "said": NOTE,
        "held": [{key: shown(value) for key, value in row.items() if key != "source"} for row in held],
        "sources": "; ".join(dict.fromkeys(str(row["source"]) for row in held)),
        "pictures": pictures,
    }
    return [Section("Dose", TEMPLATE, values)], failed


def _largest(rows: Sequence[dict[str, Any]], one: Measured) -> float:
    """The largest change of a dose of a case, in per cent of the manual contour's."""
    mine = [row for row in rows if row["case"] == one.case.name and row["unit"] == "Gy"]
    return max((abs(row["change_percent"]) for row in mine if row["change_percent"] is not None), default=0.0)
