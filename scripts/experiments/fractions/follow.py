"""One patient from fraction to fraction: what her page shows and the tables hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks import CaseError
from scripts.core.classes import target_class
from scripts.core.datalist import safe_name
from scripts.core.reading import one_sentence
from scripts.experiments.dose.case import Wanted
from scripts.experiments.dose.constraints import Course
from scripts.experiments.evaluate.overlay import displayed, overlay
from scripts.experiments.fractions.contours import (
    Contour,
    Contoured,
    Jump,
    compare,
    contour_rows,
    placed,
    read_contours,
)
from scripts.experiments.fractions.doses import Dosed, dose_rows, measure_dose
from scripts.experiments.fractions.series import Fraction


@dataclass
class Followed:
    """What was found of a patient.

    Attributes:
        patient: her id.
        fractions: those that could be used, ascending.
        contours: rows of contours.csv.
        doses: rows of dose.csv.
        pictures: caption and file of each fraction.
        failed: what is wrong with cases that could not be used.
    """

    patient: str
    fractions: list[Fraction] = field(default_factory=list)
    contours: list[dict[str, Any]] = field(default_factory=list)
    doses: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[tuple[str, Path]] = field(default_factory=list)
    failed: list[CaseError] = field(default_factory=list)

    @property
    def jumps(self) -> list[str]:
        """A sentence for each contour that is not plausible against the one before."""
        return [row["jump"] for row in self.contours if row["jump"]]

    @property
    def dosed(self) -> bool:
        """Whether there is any number of dose."""
        return any(row["value"] is not None for row in self.doses)


def follow(
    patient: str,
    series: Sequence[Fraction],
    wanted: Wanted,
    jump: Jump,
    course: Course,
    modality: str,
    folder: Path,
    done: Callable[[], object] = lambda: None,
) -> Followed:
    """Measure and draw the fractions of a patient.

    Args:
        patient: her id.
        series: her fractions, ascending.
        wanted: structures and measures.
        jump: what is flagged.
        course: the external beam.
        modality: `MR` or `CT`.
        folder: to write pictures to.
        done: called after each fraction.
    """
    found, doses = Followed(patient), dict[int, Dosed]()
    before: Contoured | None = None
    for fraction in series:
        try:
            now = read_contours(fraction, wanted)
            dosed = measure_dose(now, wanted)
            earlier = np.zeros_like(now.labels) if before is None else placed(before, now)
            contours = compare(now, before, earlier, wanted, jump)
            file = folder / f"{safe_name(fraction.case.name)}.png"
            with one_sentence(fraction.case.name, "picture"):
                _draw(now, before, earlier, contours, wanted, modality, file)
        except CaseError as error:
            found.failed.append(error)
        else:
            doses[fraction.number] = dosed
            found.fractions.append(fraction)
            found.contours += contour_rows(fraction, contours, before.fraction if before else None)
            found.pictures.append((f"Fraction {fraction.number}, {fraction.case.name}", file))
            before = now
        done()
    for fraction in found.fractions:
        found.doses += dose_rows(fraction, doses, wanted, course)
    return found


def _draw(
    now: Contoured,
    before: Contoured | None,
    earlier: np.ndarray,
    contours: Sequence[Contour],
    wanted: Wanted,
    modality: str,
    file: Path,
) -> None:
    """Image, this contour, and that of the fraction before with this one dashed over it."""
    number = now.fraction.number
    last = "image, no fraction before" if before is None else f"contour of fraction {before.fraction.number}"
    overlay(
        displayed(now.image, now.labels, earlier, now.affine),
        wanted.classes,
        target_class(wanted.classes),
        modality,
        f"Fraction {number}: {now.fraction.case.name}",
        {one.name: _score(one) for one in contours},
        file,
        (f"image of fraction {number}", f"contour of fraction {number}", last),
    )


def _score(one: Contour) -> str:
    change = "" if one.change is None else f" ({one.change:+.0f} %)"
    return f"{one.volume:.1f} ml{change}" + ("" if one.dsc is None else f", DSC {one.dsc:.2f} to the contour before")
