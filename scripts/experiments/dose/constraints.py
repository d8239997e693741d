"""Constraints on dose, each with its source, and whether a treatment meets them: passed, missed or not computable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_networks import CaseError
from custom_networks.data.datalist import read_json
from scripts.experiments.dose.measures import Measure, Result, eqd2, parse_measures

SHIPPED = Path(__file__).with_name("embrace2.json")
QUANTITIES = {"EQD2": "of the whole treatment", "dose": "of a case, in Gy"}
SIGNS = {"least": ">=", "most": "<="}
FIELDS = {"structures", "measure", "quantity", "alpha_beta", "at", "aim", "limit", "source"}


@dataclass(frozen=True)
class Constraint:
    """One line of a file of constraints.

    Args:
        structures: names of the structure, in any case.
        measure: what is constrained.
        quantity: `EQD2` of the whole treatment, or `dose` of a case.
        alpha_beta: in Gy; None for `dose`.
        at: `least` or `most`.
        aim: what is aimed at, in Gy (% for `V100`); None where there is only a limit.
        limit: what is to be kept; None where there is only an aim.
        source: where it is published.
    """

    structures: tuple[str, ...]
    measure: Measure
    quantity: str
    alpha_beta: float | None
    at: str
    aim: float | None
    limit: float | None
    source: str

    def about(self, structure: str) -> bool:
        """Whether it is about a structure of this name."""
        return structure.casefold() in {name.casefold() for name in self.structures}

    def verdict(self, value: Result, bound: float | None) -> str:
        """Whether a value meets the aim or limit: `passed`, `missed`, `not computable`; empty where there is none."""
        if bound is None:
            return ""
        if isinstance(value, str):
            return "not computable"
        return "passed" if (value >= bound if self.at == "least" else value <= bound) else "missed"


def read_constraints(file: str | Path | None = None) -> list[Constraint]:
    """Read constraints.

    Args:
        file: JSON list of objects with the fields of `Constraint`; default the shipped EMBRACE II.

    Raises:
        CaseError: the file is missing or no such list, or a line is incomplete, unknown or without its source.
    """
    path = SHIPPED if file is None else Path(str(file))
    where, remedy = f"constraints {path}", f"write it like {SHIPPED}"
    entries = read_json(path, where, remedy)
    if not isinstance(entries, list) or not entries:
        raise CaseError(where, "it is no list of constraints", remedy)
    return [_line(entry, f"{where} line {number}", remedy) for number, entry in enumerate(entries, 1)]


def _line(entry: Any, where: str, remedy: str) -> Constraint:
    if not isinstance(entry, dict) or set(entry) - FIELDS:
        unknown = ", ".join(sorted(set(entry) - FIELDS)) if isinstance(entry, dict) else "no fields"
        raise CaseError(where, f"it is no constraint ({unknown})", remedy)
    if not str(entry.get("source") or "").strip():
        raise CaseError(where, "it names no source", "say where it is published")
    try:
        (measure,) = parse_measures([str(entry["measure"])])
        structures = entry["structures"]
        found = Constraint(
            tuple(map(str, [structures] if isinstance(structures, str) else structures)),
            measure,
            str(entry.get("quantity", "EQD2")),
            _number(entry.get("alpha_beta")),
            str(entry["at"]),
            _number(entry.get("aim")),
            _number(entry.get("limit")),
            str(entry["source"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CaseError(where, f"it is not complete ({error})", remedy) from error
    problem = None
    if found.quantity not in QUANTITIES:
        problem = f"its quantity {found.quantity!r} is none of {', '.join(QUANTITIES)}"
    elif found.at not in SIGNS:
        problem = f"its 'at' {found.at!r} is neither least nor most"
    elif found.aim is None and found.limit is None:
        problem = "it has neither aim nor limit"
    elif found.quantity == "EQD2" and not measure.is_dose:
        problem = f"{measure.name} has no EQD2"
    elif found.quantity == "EQD2" and found.alpha_beta is None:
        problem = "it has no alpha_beta"
    if problem:
        raise CaseError(where, problem, remedy)
    return found


def _number(value: Any) -> float | None:
    """A number above 0, or None where there is none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{value!r} is no number above 0")
    return float(value)


def alpha_beta_of(structure: str, constraints: Sequence[Constraint]) -> float | None:
    """The alpha/beta of a structure in Gy, where its constraints agree on one."""
    found = {line.alpha_beta for line in constraints if line.about(structure) and line.alpha_beta is not None}
    return found.pop() if len(found) == 1 else None


@dataclass(frozen=True)
class Course:
    """What a patient is treated with besides the doses that are there.

    Args:
        external_dose: Gy of the external beam; 0 without one, None where it is not said.
        external_fractions: its number of fractions.
        fractions: of brachytherapy in all; None where it is not said.
    """

    external_dose: float | None = None
    external_fractions: int | None = None
    fractions: int | None = None

    def total(self, values: Sequence[Result], fractions: Sequence[int | None], alpha_beta: float) -> Result:
        """EQD2 of the whole treatment in Gy, as GEC-ESTRO adds it: measure by measure, at their worst places.

        Args:
            values: physical dose of each case of the patient, all its fractions together, or why there is none.
            fractions: of each case.
            alpha_beta: in Gy.
        """
        missing = next((value for value in values if isinstance(value, str)), None)
        if missing is not None:
            return missing
        known = [count for count in fractions if count is not None]
        if len(known) < len(fractions):
            return "its number of fractions is not known"
        if self.external_dose is None:
            return "the external beam's dose is not given"
        if self.fractions is None:
            return "the number of fractions of brachytherapy in all is not given"
        if sum(known) != self.fractions:
            return f"there are doses of {sum(known)} of {self.fractions} fractions"
        doses = [value for value in values if isinstance(value, float)]
        external = eqd2(self.external_dose, self.external_fractions or 1, alpha_beta)
        return external + sum(eqd2(dose, count, alpha_beta) for dose, count in zip(doses, known, strict=True))
