"""The cases of a patient in the order of her fractions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from custom_networks import CaseError
from scripts.core.datalist import Case


@dataclass(frozen=True)
class Fraction:
    """One case of a patient and which time point of her treatment it is, from 1."""

    number: int
    case: Case


def series_of(cases: Sequence[Case]) -> tuple[dict[str, list[Fraction]], list[CaseError]]:
    """Put cases in order.

    Args:
        cases: each with its patient; those without `fraction` are left out.

    Returns:
        Patient -> her fractions, ascending; and what is wrong with cases that cannot be placed.
    """
    found: dict[str, list[Fraction]] = {}
    problems: list[CaseError] = []
    for case in cases:
        number = case.more.get("fraction")
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            problem = f"its fraction is {number!r}"
            problems.append(CaseError(case.name, problem, "give a whole number above 0, or leave it out"))
        else:
            found.setdefault(case.patient, []).append(Fraction(number, case))
    for patient, fractions in found.items():
        counts = Counter(one.number for one in fractions)
        problems += [
            CaseError(
                one.case.name, f"another case of patient {patient} is fraction {one.number} too", "number them anew"
            )
            for one in fractions
            if counts[one.number] > 1
        ]
        # which of two is right, nobody can tell
        fractions[:] = sorted((one for one in fractions if counts[one.number] == 1), key=lambda one: one.number)
    return {patient: fractions for patient, fractions in found.items() if fractions}, problems
