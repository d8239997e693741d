"""Dose of one case's structures: the manual contour, the automatic one, and the change between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks import CaseError
from scripts.core.classes import Classes
from scripts.core.datalist import Case
from scripts.core.predictions import read_pair, region
from scripts.core.reading import read
from scripts.experiments.dose.dvh import DoseGrid, Histogram, histogram
from scripts.experiments.dose.measures import Measure, Result, as_functions, eqd2

CONTOURS = ("manual", "automatic")
NO_PREDICTION = "there is no prediction"


@dataclass(frozen=True)
class Wanted:
    """What is measured of every case.

    Args:
        classes: name of a structure -> label values.
        known: label values that may occur; empty accepts any.
        measures: dose-volume measures.
        alpha_beta: structure -> Gy; a structure that is not there has no EQD2.
        prescription: Gy, for `V100`.
        fractions: that each dose is given in, where the datalist does not say.
        predictions: folder of automatic contours; None measures the manual ones alone.
    """

    classes: Classes
    known: Sequence[int]
    measures: Sequence[Measure]
    alpha_beta: dict[str, float]
    prescription: float | None = None
    fractions: int | None = None
    predictions: Path | None = None


@dataclass(frozen=True)
class Structure:
    """One structure of one case.

    Attributes:
        histograms: contour -> histogram; None where it is empty or there is no prediction.
        values: contour -> measure -> Gy or %, or why there is no number.
        dsc: between both contours; None without a prediction or where both are empty.
    """

    name: str
    histograms: dict[str, Histogram | None]
    values: dict[str, dict[str, Result]]
    dsc: float | None = None


@dataclass(frozen=True)
class Measured:
    """One case."""

    case: Case
    fractions: int | None
    structures: list[Structure] = field(default_factory=list)
    predicted: bool = False


def measure_case(case: Case, wanted: Wanted) -> Measured:
    """Measure the structures of a case.

    Args:
        case: with `label` and `dose`, perhaps `fractions`.
        wanted: what is measured.

    Raises:
        CaseError: a file is unreadable, the dose is no dose, or a prediction does not fit.
    """
    fractions = fractions_of(case, wanted.fractions)
    grid = read_dose(case)
    label, affine = read(str(case.label), case.name, "label")
    pred = None
    if wanted.predictions is not None:
        label, pred, affine = read_pair(case, wanted.predictions, wanted.known)
    found = Measured(case, fractions, predicted=pred is not None)
    functions = as_functions(wanted.measures, wanted.prescription)
    for name, labels in wanted.classes.items():
        masks = {"manual": region(label, labels)}
        if pred is not None:
            masks["automatic"] = region(pred, labels)
        histograms: dict[str, Histogram | None] = {}
        values: dict[str, dict[str, Result]] = {}
        for contour in CONTOURS if wanted.predictions is not None else CONTOURS[:1]:
            mask = masks.get(contour)
            one = histogram(mask, affine, grid, functions) if mask is not None and mask.any() else None
            histograms[contour] = one
            values[contour] = {
                measure.name: NO_PREDICTION if mask is None else measure.of(one, wanted.prescription)
                for measure in wanted.measures
            }
        found.structures.append(Structure(name, histograms, values, _dsc(masks)))
    return found


def _dsc(masks: dict[str, np.ndarray]) -> float | None:
    if "automatic" not in masks:
        return None
    sizes = sum(int(np.count_nonzero(mask)) for mask in masks.values())
    return 2 * int(np.count_nonzero(masks["manual"] & masks["automatic"])) / sizes if sizes else None


def fractions_of(case: Case, given: int | None) -> int | None:
    """How many fractions a case's dose is given in: its own `fractions`, else the given number, else None.

    Raises:
        CaseError: it is no whole number above 0.
    """
    value = case.more.get("fractions", given)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise CaseError(case.name, f"its fractions are {value!r}", "give a whole number above 0, or leave it out")
    return value


def read_dose(case: Case) -> DoseGrid:
    """Read a case's dose in Gy.

    Raises:
        CaseError: it is missing or unreadable, negative, not finite, or zero everywhere.
    """
    path = case.file("dose")
    if path is None:
        raise CaseError(case.name, "it has no dose", 'give it a "dose" file in Gy')
    array, affine = read(path, case.name, "image")
    if not np.isfinite(array).all() or array.min() < 0 or array.max() <= 0:
        raise CaseError(
            case.name, f"dose {path} is negative, not finite or zero everywhere", "give physical dose in Gy"
        )
    return DoseGrid(array, affine)


def rows_of(found: Measured, wanted: Wanted) -> list[dict[str, Any]]:
    """The case's lines of the table, one for each structure and measure."""
    rows = []
    for one in found.structures:
        ratio = wanted.alpha_beta.get(one.name)
        for measure in wanted.measures:
            values = {contour: one.values.get(contour, {}).get(measure.name) for contour in CONTOURS}
            numbers = {contour: value if isinstance(value, float) else None for contour, value in values.items()}
            effects: dict[str, float | None] = dict.fromkeys(CONTOURS)
            if measure.is_dose and ratio is not None and found.fractions is not None:
                effects = {
                    contour: None if value is None else eqd2(value, found.fractions, ratio)
                    for contour, value in numbers.items()
                }
            change = _minus(numbers)
            reached = [h.accuracy for h in one.histograms.values() if h is not None and h.accuracy is not None]
            rows.append(
                {
                    "case": found.case.name,
                    "patient": found.case.patient,
                    "structure": one.name,
                    "measure": measure.name,
                    "unit": measure.unit,
                    **numbers,
                    "change": change,
                    "change_percent": 100 * change / numbers["manual"]
                    if change is not None and numbers["manual"]
                    else None,
                    "fractions": found.fractions,
                    "alpha_beta": ratio if measure.is_dose else None,
                    **{f"eqd2_{contour}": effects[contour] for contour in CONTOURS},
                    "eqd2_change": _minus(effects),
                    "dsc": one.dsc,
                    "accuracy_percent": 100 * max(reached) if reached else None,
                    "remark": _remark(values),
                }
            )
    return rows


def _minus(values: dict[str, float | None]) -> float | None:
    manual, automatic = (values[contour] for contour in CONTOURS)
    return None if manual is None or automatic is None else automatic - manual


def _remark(values: dict[str, Result | None]) -> str:
    said = {contour: value for contour, value in values.items() if isinstance(value, str)}
    if len(set(said.values())) == 1 and len(said) == 2:
        return next(iter(said.values()))
    return "; ".join(f"{contour}: {value}" for contour, value in said.items())
