"""Dose-volume measures by name, and EQD2. What cannot be computed is a sentence, never a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from custom_networks import CaseError
from scripts.experiments.dose.dvh import Histogram

DEFAULT = ("D98", "D90", "D2cm3", "D1cm3", "D0.1cm3", "mean", "V100")
NAME = re.compile(r"(?P<kind>[DV])(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<cm3>cm3)?")
# a number, or why there is none
Result = float | str


@dataclass(frozen=True)
class Measure:
    """One dose-volume measure.

    Args:
        name: `D90` (least dose in the most exposed 90 % of the volume), `D2cm3` (in the most exposed 2 cm3), `mean`, or
            `V100` (percentage of the volume that has the prescribed dose).
        kind: `share`, `volume`, `mean` or `reached`.
        number: percentage or cm3; 0 for the mean.
    """

    name: str
    kind: str
    number: float = 0.0

    @property
    def unit(self) -> str:
        """`Gy` or `%`."""
        return "%" if self.kind == "reached" else "Gy"

    @property
    def is_dose(self) -> bool:
        """Whether it is a dose that some volume has at least, so that it has an EQD2."""
        return self.kind in {"share", "volume"}

    def of(self, found: Histogram | None, prescription: float | None = None) -> Result:
        """Its value.

        Args:
            found: the structure's histogram; None where the structure is empty.
            prescription: Gy, for `V100`.

        Returns:
            Gy or %, or why there is no number.
        """
        if found is None:
            return "the structure is empty"
        if found.outside:
            return f"{_percent(found.outside)} of the structure lies outside the dose grid"
        if self.kind == "volume" and found.volume < self.number * (1 - 1e-6):
            return f"the structure has {found.volume:.3g} cm3, less than {self.number:g} cm3"
        if self.kind == "reached" and prescription is None:
            return "no prescribed dose is given"
        return self._number(found, prescription or 0.0)

    def _number(self, found: Histogram, prescription: float) -> float:
        if self.kind == "reached":
            return 100 * found.volume_at(prescription * self.number / 100) / found.volume
        if self.kind == "mean":
            return found.mean
        return found.dose_at(self.number if self.kind == "volume" else found.volume * self.number / 100)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1 %"


def parse_measures(names: Sequence[str]) -> list[Measure]:
    """Measures by their names.

    Args:
        names: such as `D90`, `D2cm3`, `mean`, `V100`.

    Raises:
        CaseError: there is no such measure.
    """
    found = []
    for name in names:
        matched = NAME.fullmatch(name)
        number = float(matched["number"]) if matched else 0.0
        if name == "mean":
            found.append(Measure(name, "mean"))
        elif matched and matched["cm3"] and matched["kind"] == "D" and number > 0:
            found.append(Measure(name, "volume", number))
        elif matched and not matched["cm3"] and matched["kind"] == "D" and 0 < number <= 100:
            found.append(Measure(name, "share", number))
        elif matched and not matched["cm3"] and matched["kind"] == "V" and number > 0:
            found.append(Measure(name, "reached", number))
        else:
            raise CaseError(f"measure {name!r}", "there is none of this name", "write D90, D2cm3, mean or V100")
    return found


def as_functions(measures: Sequence[Measure], prescription: float | None) -> list[Callable[[Histogram], float | None]]:
    """Measures as `histogram` takes them."""
    return [partial(_number, measure, prescription) for measure in measures]


def _number(measure: Measure, prescription: float | None, found: Histogram) -> float | None:
    value = measure.of(found, prescription)
    return None if isinstance(value, str) else value


def eqd2(dose: float, fractions: int, alpha_beta: float) -> float:
    """The dose in fractions of 2 Gy that has the same effect in the linear-quadratic model.

    Args:
        dose: physical dose in Gy of all fractions together.
        fractions: number of equal fractions that it is given in.
        alpha_beta: of the tissue in Gy.

    Returns:
        D (d + alpha/beta) / (2 + alpha/beta) in Gy, d = D / fractions.
    """
    return dose * (dose / fractions + alpha_beta) / (2 + alpha_beta)
