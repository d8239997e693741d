"""Dose of a fraction's structures, and EQD2 added up from fraction to fraction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from scripts.core.predictions import region
from scripts.experiments.dose.case import Wanted, fractions_of, read_dose
from scripts.experiments.dose.constraints import Course
from scripts.experiments.dose.dvh import histogram
from scripts.experiments.dose.measures import Result, as_functions, eqd2
from scripts.experiments.fractions.contours import Contoured
from scripts.experiments.fractions.series import Fraction

NO_DOSE = "it has no dose"


@dataclass(frozen=True)
class Dosed:
    """Dose of one fraction.

    Attributes:
        count: how many fractions its dose is given in; None where nobody said.
        values: (structure, measure) -> Gy or %, or why there is no number.
    """

    count: int | None
    values: Mapping[tuple[str, str], Result]


def measure_dose(now: Contoured, wanted: Wanted) -> Dosed:
    """Measure every structure of a fraction; one without a dose has a sentence in place of every number.

    Raises:
        CaseError: the dose is unreadable or no dose, or its number of fractions is none.
    """
    case = now.fraction.case
    count = fractions_of(case, wanted.fractions)
    names = [(name, measure.name) for name in wanted.classes for measure in wanted.measures]
    if case.file("dose") is None:
        return Dosed(count, dict.fromkeys(names, NO_DOSE))
    grid, functions = read_dose(case), as_functions(wanted.measures, wanted.prescription)
    values: dict[tuple[str, str], Result] = {}
    for name, labels in wanted.classes.items():
        mask = region(now.labels, labels)
        found = histogram(mask, now.affine, grid, functions) if mask.any() else None
        for measure in wanted.measures:
            values[name, measure.name] = measure.of(found, wanted.prescription)
    return Dosed(count, values)


def accumulated(
    doses: Mapping[int, Dosed], number: int, key: tuple[str, str], alpha_beta: float, course: Course
) -> Result:
    """EQD2 of the external beam and of all fractions up to one, in Gy, added measure by measure.

    Args:
        doses: number of the fraction -> its dose, of one patient.
        number: of the last fraction.
        key: structure and measure.
        alpha_beta: in Gy.
        course: the external beam.

    Returns:
        Gy, or why there is no number: nothing is added up over a gap.
    """
    missing = next((earlier for earlier in range(1, number + 1) if earlier not in doses), None)
    if missing is not None:
        return f"fraction {missing}: there is no case that can be used"
    parts = [doses[earlier] for earlier in range(1, number + 1)]
    values = [part.values[key] for part in parts]
    told = [f"fraction {i}: {value}" if isinstance(value, str) else value for i, value in enumerate(values, 1)]
    counts = [part.count for part in parts]
    # up to here, not the whole course
    return replace(course, fractions=sum(count or 0 for count in counts)).total(told, counts, alpha_beta)


def dose_rows(fraction: Fraction, doses: Mapping[int, Dosed], wanted: Wanted, course: Course) -> list[dict[str, Any]]:
    """The fraction's lines of the table, one for each structure and measure."""
    mine, rows = doses[fraction.number], []
    for name in wanted.classes:
        ratio = wanted.alpha_beta.get(name)
        for measure in wanted.measures:
            value = mine.values[name, measure.name]
            effect: float | None = None
            total: Result | None = None
            if measure.is_dose and ratio is not None:
                total = accumulated(doses, fraction.number, (name, measure.name), ratio, course)
                if isinstance(value, float) and mine.count is not None:
                    effect = eqd2(value, mine.count, ratio)
            said = [f"fraction {fraction.number}: {value}"] if isinstance(value, str) else []
            said += [total] if isinstance(total, str) else []
            said += [f"{name} has no alpha/beta"] if measure.is_dose and ratio is None else []
            rows.append(
                {
                    "patient": fraction.case.patient,
                    "fraction": fraction.number,
                    "case": fraction.case.name,
                    "structure": name,
                    "measure": measure.name,
                    "unit": measure.unit,
                    "value": value if isinstance(value, float) else None,
                    "fractions": mine.count,
                    "alpha_beta": ratio if measure.is_dose else None,
                    "eqd2": effect,
                    "accumulated_eqd2": total if isinstance(total, float) else None,
                    "remark": "; ".join(dict.fromkeys(said)),
                }
            )
    return rows
