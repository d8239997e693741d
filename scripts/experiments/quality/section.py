"""The cases of an evaluation in the order in which their signs say to look at them, and how right that was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom_networks import CaseError
from scripts.core.datalist import Case, Datalist
from scripts.core.page.page import Section
from scripts.core.predictions import MadeBy, find_prediction, made_by
from scripts.experiments.quality.file import Quality, read_quality
from scripts.experiments.quality.measure import Measured, measure_signs
from scripts.experiments.quality.model import reliability
from scripts.experiments.quality.order import look_first
from scripts.experiments.quality.signs import Signs, against

TEMPLATE = Path(__file__).with_name("look_first.html")


@dataclass(frozen=True)
class LookFirst:
    """What a fitted model says of predictions.

    Args:
        rows: cases, the first to be looked at first: heading to text, with the true DSC.
        held: how right the number was, a row per structure.
        notes: what to know about it.
        problems: cases that it could not be told for.
    """

    rows: Sequence[dict[str, str]]
    held: Sequence[dict[str, str]]
    notes: Sequence[str]
    problems: Sequence[CaseError]

    def section(self) -> Section:
        """Part of a page."""
        return Section("Look here first", TEMPLATE, {"rows": self.rows, "held": self.held, "notes": self.notes})


def check_quality(file: str, folder: Path) -> Quality:
    """Read quality.json for the predictions in a folder.

    Raises:
        CaseError: it is none, or was fitted for other weights or for another number of networks.
    """
    quality, made, where = read_quality(file), made_by(folder), f"quality {file}"
    if made.weights:
        quality.bound(made.weights, where)
    if made.networks != quality.networks:
        problem = f"it was fitted on predictions of {_networks(quality.networks)}, not of {_networks(made.networks)}"
        raise CaseError(where, problem, "fit it on predictions made as these")
    return quality


def apply_quality(
    quality: Quality, datalist: Datalist, section: str, cases: Sequence[Case], folder: Path, workers: int
) -> LookFirst:
    """Order cases by what their signs say.

    Args:
        quality: from `check_quality`.
        datalist: of the cases.
        section: of the datalist.
        cases: with labels; those without a prediction are left out.
        folder: of the predictions.
        workers: cases read at once.
    """
    made = made_by(folder)
    there = [case for case in cases if find_prediction(folder, case) is not None]
    measured, failed = measure_signs(there, folder, quality.classes, quality.modality, made, workers)
    signs = {one.case.name: against(one.signs, one.where, quality.usual) for one in measured}
    dsc = {one.case.name: one.dsc for one in measured}
    rows = []
    for one in look_first({name: [of] for name, of in signs.items()}, quality):
        true = dsc[one.case][one.structure]
        rows.append(one.row() | {"DSC": "-" if math.isnan(true) else f"{true:.3f}"})
    return LookFirst(rows, _held(quality, measured, signs), _notes(quality, datalist, section, made), failed)


def _held(quality: Quality, measured: Sequence[Measured], signs: dict[str, list[Signs]]) -> list[dict[str, str]]:
    held = []
    for index, name in enumerate(quality.classes):
        model = quality.models.get(name)
        rows = [
            (signs[one.case.name][index], one) for one in measured if model and not signs[one.case.name][index].empty
        ]
        known = [(quality.probability(sign), one.dsc[name], one.case.patient) for sign, one in rows]
        known = [row for row in known if not math.isnan(row[0])]
        if model is None or not known:
            continue
        probability, dsc = (np.array([row[i] for row in known], dtype=float) for i in (0, 1))
        bad = dsc < model.threshold
        line = {"structure": name, "DSC below": f"{model.threshold:.3f}", "cases": f"{bad.sum()} of {len(known)}"}
        if 0 < bad.sum() < len(bad):
            patients = np.unique(np.array([row[2] for row in known], dtype=str), return_inverse=True)[1]
            line |= reliability(probability, bad, dsc, patients).row()
        else:
            line |= dict.fromkeys(("AUROC", "Brier", "calibration error", "Spearman"), "-")
        held.append(line)
    return held


def _notes(quality: Quality, datalist: Datalist, section: str, made: MadeBy) -> list[str]:
    notes = [f"{name} has no number: {text}" for name, text in quality.without.items()]
    if (quality.datalist, quality.section) == (datalist.digest(), section):
        notes.append(
            "The number was fitted on these very cases, which flatters it here; what it is worth on others is in the "
            "output of the verb quality."
        )
    if not made.weights:
        notes.append("Which weights predicted is not known, so whether the number is theirs could not be checked.")
    return notes


def _networks(count: int) -> str:
    return "one network" if count == 1 else f"the mean of {count} networks"
