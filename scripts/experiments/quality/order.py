"""Which contours to look at first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.experiments.quality.file import Quality
from scripts.experiments.quality.signs import Signs

# a structure that this share of the training labels has is expected
EXPECTED = 0.95


@dataclass(frozen=True)
class Look:
    """One contour, and why to look at it.

    Args:
        case: name of the case or scan.
        structure: its name.
        probability: that its DSC is below the threshold; NaN where there is no number.
        missing: not found although nearly every training label has it.
        why: what raises the number, or why there is none.
    """

    case: str
    structure: str
    probability: float
    missing: bool
    why: str

    def row(self) -> dict[str, str]:
        """Heading to text."""
        number = "-" if math.isnan(self.probability) else f"{self.probability:.2f}"
        return {"case": self.case, "structure": self.structure, "probability": number, "why": self.why}


def look_first(cases: Mapping[str, Sequence[Sequence[Signs]]], quality: Quality) -> list[Look]:
    """Order contours: expected structures that were not found, then by probability, then those without a number.

    Args:
        cases: name to the signs of each network's label map; the number is the mean of theirs.
        quality: fitted on as many networks as each entry is the prediction of.

    Returns:
        The worst structure of each case, the first to be looked at first.
    """
    worst = [
        min((look(case, of, quality) for of in zip(*maps, strict=True)), key=_rank) for case, maps in cases.items()
    ]
    return sorted(worst, key=_rank)


def look(case: str, of: Sequence[Signs], quality: Quality) -> Look:
    """One structure of one case.

    Args:
        case: its name.
        of: signs of the structure in each network's label map.
        quality: see `look_first`.
    """
    name = of[0].structure
    empty = [one for one in of if one.empty]
    usual, model = quality.usual.get(name), quality.models.get(name)
    if empty:
        expected = usual is not None and usual.present >= EXPECTED * usual.labels
        shown = f"{usual.present} of {usual.labels}" if usual else "fewer than 5"
        whose = "not found" if len(of) == 1 else f"not found by {len(empty)} of {len(of)} networks"
        return Look(case, name, math.nan, expected, f"{whose}; {shown} training labels have it")
    if model is None:
        return Look(case, name, math.nan, False, quality.without.get(name, "it has no model"))
    numbers = [model.probability(one) for one in of]
    if any(math.isnan(number) for number in numbers):
        return Look(case, name, math.nan, False, "a sign that its model needs is unknown")
    mean = sum(numbers) / len(numbers)
    return Look(case, name, mean, False, model.reason(of[numbers.index(max(numbers))]))


def _rank(one: Look) -> tuple[bool, bool, float, str, str]:
    known = not math.isnan(one.probability)
    return (not one.missing, not known, -one.probability if known else 0.0, one.case, one.structure)
